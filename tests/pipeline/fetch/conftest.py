"""Fixtures of the tests of sources: one world for all of them."""

from tests.support.source_world import quick, world

__all__ = ["quick", "world"]
