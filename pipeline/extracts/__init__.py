"""One national OpenStreetMap file cut into the extracts of all cities, in one run and in bounded memory."""

from pipeline.extracts.cut import Extract, cut_extracts
from pipeline.extracts.groups import Box

__all__ = ["Box", "Extract", "cut_extracts"]
