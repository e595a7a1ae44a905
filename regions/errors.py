"""Typed errors of the room `regions`.

Every message names the place (file, city, tile), the values that conflict, and what to do.
"""


class RegionsError(Exception):
    """Base of all errors that a user's input can raise in `regions`; shown as one line, without a traceback."""
