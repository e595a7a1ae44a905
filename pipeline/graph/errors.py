"""Typed errors of the city graph."""

from pipeline.errors import PipelineError


class CityGraphError(PipelineError):
    """Features, a stored graph or a request that a city graph cannot be made of; the message says what to do."""
