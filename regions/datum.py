"""Datums that sources declare, and the way to WGS84.

A source in a shifted datum says it has WGS84 coordinates and does not: files in GCJ-02 are declared EPSG:4326, tiles
in GCJ-02 lie in web mercator. So the datum is declared beside the CRS, and taken off before anything else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

Datum = Literal["wgs84", "cgcs2000", "gcj02", "bd09"]
"""wgs84 and cgcs2000 agree to some centimetres; gcj02 is that of Amap, Tencent, Google's Chinese maps; bd09 Baidu's."""
LARGEST_SHIFT_M = 2000.0
"""No datum moves a point of China further: GCJ-02 up to 720 m, BD-09 up to 1,530 m."""
DATUMS: tuple[Datum, ...] = get_args(Datum)


def is_shifted_datum(datum: Datum) -> bool:
    """Whether coordinates of a datum have to be taken back to WGS84."""
    return datum in {"gcj02", "bd09"}


def to_wgs84(lon: ArrayLike, lat: ArrayLike, datum: Datum) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """WGS84 coordinates of points of any shape that are given in ``datum``, degrees; good to a millimetre.

    Hong Kong, Macau and ground outside China are not shifted by GCJ-02 (`regions.gcj02.is_shifted`).
    """
    import numpy as np  # noqa: PLC0415 - the command line reads the names of datums when it starts

    from regions.gcj02 import gcj02_from_bd09, wgs84_from_gcj02  # noqa: PLC0415 - as above

    if datum == "bd09":
        return wgs84_from_gcj02(*gcj02_from_bd09(lon, lat))
    if datum == "gcj02":
        return wgs84_from_gcj02(lon, lat)
    return np.asarray(lon, np.float64), np.asarray(lat, np.float64)


def from_wgs84(lon: ArrayLike, lat: ArrayLike, datum: Datum) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates in ``datum`` of WGS84 points of any shape, degrees: the inverse of `to_wgs84`."""
    import numpy as np  # noqa: PLC0415 - as in `to_wgs84`

    from regions.gcj02 import bd09_from_gcj02, gcj02_from_wgs84  # noqa: PLC0415 - as above

    if datum == "bd09":
        return bd09_from_gcj02(*gcj02_from_wgs84(lon, lat))
    if datum == "gcj02":
        return gcj02_from_wgs84(lon, lat)
    return np.asarray(lon, np.float64), np.asarray(lat, np.float64)
