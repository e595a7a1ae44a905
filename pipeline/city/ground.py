"""The ground of a city as a value: its files, its grid and where intermediate results lie.

Mapping, training, pretraining and encoding all take a ground and read it by `CityGround.open`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from pipeline.city.sources import CitySources, find_sources
from regions.campaign import Campaign
from regions.registry import City, city_of
from regions.settings import GridConfig

if TYPE_CHECKING:
    from pipeline.city.extent import CityExtent
    from pipeline.city.opening import OpenCity

TILE_PX = 224
"""Side of a model's tile."""
REACH_PX = 2 * TILE_PX
"""Features are read this far past the grid, so that tiles at its edge see them."""


class CityGround(BaseModel):
    """The ground of a city: what there is, whatever is done with it; survives a round trip through JSON.

    Attributes:
        sources: Its files: imagery, vectors, area of interest, reference.
        crs: CRS of its grid.
        grid: Pixel size and tiling.
        work: Folder of intermediate results (ingested imagery, graph, stages); kept for resuming.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sources: CitySources
    crs: str
    grid: GridConfig = GridConfig()
    work: Path

    @property
    def adcode(self) -> str:
        """The city."""
        return self.sources.adcode

    @property
    def city(self) -> City | None:
        """The registry's entry; None where the ground was named by files alone."""
        return city_of(self.adcode)

    def extent(self) -> CityExtent:
        """Its grid and area of interest, from the headers of its scenes.

        Raises:
            NoOverlapError: the area of interest lies outside the imagery.
            PipelineError: scenes that cannot be used.
        """
        from pipeline.city.extent import city_extent  # noqa: PLC0415 - GDAL: a ground is a value that the command line makes

        return city_extent(self.sources, crs=self.crs, resolution_m=self.grid.resolution_m)

    def open(self) -> AbstractContextManager[OpenCity]:
        """Open its imagery, resampled once where it is off the grid; its graph is built when it is first asked for.

        Raises:
            PipelineError: sources that cannot be used, naming the file and the conflicting values.
        """
        from pipeline.city.opening import open_ground  # noqa: PLC0415 - as above

        return open_ground(self)


def ground_of(campaign: Campaign, city: City) -> CityGround:
    """The ground of one city of a campaign.

    Raises:
        MissingSourcesError: the city has no data under the campaign's data root.
    """
    return CityGround(
        sources=find_sources(campaign.data_folder(city.adcode), city.adcode),
        crs=city.crs,
        grid=campaign.grid,
        work=campaign.out_root / ".work" / city.adcode,
    )
