"""Typed errors of areas and reference labels."""

from pipeline.errors import PipelineError


class AreaError(PipelineError):
    """An area, a mask or a file of reference polygons cannot be used."""
