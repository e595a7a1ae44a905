"""The demo as a user runs it, small: from nothing to a product with figures."""

import json
import subprocess
import sys

import geopandas as gpd
import pytest
import rasterio
from rio_cogeo import cog_validate

from pipeline.product.files import check_product
from tests.support.command_line import json_of

pytestmark = [pytest.mark.slow(cpu_s=110), pytest.mark.xdist_group("demo"), pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo in a process of its own, as a user starts it: folder, last line, all that was printed."""
    folder = tmp_path_factory.mktemp("demo")
    command = ["demo", "--side-m", "2000", "--epochs", "10", "--out", str(folder / "demo")]
    result = subprocess.run(
        [sys.executable, "-m", "flows.cli", *command],
        cwd=folder, capture_output=True, text=True, timeout=1700, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    return folder, json.loads(result.stdout.strip().splitlines()[-1]), result


@pytest.fixture
def uvmap(demo, monkeypatch):
    """Later commands in the demo's folder, in this process: what they print as JSON."""
    monkeypatch.chdir(demo[0])

    def command(*args):
        return json_of(*args, "--json")

    return command


def test_last_line_and_figures(demo):
    _, summary, result = demo
    assert {"iou_unseen", "iou_no_osm", "ece", "ece_before", "seconds", "product"} <= set(summary)
    assert 0 < summary["ece"] < 0.15
    # ten passes over a small city (IoU 0.58); calling everything a village scores 0.1
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
    assert "before calibration" in page
    assert json.loads((product / "manifest.json").read_text())["figures"]["accuracy"]["iou_unseen_polygons"] > 0.4


def test_mapping_again_gives_the_same_bytes_and_does_nothing_twice(demo, uvmap):
    folder, summary, _ = demo
    product = folder / "demo" / "990001"
    before = (product / "990001_scores.tif").read_bytes()
    args = ["map", "990001", "--data-root", "demo/data", "--checkpoint", summary["checkpoint"], "--stride-px", "160"]
    again = uvmap(*args, "--out", "other")
    assert (folder / "other" / "990001" / "990001_scores.tif").read_bytes() == before
    assert again["reused"] is False
    assert uvmap(*args, "--out", "other")["reused"] is True


def test_plan_and_report(demo, uvmap):
    _, summary, _ = demo
    plan = uvmap("plan", "990001", "--data-root", "demo/data", "--checkpoint", summary["checkpoint"])
    assert plan["total"]["ready"] == 1
    assert plan["total"]["pixels"] == pytest.approx(4e6, rel=0.1)
    assert plan["total"]["seconds"] > 0
    report = uvmap("report", summary["product"])
    assert report["faults"] == []
