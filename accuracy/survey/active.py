"""Which tiles of a map are most worth labelling: uncertain, spread over the city, and some that chance chose.

The most uncertain tiles lie side by side, and labels of neighbours say the same. So a pool of the most uncertain is
thinned by distance: tiles are taken in the order of their uncertainty where no tile taken before is nearer than a
spacing, which shrinks until enough are found (a pool filtered by uncertainty, then spread: Zhdanov, Diverse mini-batch
active learning, 2019). A model may be sure and wrong: a share of the tiles is drawn at random from all of them.

Such a sample is for training. It is no probability sample: accuracy is never estimated from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import geopandas as gpd
import numpy as np
import pandas as pd
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio.windows import Window

from accuracy.arrays import Floats, Ints
from accuracy.errors import DrawError, LabelError, SampleTableError
from accuracy.survey.drawing import draw_growing, make_generator
from accuracy.survey.labels import LabelTable
from accuracy.survey.map_strata import MapRasters
from regions.raster.burn import burn_into, burn_values_into
from regions.raster.scores import NOT_PREDICTED, SCORE_SCALE, is_predicted

Uncertainty = Literal["entropy", "disagreement"]
UNCERTAINTIES: tuple[Uncertainty, ...] = get_args(Uncertainty)
POOL_FACTOR = 10
"""Tiles in the pool per tile wanted."""
LEAST_DOUBT = 0.5
"""A tile of the pool is at least so uncertain, against the last of the most uncertain ones: distance buys no more."""
SHRINK = 0.8
"""Factor on the spacing where too few tiles were found."""
LEAST_USABLE = 0.5
"""Share of a tile that must be predicted and allowed."""


@dataclass(frozen=True, kw_only=True)
class ActiveSelection:
    """How tiles are chosen.

    Attributes:
        tiles: How many.
        tile_m: Side of a tile.
        random_share: Share of them that is drawn at random, 0 to 1.
        by: ``entropy`` of the score in bits, or ``disagreement``: the standard deviation of the views, which needs
            scores of a map with `--symmetries` above 1.
        seed: Seed of what is drawn.
    """

    tiles: int = 200
    tile_m: float = 128.0
    random_share: float = 0.2
    by: Uncertainty = "entropy"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.random_share <= 1:
            raise DrawError(f"--random-share {self.random_share:g} is outside [0, 1]: give a share")
        if self.tiles < 1 or self.tile_m <= 0:
            raise DrawError(f"{self.tiles} tiles of {self.tile_m:g} m: ask for at least one tile, of a size above 0")


def select_tiles(
    rasters: MapRasters,
    selection: ActiveSelection,
    *,
    areas: gpd.GeoDataFrame | None = None,
    leave_out: gpd.GeoDataFrame | None = None,
) -> gpd.GeoDataFrame:
    """Choose the tiles of a product that are most worth labelling; same inputs and seed, same tiles.

    Args:
        rasters: The product; its scores are read row of tiles by row of tiles.
        selection: How many, how large, by what.
        areas: Where tiles may lie, any CRS; None for everywhere.
        leave_out: Where none may lie, any CRS: ground that is assessed, or labelled already.

    Returns:
        Squares in the CRS of the scores in random order, so that neither place nor order tells why one was chosen:
        ``tile_id``, ``chosen_by`` (``uncertain`` or ``random``), ``uncertainty`` (mean over the tile; bits for the
        entropy), ``score_mean``.

    Raises:
        DrawError: Fewer tiles than asked, no CRS in metres, or no second band where disagreement is wanted.
    """
    found = measure_tiles(rasters, selection, areas=areas, leave_out=leave_out)
    if len(found) < selection.tiles:
        raise DrawError(
            f"{rasters.scores} has {len(found)} tiles of {selection.tile_m:g} m that may be labelled, {selection.tiles}"
            " are wanted: ask for fewer or smaller ones, or allow more ground"
        )
    n_random = round(selection.tiles * selection.random_share)
    uncertain = _spread(found, selection.tiles - n_random, selection.tile_m)
    rest = np.setdiff1d(np.arange(len(found)), uncertain)
    drawn = rest[draw_growing(len(rest), n_random, make_generator(selection.seed, "active", "random"))]
    chosen = found.iloc[np.concatenate([uncertain, drawn])].assign(
        chosen_by=["uncertain"] * len(uncertain) + ["random"] * len(drawn)
    )
    order = make_generator(selection.seed, "active", "order").permutation(len(chosen))
    columns = ["tile_id", "chosen_by", "uncertainty", "score_mean", "geometry"]
    return chosen.iloc[order].reset_index(drop=True)[columns]


def measure_tiles(
    rasters: MapRasters,
    selection: ActiveSelection,
    *,
    areas: gpd.GeoDataFrame | None = None,
    leave_out: gpd.GeoDataFrame | None = None,
) -> gpd.GeoDataFrame:
    """All tiles that may be labelled, from north to south: as `select_tiles` gives them, with ``row`` and ``col``."""
    with rasterio.open(rasters.scores) as scores:
        _check(scores, selection)
        side = max(1, round(selection.tile_m / abs(scores.transform.a)))
        cols = -(-scores.width // side)
        parts = []
        for row in range(-(-scores.height // side)):
            usable, score, doubt = _row_of_tiles(scores, row * side, side, cols, selection.by)
            for frame, keeps in ((areas, True), (leave_out, False)):
                if frame is not None:
                    inside = _burn_row(scores, frame, row * side, usable.shape)
                    usable &= inside if keeps else ~inside
            counts = usable.sum(axis=(0, 2))
            kept = np.flatnonzero(counts >= LEAST_USABLE * side**2)
            means = [
                np.where(usable, values, 0).sum(axis=(0, 2))[kept] / counts[kept] if len(kept) else np.zeros(0)
                for values in (doubt, score)
            ]
            parts.append(pd.DataFrame({"row": row, "col": kept, "uncertainty": means[0], "score_mean": means[1]}))
        table = pd.concat(parts, ignore_index=True)
        a, _, left, _, e, top = tuple(scores.transform)[:6]
        x, y = left + a * side * table["col"], top + e * side * table["row"]
        squares = shapely.box(x, y + e * side, x + a * side, y)
        names = [f"t{r:05d}_{c:05d}" for r, c in zip(table["row"], table["col"], strict=True)]
        return gpd.GeoDataFrame(table.assign(tile_id=names), geometry=list(squares), crs=scores.crs)


def points_of_tiles(tiles: gpd.GeoDataFrame, city: str) -> gpd.GeoDataFrame:
    """What interpreters get: ``point_id``, ``city`` and the centre of each tile, without what the map says there."""
    return gpd.GeoDataFrame(
        {"point_id": tiles["tile_id"].to_numpy(), "city": city}, geometry=list(tiles.geometry.centroid), crs=tiles.crs
    )


def burn_answers(tiles: gpd.GeoDataFrame, answers: Sequence[LabelTable], *, like: Path, out: Path) -> dict[str, int]:
    """Write a mask of the squares that were answered: 1 village, 0 none, 255 (nodata) not labelled, a GeoTIFF.

    Args:
        tiles: Squares of `select_tiles`.
        answers: Of their ``tile_id``; a square is labelled where all its answers agree.
        like: Raster whose grid the mask has: the scores that the tiles were chosen from.
        out: File to write.

    Returns:
        Squares by outcome: ``village``, ``other``, ``differing``, ``unanswered``.

    Raises:
        LabelError: An answer about no square, or none that can be used.
        SampleTableError: The table of squares lacks its columns.
    """
    if "tile_id" not in tiles.columns:
        raise SampleTableError(f"the table has no column 'tile_id' ({', '.join(tiles.columns)}): give tiles.gpkg")
    frame = pd.concat([table.frame for table in answers], ignore_index=True)
    strange = sorted(set(frame["point_id"]) - set(tiles["tile_id"]))
    if strange:
        raise LabelError(
            f"{answers[0].source} answers {strange[0]!r}, which is no tile: give the tiles.gpkg of these pages"
        )
    given = frame.dropna(subset="label").groupby("point_id")["label"].agg(["min", "max"])
    agreed = given.loc[given["min"] == given["max"], "min"]
    if agreed.empty:
        raise LabelError(f"{answers[0].source}: no square has an answer that all agree on: label more squares")
    value = tiles["tile_id"].map(agreed)
    labelled = tiles[value.notna()].assign(value=value.dropna().astype(int))
    with rasterio.open(like) as scores:
        transform, crs, height, width = scores.transform, scores.crs, scores.height, scores.width
    squares = labelled.to_crs(crs)
    out.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "nodata": NOT_PREDICTED, "tiled": True}
    with rasterio.open(
        out, "w", crs=crs, transform=transform, height=height, width=width, compress="DEFLATE", **profile
    ) as sink:
        for _, window in sink.block_windows(1):
            box = shapely.box(*rasterio.windows.bounds(window, transform))
            near = squares[shapely.intersects(squares.geometry.to_numpy(), box)]
            shape = (int(window.height), int(window.width))
            place = rasterio.windows.transform(window, transform)
            burnt = burn_values_into(near.geometry, near["value"].to_numpy(), place, shape, fill=NOT_PREDICTED)
            sink.write(burnt.astype(np.uint8), 1, window=window)
    return {
        "village": int((agreed == 1).sum()),
        "other": int((agreed == 0).sum()),
        "differing": len(given) - len(agreed),
        "unanswered": len(tiles) - len(given),
    }


def _spread(found: gpd.GeoDataFrame, count: int, tile_m: float) -> Ints:
    """Rows of the tiles of a pool of the most uncertain, taken in their order, far from each other."""
    doubt = found["uncertainty"].to_numpy(float)
    pool = np.lexsort((found["col"].to_numpy(), found["row"].to_numpy(), -doubt))[: POOL_FACTOR * count]
    if count:
        pool = pool[doubt[pool] >= LEAST_DOUBT * doubt[pool[count - 1]]]
    place = found[["row", "col"]].to_numpy(float) * tile_m
    taken = np.zeros(len(pool), bool)
    nearest = np.full(len(pool), np.inf)  # distance of each tile of the pool to those taken
    spacing_m = tile_m * np.sqrt(len(found) / max(count, 1))  # that of tiles spread evenly
    while taken.sum() < count:
        for k, index in enumerate(pool):
            if taken.sum() == count:
                break
            if not taken[k] and nearest[k] >= spacing_m:
                taken[k] = True
                nearest = np.minimum(nearest, np.hypot(*(place[pool] - place[index]).T))
        spacing_m = spacing_m * SHRINK if spacing_m > tile_m else 0.0
    return np.asarray(pool[taken], np.int64)


def _row_of_tiles(
    scores: Any, top: int, side: int, cols: int, by: Uncertainty
) -> tuple[NDArray[np.bool_], Floats, Floats]:
    """Of one row of tiles, arrays (side, cols, side): predicted, score and uncertainty."""
    height = min(side, scores.height - top)
    window = Window(0, top, scores.width, height)
    values = np.full((side, cols * side), 255, np.uint8)
    values[:height, : scores.width] = scores.read(1, window=window)
    share = np.minimum(values / SCORE_SCALE, 1.0)
    if by == "entropy":
        doubt = _entropy_table()[values]
    else:
        spread = np.zeros(values.shape, np.uint8)
        spread[:height, : scores.width] = scores.read(2, window=window)
        doubt = np.where(is_predicted(spread), spread / SCORE_SCALE, 0.0)
    shape = (side, cols, side)
    return is_predicted(values).reshape(shape), share.reshape(shape), doubt.reshape(shape)


def _entropy_table() -> Floats:
    """Binary entropy in bits of every score, 0 where nothing was predicted."""
    p = np.minimum(np.arange(256) / SCORE_SCALE, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = [np.where(q > 0, -q * np.log2(q), 0.0) for q in (p, 1 - p)]
    return np.asarray(terms[0] + terms[1], np.float64)


def _burn_row(scores: Any, frame: gpd.GeoDataFrame, top: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    side, cols, _ = shape
    shapes = np.asarray(frame.to_crs(scores.crs).geometry.array, dtype=object)
    window = Window(0, top, cols * side, side)
    near = shapes[shapely.intersects(shapes, shapely.box(*rasterio.windows.bounds(window, scores.transform)))]
    return burn_into(near, scores.window_transform(window), (side, cols * side)).reshape(shape)


def _check(scores: Any, selection: ActiveSelection) -> None:
    if scores.crs is None or not scores.crs.is_projected or scores.dtypes[0] != "uint8":
        raise DrawError(
            f"{scores.name} holds {scores.dtypes[0]} in CRS {scores.crs}: give the uint8 scores of a product, in metres"
        )
    if selection.by == "disagreement" and scores.count < 2:
        raise DrawError(
            f"{scores.name} has one band, disagreement is the second: map with --symmetries 8, or select by entropy"
        )
