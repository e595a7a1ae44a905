"""Typed errors of boundaries and built-up land."""

from pipeline.errors import PipelineError


class BoundaryError(PipelineError):
    """Boundaries or built-up land cannot be used as they are; the message names the file and what to do."""
