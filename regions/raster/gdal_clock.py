"""GDAL's clock held still: GeoPackage stores the time of writing, and the same table shall give the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyogrio

FIXED_TIME = "2000-01-01T00:00:00.000Z"
"""With milliseconds, as requirement 15 of GeoPackage asks for."""


@contextmanager
def fixed_gdal_clock(time: str = FIXED_TIME) -> Iterator[None]:
    """Let the GDAL that writes vector files take ``time`` (ISO 8601, UTC) for the present, in this process."""
    before = pyogrio.get_gdal_config_option("OGR_CURRENT_DATE")
    pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": time})
    try:
        yield
    finally:
        pyogrio.set_gdal_config_options({"OGR_CURRENT_DATE": before})
