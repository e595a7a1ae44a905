"""The commands of accuracy as a user types them, a labelled table, and a product to draw from."""

import json

import numpy as np
import pandas as pd
import typer
from typer.testing import CliRunner

from flows.commands import estimate as estimate_command
from tests.support.rasters import grid_at, mark_product, write_raster

DESIGN = [
    "--stratum", "region", "--psu", "city", "--ssu", "point_id", "--second-stage-stratum", "map_stratum",
]  # fmt: skip


def run(*arguments, command=estimate_command):
    app = typer.Typer(pretty_exceptions_enable=False)
    app.callback()(lambda: None)
    command.register(app)
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def estimates(path, *options, selection="probability", design=DESIGN):
    result = run("estimate", path, *design, "--psu-selection", selection, "--json", *options)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def toy(seed=0, cities=3):
    rng = np.random.default_rng(seed)
    rows = [
        {
            "region": region, "city": f"{region}{c}", "map_stratum": stratum, "map": mapped,
            "ref": int(rng.random() < (0.8 if mapped else 0.1)), "N_city": 9, "n_city": cities,
            "M_pix": 1000 * (c + 1) * (1 if mapped else 30), "m_pts": 20,
        }
        for region in "AB" for c in range(cities) for stratum, mapped in (("uv", 1), ("rest", 0)) for _ in range(20)
    ]  # fmt: skip
    return pd.DataFrame(rows).assign(point_id=range(len(rows)))


def make_product(folder, seed=0, side=120):
    """Scores and published polygons of a city; the polygons are not the scores cut at 0.5."""
    import geopandas as gpd
    import shapely

    from pipeline.product.files import mask_path, scores_path, write_polygons
    from pipeline.product.mask import write_polygon_mask

    adcode = folder.name
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 15, (side, side)).astype(np.uint8)
    villages = []
    for k in range(6):
        r, c = rng.integers(0, side - 20, 2)
        scores[r : r + 16, c : c + 16] = rng.integers(40, 250)
        if k % 3 < 2:  # published with a part beyond the high scores; every third village was taken out
            x, y = 500_000 + 10 * c, 2_500_000 - 10 * r
            villages.append(shapely.box(x + 31, y - 124, x + 187, y - 28))
    scores[0] = 255
    folder.mkdir(parents=True, exist_ok=True)
    grid = grid_at(500_000, 2_500_000, scores.shape, resolution_m=10.0)
    write_raster(scores_path(folder, adcode), grid, scores, nodata=255)
    polygons = gpd.GeoDataFrame(geometry=villages, crs="EPSG:32649")
    write_polygons(polygons, folder, adcode)
    write_polygon_mask(scores_path(folder, adcode), polygons, mask_path(folder, adcode))
    mark_product(scores_path(folder, adcode))
    return folder
