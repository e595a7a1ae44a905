"""Typed errors of the room `pipeline`.

Every message names the place (file, city, tile), the values that conflict, and what to do.
"""


class PipelineError(Exception):
    """Base of all errors that a user's input can raise in `pipeline`; shown as one line, without a traceback."""
