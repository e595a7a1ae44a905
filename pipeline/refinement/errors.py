"""Errors of refinement; its settings are `regions.settings.RefinementConfig`."""

from __future__ import annotations

from pipeline.errors import PipelineError


class RefinementError(PipelineError):
    """Boundaries cannot be refined as asked."""
