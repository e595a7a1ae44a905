"""Imagery of a city: readers, grids, and the one resampling at ingest."""

from pipeline.imagery.array import ArrayImagery
from pipeline.imagery.errors import (
    BandCountError,
    ImageryError,
    MissingCrsError,
    NoOverlapError,
    OffGridError,
    PixelTypeError,
    UnreadableImageryError,
    UntiledRasterError,
)
from pipeline.imagery.grids import grid_of_imagery
from pipeline.imagery.ingest import ingest, prepare_imagery
from pipeline.imagery.scene import Scene, inspect
from pipeline.imagery.source import ImageSource, content_digest, open_imagery
from pipeline.imagery.stretch import Stretch

__all__ = [
    "ArrayImagery",
    "BandCountError",
    "ImageSource",
    "ImageryError",
    "MissingCrsError",
    "NoOverlapError",
    "OffGridError",
    "PixelTypeError",
    "Scene",
    "Stretch",
    "UnreadableImageryError",
    "UntiledRasterError",
    "content_digest",
    "grid_of_imagery",
    "ingest",
    "inspect",
    "open_imagery",
    "prepare_imagery",
]
