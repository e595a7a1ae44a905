"""Typed errors of inference."""

from __future__ import annotations

from pipeline.errors import PipelineError


class InferenceError(PipelineError):
    """Base of all errors of inference."""


class ModelMismatchError(InferenceError):
    """Model, imagery and tiling do not fit each other."""


class ModelOutputError(InferenceError):
    """A model gave something else than probabilities."""


class AreaError(InferenceError):
    """The area of interest is empty or lies off the grid."""


class ScoreFileError(InferenceError):
    """The score raster cannot be written or is not as it must be."""
