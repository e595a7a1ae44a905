"""Removal of villages, or of parts of them, that lie on land that cannot be village; the reason is kept."""

from __future__ import annotations

import geopandas as gpd
import numpy as np
import shapely

from regions.settings import ExclusionConfig


def remove_excluded(
    villages: gpd.GeoDataFrame, excluding: gpd.GeoDataFrame, *, config: ExclusionConfig, min_area_m2: float
) -> tuple[gpd.GeoDataFrame, gpd.GeoDataFrame]:
    """Cut excluding land out of villages.

    Args:
        villages: Polygons; all columns are kept.
        excluding: Polygons with ``kind``, in the same CRS.
        config: Share from which a village goes whole.
        min_area_m2: Parts left over that are smaller go.

    Returns:
        The villages left, single-part, with the column ``excluded`` (for example ``park 0.12; water 0.03``: shares
        of the village's area before, or null), and the removed ones with ``reason``.
    """
    geometry = villages.geometry.to_numpy()
    area = shapely.area(geometry)
    reasons: list[str | None] = [None] * len(villages)
    share = np.zeros(len(villages))
    left = geometry.copy()
    hit_village, hit_land = shapely.STRtree(excluding.geometry.to_numpy()).query(geometry, predicate="intersects")
    kinds = excluding["kind"].to_numpy()
    for k in np.unique(hit_village):
        land = hit_land[hit_village == k]
        shares = {
            kind: shapely.area(shapely.intersection(geometry[k], shapely.union_all(lands))) / area[k]
            for kind in sorted(set(kinds[land]))
            if len(lands := excluding.geometry.to_numpy()[land[kinds[land] == kind]])
        }
        shares = {kind: value for kind, value in shares.items() if value > 0}
        if not shares:
            continue
        union = shapely.union_all(excluding.geometry.to_numpy()[land])
        share[k] = shapely.area(shapely.intersection(geometry[k], union)) / area[k]
        left[k] = shapely.difference(geometry[k], union)
        reasons[k] = "; ".join(f"{kind} {value:.2f}" for kind, value in shares.items())
    dropped = share >= config.drop_share
    removed = villages[dropped].assign(reason=[f"excluded: {reasons[k]}" for k in np.flatnonzero(dropped)])
    kept = villages.assign(excluded=reasons).set_geometry(left, crs=villages.crs)[~dropped]
    whole = kept["excluded"].isna().to_numpy()
    parts = kept.explode(ignore_index=True)
    touched = parts["excluded"].notna().to_numpy()
    polygonal = shapely.get_type_id(parts.geometry.to_numpy()) == int(shapely.GeometryType.POLYGON)
    small = touched & (~polygonal | (shapely.area(parts.geometry.to_numpy()) < min_area_m2))
    if whole.all():
        return kept.reset_index(drop=True), removed.reset_index(drop=True)
    return parts[~small].reset_index(drop=True), removed.reset_index(drop=True)
