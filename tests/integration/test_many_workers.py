"""The demo nation by two workers of one pool and by a Dask cluster of two processes: the files of one process.

Server, two workers and all stages for real: about 170 CPU seconds, so by hand: ``UVMAP_LONG_TESTS=1 pytest``. What it
rests on is tested for itself in the suite: `test_cluster`, `test_national_tables`, `test_scatter`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
POSTGRES = Path("/usr/lib/postgresql/15/bin")


@pytest.mark.slow(cpu_s=170)
@pytest.mark.timeout(2400)
@pytest.mark.skipif("UVMAP_LONG_TESTS" not in os.environ, reason="170 CPU seconds: set UVMAP_LONG_TESTS=1 to run it")
def test_two_workers_and_two_dask_processes_give_the_files_of_one_process():
    command = [sys.executable, str(ROOT / "benchmarks/many_workers.py")]
    command += ["--postgres", str(POSTGRES)] if (POSTGRES / "initdb").exists() else []
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["equal"] == {"workers": True, "dask": True}
    assert found["workers"] == ["one", "two"]
