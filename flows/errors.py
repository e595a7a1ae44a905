"""Typed errors of the room `flows`: one line that says what is wrong and what to do."""

from pipeline.errors import PipelineError


class FlowsError(PipelineError):
    """Base of the errors of running flows and their services; caught and printed as every stage's error is."""


class ServiceError(FlowsError):
    """The server, the worker or the profile is not in a state to go on."""


class RunError(FlowsError):
    """A run cannot be started, found or resumed."""


class CityBusyError(FlowsError):
    """Another process works on the same city at this moment."""


class StageFailedError(FlowsError):
    """A stage ended with an error in its own process.

    Attributes:
        transient: Whether the same call may succeed later (network, I/O, killed from outside), so a retry is due.
    """

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient
