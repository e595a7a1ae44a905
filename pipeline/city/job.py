"""The job of one city: all that its product depends on, as values and paths."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from pipeline.city.ground import CityGround, ground_of
from regions.campaign import Campaign
from regions.registry import City
from regions.settings import PolygonConfig, RefinementConfig, TextConfig


class CityJob(BaseModel):
    """A map to be made of a ground; survives a round trip through JSON.

    Attributes:
        ground: The city's files and grid.
        checkpoint: Folder of the trained model.
        out: Folder of the product.
        polygons: Vectorising.
        refinement: Outlines drawn anew from the imagery.
        text: Text model of the map's tags.
        adapt: Adapt models that can to the looks of this imagery, without labels.
        batch_size: Tiles per batch of the model; None for what the device holds.
        compiled: Compile the model.
        readers: Threads that read ahead of the model.
        campaign: Name of the campaign.
        version: Version of the campaign, the release of the product.
        previous: The city's product of the last release, whose villages keep their ids; not `out`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    ground: CityGround
    checkpoint: Path
    out: Path
    polygons: PolygonConfig = PolygonConfig()
    refinement: RefinementConfig = RefinementConfig()
    text: TextConfig = TextConfig()
    adapt: bool = True
    batch_size: int | None = None
    compiled: bool = False
    readers: int = 2
    campaign: str = "local"
    version: str = "0.0.0"
    previous: Path | None = None

    @property
    def adcode(self) -> str:
        """The city."""
        return self.ground.adcode

    @property
    def city(self) -> City | None:
        """The registry's entry."""
        return self.ground.city

    @property
    def title(self) -> str:
        """What the ground is called in titles: its names and code, or its first scene."""
        city = self.city
        if city is None:
            return f"the ground of {self.ground.sources.imagery[0].name}"
        return f"{city.name_en} ({city.name_zh}, {city.adcode})"


def job_of(campaign: Campaign, city: City) -> CityJob:
    """The job of one city of a campaign.

    Raises:
        MissingSourcesError: the city has no data under the campaign's data root.
    """
    previous = None if campaign.previous_root is None else campaign.previous_root / city.adcode
    return CityJob(
        ground=ground_of(campaign, city),
        checkpoint=campaign.checkpoint,
        out=campaign.product_folder(city.adcode),
        polygons=campaign.polygons,
        refinement=campaign.refinement,
        text=campaign.text,
        adapt=campaign.adapt,
        batch_size=campaign.batch_size,
        compiled=campaign.compiled,
        readers=campaign.readers,
        campaign=campaign.name,
        version=campaign.version,
        previous=previous if previous is not None and previous.is_dir() else None,
    )
