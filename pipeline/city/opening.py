"""A ground opened for reading: imagery on its grid, and its graph where it has a map."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.city.extent import CityExtent
from pipeline.city.ground import REACH_PX, CityGround
from pipeline.city.stage_store import StageResult, stage_result
from pipeline.city.vectors import read_city_vectors
from pipeline.files import source_digest
from pipeline.graph import CityGraph, graph_key
from pipeline.imagery import ImageSource, open_imagery, prepare_imagery

GRAPH_VERSION = 2
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenCity:
    """What is read of a city, by whatever reads it.

    Attributes:
        ground: The city's files and grid.
        extent: Its grid and area of interest.
        imagery: Its scenes on the grid.
        ingested: Whether the scenes were resampled onto the grid first, into ``imagery.tif`` of the work folder.
    """

    ground: CityGround
    extent: CityExtent
    imagery: ImageSource
    ingested: bool

    @cached_property
    def city_map(self) -> CityGraph | None:
        """Its graph, or None where there is no map; what is doubtful of the map is logged."""
        if not self.ground.sources.vectors:
            return None
        made = ground_graph(self.ground, self.extent)
        for text in made.summary["warnings"]:
            _LOG.warning("%s", text)
        return CityGraph.load(made.folder / "graph")

    @property
    def name(self) -> str:
        """Adcode and scenes, for lineage."""
        return f"{self.ground.adcode} ({', '.join(p.name for p in self.ground.sources.imagery)})"


@contextmanager
def open_ground(ground: CityGround) -> Iterator[OpenCity]:
    """As `CityGround.open`."""
    sources, extent = ground.sources, ground.extent()
    paths = prepare_imagery(sources.imagery, grid=extent.grid, out=ingested_path(ground), crs=sources.notes.imagery_crs)
    with open_imagery(paths, grid=extent.grid, crs=sources.notes.imagery_crs) as imagery:
        yield OpenCity(ground, extent, imagery, ingested=not set(paths) <= set(sources.imagery))


def ingested_path(ground: CityGround) -> Path:
    """Where imagery lies that had to be resampled onto the grid."""
    return ground.work / "imagery.tif"


def ground_graph(ground: CityGround, extent: CityExtent, *, reach_px: int = REACH_PX) -> StageResult:
    """The feature table and the city graph of the area that tiles can see; found again in the work folder.

    Args:
        ground: The city.
        extent: Its extent.
        reach_px: Features are read this far past the grid: at least a tile of the model that asks.

    Returns:
        A folder with ``features.parquet`` and ``graph/``; without vectors both are empty.
    """
    sources = ground.sources
    bounds_m = extent.grid.window_bounds_m(extent.grid.window.padded(reach_px))
    inputs = {
        "version": GRAPH_VERSION,
        "graph": graph_key(""),
        "vectors": [source_digest(p) for p in sources.vectors],
        "crs": extent.grid.crs,
        "bounds_m": bounds_m,
        "notes": sources.notes.model_dump(include={"vectors_crs", "vectors_encoding", "vectors_id", "default_tags"}),
    }
    if sources.notes.vectors_datum is not None:
        inputs["datum"] = sources.notes.vectors_datum

    def build(folder: Path) -> dict[str, Any]:
        features = read_city_vectors(sources, crs=extent.grid.crs, bounds_m=bounds_m)
        features.table.to_parquet(folder / "features.parquet", compression="zstd", index=False)
        CityGraph.build(folder / "features.parquet", folder=folder / "graph")
        return {"features": len(features.table), "counts": features.counts, "warnings": list(features.warnings)}

    return stage_result(ground.work, "graph", inputs, build)
