"""Polygons: from the score raster to urban villages, the same whatever the blocks."""

from pipeline.polygons.errors import (
    PolygonError,
)
from pipeline.polygons.scores import ScoreSource, open_scores
from pipeline.polygons.simplification import Simplified, simplify_polygons
from pipeline.polygons.vectorize import (
    FoundVillages,
    find_villages,
    polygonize_mask,
)
from regions.settings import BarrierConfig, ExclusionConfig, PolygonConfig

__all__ = [
    "BarrierConfig",
    "ExclusionConfig",
    "FoundVillages",
    "PolygonConfig",
    "PolygonError",
    "ScoreSource",
    "Simplified",
    "find_villages",
    "open_scores",
    "polygonize_mask",
    "simplify_polygons",
]
