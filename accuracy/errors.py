"""Typed errors of the room `accuracy`.

Every message names the place (file, city, tile), the values that conflict, and the mend.
"""


class AccuracyError(Exception):
    """Base of all errors that a user's input can raise in `accuracy`; shown as one line, without a traceback."""
