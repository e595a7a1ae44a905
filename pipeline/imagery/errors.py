"""Typed errors of the imagery readers: each names the file, the two values that conflict, and what to do."""

from __future__ import annotations

from pipeline.errors import PipelineError


class ImageryError(PipelineError):
    """Base of all errors about imagery."""


class MissingCrsError(ImageryError):
    """A raster says nothing about its CRS, or nothing about its place at all."""


class NoOverlapError(ImageryError):
    """No scene shares a pixel with the area that was asked for."""


class UntiledRasterError(ImageryError):
    """A TIFF in strips: every block read would decode whole rows."""


class OffGridError(ImageryError):
    """A scene in another CRS, rotated, of another pixel size, or shifted by a part of a pixel."""


class BandCountError(ImageryError):
    """A scene has fewer bands than the model needs."""


class PixelTypeError(ImageryError):
    """A scene's pixels are neither uint8 nor uint16."""


class UnreadableImageryError(ImageryError):
    """A file that is missing, not a raster, truncated, or damaged."""


class UnusableCrsError(ImageryError):
    """A CRS that does not say where on earth a raster lies, or that PROJ does not know."""
