"""Errors of the vectoriser; its settings are `regions.settings.PolygonConfig`."""

from __future__ import annotations

from pipeline.errors import PipelineError


class PolygonError(PipelineError):
    """Scores cannot be turned into polygons as asked."""
