"""GDAL's cache of decoded blocks, held to a size that does not follow the machine.

GDAL keeps every block that it decoded, up to 5 % of the machine's memory. Blocks here are read once, so the cache helps
nobody; and what is evicted first decides the order in which blocks are written, and so the bytes of a file.
"""

from __future__ import annotations

import rasterio

CACHE_BYTES = 64 << 20


def bounded_gdal_cache(**options: str | bool) -> rasterio.Env:
    """A context in which GDAL caches at most `CACHE_BYTES`; ``options`` are further ones of GDAL's configuration."""
    return rasterio.Env(GDAL_CACHEMAX=CACHE_BYTES, **options)
