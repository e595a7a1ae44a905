"""The demo as a user runs it, small: from nothing to a product with figures."""

import json
import subprocess
import sys

import geopandas as gpd
import pytest
import rasterio
from rio_cogeo import cog_validate

from pipeline.product.files import check_product

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("demo"), pytest.mark.timeout(1800)]


def uvmap(*args, cwd):
    result = subprocess.run(
        [sys.executable, "-m", "flows.cli", *args], cwd=cwd, capture_output=True, text=True, timeout=1700, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    result = uvmap(
        "demo",
        "--side-m",
        "2000",
        "--epochs",
        "20",
        "--train-seconds",
        "1500",  # far more than it takes: the epochs end it, so that a busy machine learns as much as a quiet one
        "--out",
        str(folder / "demo"),
        cwd=folder,
    )
    return folder, json.loads(result.stdout.strip().splitlines()[-1]), result


def test_last_line_and_figures(demo):
    _, summary, result = demo
    assert {"iou_unseen", "iou_no_osm", "seconds", "product"} <= set(summary)
    # twenty passes over a small city (IoU 0.65); calling everything a village scores 0.1
    assert summary["iou_unseen"] > 0.4
    assert summary["iou_no_osm"] > 0.3
    assert "IoU" in result.stdout
    assert "%" in result.stderr  # progress bars


def test_product_is_whole(demo):
    folder, summary, _ = demo
    product = folder / "demo" / "990001"
    assert str(product) == summary["product"]
    assert check_product(product) == []
    valid, errors, _ = cog_validate(product / "990001_scores.tif", strict=True)
    assert valid, errors
    villages = gpd.read_parquet(product / "990001_uv.parquet")
    assert villages["uv_id"].is_unique
    assert villages.geometry.is_valid.all()
    assert len(gpd.read_file(product / "990001_uv.gpkg")) == len(villages) == summary["villages"]
    with rasterio.open(product / "990001_scores.tif") as scores:
        assert scores.nodata == 255
        assert scores.scales[0] == pytest.approx(1 / 250)
    page = (product / "report.html").read_text(encoding="utf-8")
    assert "Accuracy against complete reference" in page
    assert json.loads((product / "manifest.json").read_text())["figures"]["accuracy"]["iou_unseen_polygons"] > 0.4


def test_mapping_again_gives_the_same_bytes_and_does_nothing_twice(demo):
    folder, summary, _ = demo
    product = folder / "demo" / "990001"
    before = (product / "990001_scores.tif").read_bytes()
    args = ["map", "990001", "--data-root", "demo/data", "--checkpoint", summary["checkpoint"], "--stride-px", "160"]
    again = json.loads(uvmap(*args, "--out", "other", "--json", cwd=folder).stdout)
    assert (folder / "other" / "990001" / "990001_scores.tif").read_bytes() == before
    assert again["reused"] is False
    assert json.loads(uvmap(*args, "--out", "other", "--json", cwd=folder).stdout)["reused"] is True


def test_plan_and_report(demo):
    folder, summary, _ = demo
    args = ["plan", "990001", "--data-root", "demo/data", "--checkpoint", summary["checkpoint"], "--json"]
    plan = json.loads(uvmap(*args, cwd=folder).stdout)
    assert plan["total"]["ready"] == 1
    assert plan["total"]["pixels"] == pytest.approx(4e6, rel=0.1)
    assert plan["total"]["seconds"] > 0
    report = json.loads(uvmap("report", summary["product"], "--json", cwd=folder).stdout)
    assert report["faults"] == []
