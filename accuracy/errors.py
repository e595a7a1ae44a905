"""Typed errors of the room `accuracy`.

Every message names the place (file, city, tile), the values that conflict, and what to do.
"""


class AccuracyError(Exception):
    """Base of all errors that a user's input can raise in `accuracy`; shown as one line, without a traceback."""


class DesignError(AccuracyError):
    """The sampling design contradicts itself or the table: missing strata, sizes, weights."""


class LonelyUnitError(DesignError):
    """A stratum holds a single sampled unit, so its variance cannot be estimated."""


class SampleTableError(AccuracyError):
    """A table of sample points lacks a column, repeats a point, or holds values that mean nothing."""


class LabelError(AccuracyError):
    """Labels do not fit their sample: unknown point, unknown answer, a date after the map's."""


class DrawError(AccuracyError):
    """A sample cannot be drawn as asked: too few units in a stratum, a raster without CRS."""


class PlanningError(AccuracyError):
    """A planning question has no answer: a target below the floor, a share outside (0, 1)."""


class ComparisonError(AccuracyError):
    """A map and a reference cannot be compared: no CRS, no overlap, different grids."""


class LeakageInputError(AccuracyError):
    """Training manifest and sample cannot be checked against each other."""
