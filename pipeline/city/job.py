"""The job of one city: all that its product depends on, as values and paths."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pipeline.city.sources import CitySources, find_sources
from regions.campaign import Campaign
from regions.registry import City, find_city
from regions.settings import BATCH_SIZE, GridConfig, PolygonConfig, RefinementConfig

STAGE_NAMES: tuple[str, ...] = ("graph", "scores", "polygons", "refinement", "product")
"""The stages of a city, in order; `pipeline.city.stages` runs them."""


class CityJob(BaseModel):
    """Everything that a city's product depends on, as values and paths; survives a round trip through JSON.

    Attributes:
        adcode: The city.
        sources: Its files.
        crs: CRS of its grid.
        out: Folder of the product.
        work: Folder of the stages' results; kept for resuming.
        checkpoint: Folder of the trained model.
        campaign: Name of the campaign.
        version: Version of the campaign, the release of the product.
        grid: Grid and tiling.
        polygons: Vectorising.
        refinement: Outlines drawn anew from the imagery.
        batch_size: Tiles per batch of the model.
        previous: The city's product of the last release, whose villages keep their ids; not `out`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    adcode: str
    sources: CitySources
    crs: str
    out: Path
    work: Path
    checkpoint: Path
    campaign: str = "local"
    version: str = "0.0.0"
    grid: GridConfig = GridConfig()
    polygons: PolygonConfig = PolygonConfig()
    refinement: RefinementConfig = RefinementConfig()
    batch_size: int = BATCH_SIZE
    previous: Path | None = None

    @property
    def city(self) -> City:
        """The registry's entry."""
        return find_city(self.adcode)


def job_of(campaign: Campaign, city: City) -> CityJob:
    """The job of one city of a campaign.

    Raises:
        MissingSourcesError: the city has no data under the campaign's data root.
    """
    previous = None if campaign.previous_root is None else campaign.previous_root / city.adcode
    return CityJob(
        adcode=city.adcode,
        sources=find_sources(campaign.data_folder(city.adcode), city.adcode),
        crs=city.crs,
        out=campaign.product_folder(city.adcode),
        work=campaign.out_root / ".work" / city.adcode,
        checkpoint=campaign.checkpoint,
        campaign=campaign.name,
        version=campaign.version,
        grid=campaign.grid,
        polygons=campaign.polygons,
        refinement=campaign.refinement,
        batch_size=campaign.batch_size,
        previous=previous if previous is not None and previous.is_dir() else None,
    )
