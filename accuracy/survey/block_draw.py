"""Square blocks drawn from a product's mask and scores, to be digitised completely: for objects and boundaries."""

from __future__ import annotations

from collections.abc import Mapping

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely

from accuracy.errors import DrawError
from accuracy.survey.drawing import draw_growing, make_generator
from accuracy.survey.map_strata import MapRasters, MapStrata, StrataReader

BLOCK_STRATA = ("with_village", "with_candidate", "without")


def list_blocks(rasters: MapRasters, *, block_px: int, strata: MapStrata | None = None) -> pd.DataFrame:
    """Every block of the grid that holds a predicted pixel, with its stratum.

    Blocks are anchored to the grid's upper left corner; those at the right and lower edge may be smaller, which the
    ratio estimators allow for.

    Returns:
        ``row_px``, ``col_px``, ``height_px``, ``width_px``, ``predicted_px``, ``mapped_px``, ``block_stratum``:
        ``with_village`` where a pixel of the published polygons lies, ``with_candidate`` where one is a candidate,
        else ``without``.

    Raises:
        DrawError: The block is too small, or the rasters do not fit.
    """
    if block_px < 16:
        raise DrawError(f"blocks of {block_px} px hold no village: give --block-px of at least 16")
    with (strata or MapStrata()).open(rasters) as reader:
        parts = [_row_of_blocks(reader, row, block_px) for row in range(0, reader.mask.height, block_px)]
    frame = pd.concat(parts, ignore_index=True)
    return frame[frame["predicted_px"] > 0].reset_index(drop=True)


def draw_blocks(
    rasters: MapRasters,
    *,
    city: str,
    region: str,
    allocation: Mapping[str, int],
    seed: int,
    block_px: int = 256,
    strata: MapStrata | None = None,
) -> gpd.GeoDataFrame:
    """Draw blocks at random in each block stratum; a larger allocation keeps the blocks of a smaller one.

    Returns:
        GeoDataFrame in the raster's CRS: ``block_id``, ``city``, ``region``, ``block_stratum``, ``M_block``,
        ``m_block``, ``draw_order``, ``row_px``, ``col_px``, ``height_px``, ``width_px``, ``crs`` (of the raster),
        ``geometry``.

    Raises:
        DrawError: A stratum gets no block, or the rasters do not fit.
    """
    unknown = sorted(set(allocation) - set(BLOCK_STRATA))
    if unknown:
        raise DrawError(f"block stratum {unknown[0]!r} is none of {', '.join(BLOCK_STRATA)}")
    frame = list_blocks(rasters, block_px=block_px, strata=strata)
    parts = []
    for name in BLOCK_STRATA:
        rows = frame[frame["block_stratum"] == name]
        if rows.empty:
            continue
        if allocation.get(name, 0) < 1:
            raise DrawError(
                f"block stratum {name!r} of {city} holds {len(rows)} blocks but gets none: ask for at least 2"
                f" with --{name.replace('_', '-')}"
            )
        n = min(allocation[name], len(rows))
        pick = draw_growing(len(rows), n, make_generator(seed, "blocks", city, name, str(block_px)))
        parts.append(rows.iloc[pick].assign(M_block=len(rows), m_block=n, draw_order=np.arange(1, n + 1)))
    if not parts:
        raise DrawError(f"{rasters.mask} has no predicted pixel: nothing can be drawn")
    drawn = pd.concat(parts, ignore_index=True)
    drawn.insert(
        0, "block_id", [f"{city}-{r:06d}-{c:06d}" for r, c in zip(drawn["row_px"], drawn["col_px"], strict=True)]
    )
    drawn.insert(1, "city", city)
    drawn.insert(2, "region", region)
    with (strata or MapStrata()).open(rasters) as reader:
        t, crs = reader.mask.transform, reader.mask.crs
    drawn["crs"] = crs.to_string()
    left, top = t.c + t.a * drawn["col_px"], t.f + t.e * drawn["row_px"]
    right, bottom = left + t.a * drawn["width_px"], top + t.e * drawn["height_px"]
    return gpd.GeoDataFrame(drawn, geometry=shapely.box(left, bottom, right, top), crs=crs)


def _row_of_blocks(reader: StrataReader, row: int, block_px: int) -> pd.DataFrame:
    height = min(block_px, reader.mask.height - row)
    code = reader.read(row, height)
    starts = np.arange(0, code.shape[1], block_px)
    counts = [np.add.reduceat((code == k).sum(axis=0), starts) for k in range(3)]
    mapped, candidate, rest = counts
    stratum = np.where(mapped > 0, BLOCK_STRATA[0], np.where(candidate > 0, BLOCK_STRATA[1], BLOCK_STRATA[2]))
    return pd.DataFrame(
        {
            "row_px": row,
            "col_px": starts,
            "height_px": height,
            "width_px": np.minimum(block_px, code.shape[1] - starts),
            "predicted_px": mapped + candidate + rest,
            "mapped_px": mapped,
            "block_stratum": stratum,
        }
    )
