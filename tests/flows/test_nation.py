"""The nation in miniature by its documented command: real server, worker, stages, sampling and estimate."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow(cpu_s=140), pytest.mark.xdist_group("nation"), pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
CAMPAIGN = ROOT / "regions" / "campaigns" / "nation-demo.yaml"
CITIES = 20


def test_a_small_nation_is_mapped_and_assessed(tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "UVMAP_HOME"))}
    small = tmp_path / "small.yaml"  # a quarter of the ground: what a city costs, not what the way of it is
    small.write_text(CAMPAIGN.read_text(encoding="utf-8").replace("demo_side_m: 1000", "demo_side_m: 500"))
    given = ["--cities", str(CITIES), "--campaign", str(small), "--out", str(tmp_path / "nation")]
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "nation", *given],
        cwd=ROOT, env={**env, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=1700, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (figures["cities"], figures["done"], figures["failed"]) == (CITIES, CITIES, 0)
    assert figures["orchestrator_share"] < 0.8  # a server and imports for twenty tiny cities; a tenth for the nation
    assert figures["assessed"]["cities_assessed"] == CITIES
    assert (tmp_path / "nation" / "tables" / "cities.csv").exists()
    assert Path(figures["assessed"]["report"]).exists()
