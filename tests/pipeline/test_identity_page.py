"""`uvmap diff` on files: tables, map and figures."""

import json

import geopandas as gpd
import pandas as pd
import pytest
import shapely
import typer
from typer.testing import CliRunner

from pipeline.product.identity import IdentityError, assign_ids


def releases(folder):
    crs = "EPSG:32650"
    boxes = [shapely.box(500_000 + 300 * k, 3_000_000, 500_100 + 300 * k, 3_000_100) for k in range(4)]
    old = assign_ids(gpd.GeoDataFrame(geometry=boxes[:3], crs=crs), adcode="110000")
    grown = shapely.box(500_300, 3_000_000, 500_420, 3_000_100)
    new = assign_ids(gpd.GeoDataFrame(geometry=[boxes[0], grown, boxes[3]], crs=crs), old, adcode="110000")
    old.to_parquet(folder / "old.parquet")
    new.to_file(folder / "new.gpkg")
    return old, new


def test_command(tmp_path):
    import flows.commands.diff as command

    old, new = releases(tmp_path)
    app = typer.Typer()
    command.register(app)
    paths = [str(tmp_path / "old.parquet"), str(tmp_path / "new.gpkg"), "--out", str(tmp_path / "diff")]
    result = CliRunner().invoke(app, [*paths, "--json"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert (figures["unchanged"], figures["changed"], figures["new"], figures["gone"]) == (1, 1, 1, 1)
    assert figures["ids_kept"] == 2
    assert figures["area_gained_m2"] == pytest.approx(10_000 + 2_000, rel=1e-3)
    assert figures["area_lost_m2"] == pytest.approx(10_000, rel=1e-3)
    events = pd.read_csv(tmp_path / "diff" / "events.csv")
    assert sorted(events["event"]) == ["changed", "gone", "new", "unchanged"]
    assert events.query("event == 'gone'")["uv_id_old"].item() == old["uv_id"].iloc[2]
    assert events.query("event == 'new'")["uv_id_new"].item() == new["uv_id"].iloc[2]
    assert len(gpd.read_parquet(tmp_path / "diff" / "events.parquet")) == 4
    page = (tmp_path / "diff" / "diff.html").read_text(encoding="utf-8")
    assert "gone (1)" in page and "changed (1)" in page and "https://" not in page.split("<script")[0]
    assert "villages_new" in CliRunner().invoke(app, paths).stdout
    wrong = CliRunner().invoke(app, [str(tmp_path / "none"), paths[1]])
    assert isinstance(wrong.exception, IdentityError) and "none" in str(wrong.exception)
