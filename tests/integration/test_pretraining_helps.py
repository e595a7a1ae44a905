"""With few labels, fine-tuning a pretrained encoder beats training from scratch; a short run of the benchmark.

The encoder is pretrained without labels on two other demo cities, then both arms learn from the same 24 tiles.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_fine_tuning_from_a_pretrained_encoder_beats_scratch(tmp_path):
    done = subprocess.run(
        [
            sys.executable, str(ROOT / "benchmarks" / "pretraining_gain.py"), "--work", str(tmp_path), "--cities", "2",
            "--tile-px", "112", "--epochs", "30", "--inputs", "image", "--no-probe", "--threads", "1",
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=2300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    facts = json.loads(done.stdout.splitlines()[-1])
    losses = facts["pretraining"]
    assert all(losses["after"][name] < losses["before"][name] for name in losses["before"])
    found = facts["fine_tuning"]["image"]
    assert len(found["gains"]) == 3
    assert min(found["gains"]) > 0, found
    assert found["mean_gain"] > 0.05, found
