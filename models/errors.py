"""Typed errors of the room `models`.

Every message names the place (file, city, tile), the values that conflict, and what to do.
"""


class ModelsError(Exception):
    """Base of all errors that a user's input can raise in `models`; shown as one line, without a traceback."""
