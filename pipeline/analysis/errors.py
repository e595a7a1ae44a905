"""What can go wrong with an analysis."""

from pipeline.errors import PipelineError


class AnalysisError(PipelineError):
    """A table, product or setting does not allow the analysis that was asked for."""
