"""Areas and lengths that do not depend on the projection of a city's grid."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import pyproj
import shapely
from numpy.typing import NDArray

CHINA_ALBERS = pyproj.CRS.from_user_input(
    "+proj=aea +lat_1=25 +lat_2=47 +lat_0=0 +lon_0=105 +x_0=0 +y_0=0 +datum=WGS84 +units=m +no_defs +type=crs"
)
"""All areas and the national grid: the usual Albers equal-area projection of China (standard parallels 25 N and 47 N,
meridian 105 E) on WGS 84."""


def equal_areas_m2(shapes: gpd.GeoSeries) -> NDArray[np.float64]:
    """float64 (P,): areas in `CHINA_ALBERS`, in m2."""
    return np.asarray(shapely.area(shapes.to_crs(CHINA_ALBERS).to_numpy()), dtype=np.float64)


def geodesic_lengths_m(shapes: gpd.GeoSeries) -> NDArray[np.float64]:
    """float64 (P,): lengths of lines, or of all rings of polygons, on the WGS 84 ellipsoid, in m."""
    degrees = shapely.get_parts(shapes.to_crs("EPSG:4326").to_numpy(), return_index=True)
    parts, owner = degrees
    rings, ring_owner = shapely.get_rings(parts, return_index=True)
    lines = shapely.get_type_id(parts) == int(shapely.GeometryType.LINESTRING)
    paths = np.concatenate((rings, parts[lines]))
    path_owner = np.concatenate((owner[ring_owner], owner[lines]))
    coords, index = shapely.get_coordinates(paths, return_index=True)
    if len(coords) < 2:
        return np.zeros(len(shapes))
    same = index[1:] == index[:-1]
    start, stop = coords[:-1][same], coords[1:][same]
    _, _, length = pyproj.Geod(ellps="WGS84").inv(start[:, 0], start[:, 1], stop[:, 0], stop[:, 1])
    total = np.bincount(path_owner[index[:-1][same]], weights=length, minlength=len(shapes))
    return np.asarray(total, dtype=np.float64)
