"""SDG indicator 11.1.1 as far as a map of urban villages can speak to it.

The indicator is the proportion of the urban *population* in slums, informal settlements or inadequate housing (UN
metadata 11-01-01a). A map gives land, not people: without a population raster the table holds the share of built-up
land alone, and says that it is none of the indicator. With one it holds the share of people on mapped ground who live
in mapped villages: the part of the indicator that spatial data can show, with the map's errors and those of the
raster.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import rasterio
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT
from rasterio.warp import transform_bounds
from rasterio.windows import Window, from_bounds

from pipeline.analysis.errors import AnalysisError
from regions.raster.scores import NOT_PREDICTED

NOTE_AREA = (
    "land, not people: no population raster was given, so no figure here is SDG indicator 11.1.1; the share of built-up"
    " land is the nearest thing that a map alone can say"
)
NOTE_PEOPLE = (
    "people on mapped ground by the population raster given; people in mapped urban villages by all of them. Urban"
    " villages are one kind of informal settlement: durability, space, water and sanitation of dwellings are not seen"
    " from above"
)


def count_people(mask: Path, population: Path) -> tuple[float, float]:
    """People on the villages of a product's mask and on all its predicted ground.

    Every cell of the population raster gives its people to villages and other ground by the share of its pixels in the
    mask; cells are taken whole where their middle lies inside the raster of the mask.

    Args:
        mask: A product's mask of published polygons.
        population: People per cell, any CRS with square-ish cells; nodata and negative values are nobody.

    Returns:
        (in villages, on predicted ground).

    Raises:
        AnalysisError: the raster cannot be read, has no CRS, or does not meet the mask.
    """
    try:
        with rasterio.open(population) as people, rasterio.open(mask) as answers:
            if people.crs is None:
                raise AnalysisError(f"{population}: the population raster has no CRS; declare one")
            bounds = transform_bounds(answers.crs, people.crs, *answers.bounds)
            exact = from_bounds(*bounds, transform=people.transform)
            column, row = math.floor(exact.col_off + 1e-6), math.floor(exact.row_off + 1e-6)
            right = math.ceil(exact.col_off + exact.width - 1e-6)
            bottom = math.ceil(exact.row_off + exact.height - 1e-6)
            window = Window(column, row, right - column, bottom - row)
            window = window.intersection(Window(0, 0, people.width, people.height))
            values = people.read(1, window=window).astype(np.float64)
            if people.nodata is not None:
                values[values == people.nodata] = 0.0
            values[~(values > 0)] = 0.0
            village, ground, whole = _parts(answers, people, window)
    except RasterioError as error:
        raise AnalysisError(f"{population} with {mask}: {error}: is it about this ground?") from error
    with np.errstate(invalid="ignore", divide="ignore"):
        part = np.where(whole > 0, 1 / whole, 0.0)
    return float((values * village * part).sum()), float((values * ground * part).sum())


def _parts(answers: rasterio.DatasetReader, people: rasterio.DatasetReader, window: Window) -> tuple[np.ndarray, ...]:
    """Per population cell: samples that are village, that are predicted, and all, on a 10 times finer lattice."""
    fine = 10
    transform = people.window_transform(window) @ rasterio.Affine.scale(1 / fine)
    height, width = int(window.height), int(window.width)
    with WarpedVRT(
        answers, crs=people.crs, transform=transform, width=width * fine, height=height * fine,
        nodata=NOT_PREDICTED, resampling=rasterio.enums.Resampling.nearest,
    ) as warped:  # fmt: skip
        village, ground = np.zeros((height, width)), np.zeros((height, width))
        for row in range(height):
            strip = warped.read(1, window=Window(0, row * fine, width * fine, fine))
            blocks = strip.reshape(fine, width, fine)
            village[row] = (blocks == 1).sum(axis=(0, 2))
            ground[row] = (blocks != NOT_PREDICTED).sum(axis=(0, 2))
    return village, ground, np.full((height, width), float(fine * fine))


def tabulate_sdg(cities: pd.DataFrame, shares: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The table by nation, region, province and city, and what it says.

    Args:
        cities: ``adcode``, ``province``, ``region`` and, where a population raster was given, ``people_in`` and
            ``people``.
        shares: `pipeline.analysis.shares.tabulate_shares`.

    Returns:
        Table of ``level``, ``name``, ``adcode``, ``share_of_land``, ``people``, ``people_in_villages``,
        ``share_of_people`` (null without a raster); and the note that belongs on top of it.
    """
    table = shares[["level", "name", "adcode"]].assign(share_of_land=shares["share_area"])
    if "people" not in cities.columns:
        return table.assign(people=np.nan, people_in_villages=np.nan, share_of_people=np.nan), NOTE_AREA
    sums = []
    for row in table.to_dict("records"):
        chosen = cities
        if row["level"] == "city":
            chosen = cities[cities["adcode"] == row["adcode"]]
        elif row["level"] != "nation":
            chosen = cities[cities[row["level"]] == row["name"]]
        sums.append((float(chosen["people"].sum()), float(chosen["people_in"].sum())))
    people, inside = np.array(sums).T
    with np.errstate(invalid="ignore", divide="ignore"):
        return table.assign(
            people=people, people_in_villages=inside, share_of_people=np.where(people > 0, inside / people, np.nan)
        ), NOTE_PEOPLE
