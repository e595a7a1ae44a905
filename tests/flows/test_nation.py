"""The nation in miniature by its documented command: real server, worker, stages, sampling and estimate."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow(cpu_s=230), pytest.mark.xdist_group("nation"), pytest.mark.timeout(1800)]

ROOT = Path(__file__).resolve().parents[2]
CITIES = 20


def test_a_small_nation_is_mapped_and_assessed(tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT", "UVMAP_HOME"))}
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "nation", "--cities", str(CITIES), "--out", str(tmp_path / "nation")],
        cwd=ROOT, env={**env, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=1700, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(done.stdout.splitlines()[-1])
    assert (figures["cities"], figures["done"], figures["failed"]) == (CITIES, CITIES, 0)
    assert figures["orchestrator_share"] < 0.5  # a server and imports for twenty small cities; a tenth for the nation
    assert figures["assessed"]["cities_assessed"] == CITIES
    assert (tmp_path / "nation" / "tables" / "cities.csv").exists()
    assert Path(figures["assessed"]["report"]).exists()
