"""What it costs to start a stage, and to find one that is finished.

    python benchmarks/stage_start.py [--side-m 1000] [--work FOLDER]

A demo city is mapped with a `tiny` model of random weights, every stage in a process of the nursery as flows do it;
then all stages once more, when they are done. Per stage: CPU seconds until its work began, of the whole process when
it worked and when it found its result, its peak memory, and the modules that it imported itself although the nursery
could have. For comparison: a fresh interpreter that imports the same modules.

The last line is one JSON object.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flows.nursery import modules_to_warm
from flows.process import Finished, run_isolated
from pipeline.city.ground import CityGround
from pipeline.city.job import CityJob
from pipeline.city.sources import find_sources
from pipeline.city.stage_table import stage_names
from regions.registry import find_city

ADCODE = "990101"


def fresh_import_cpu_s() -> float:
    """CPU seconds of an interpreter that imports what a stage needs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    program = "import importlib, sys\nfor m in sys.argv[1:]: importlib.import_module(m)"
    subprocess.run([sys.executable, "-c", program, *modules_to_warm()], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def save_random_model(folder: Path) -> None:
    """In a process of its own: torch stays out of this one."""
    program = f"""
import torch
from models.checkpoints import CheckpointConfig, ModelCard, save_checkpoint
from models.segmentation.config import SegmentationConfig
from models.segmentation.model import GeoLinkSegmenter
from pathlib import Path
torch.manual_seed(0)
config = SegmentationConfig.of_size("tiny")
save_checkpoint(Path({str(folder)!r}), weights=GeoLinkSegmenter(config).state_dict(),
    config=CheckpointConfig(kind="segmentation", model=config.model_dump(mode="json"), resolution_m=1.0),
    card=ModelCard(title="Random weights for a benchmark"))
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def main() -> None:
    """Measure, print the table, then one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side-m", type=int, default=1000)
    parser.add_argument("--work", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work: Path = given.work or Path(temporary)
        save_random_model(work / "model")
        data = work / "data" / ADCODE
        rows: dict[str, dict[str, Any]] = {}
        made = run({"kind": "demo-data", "folder": str(data), "adcode": ADCODE, "side_m": given.side_m}, "demo-data")
        rows["demo-data"] = {"work": made, "find": made}
        ground = CityGround(
            sources=find_sources(data, ADCODE), crs=find_city(ADCODE).crs, work=work / "out" / ".work" / ADCODE
        )
        job = CityJob(ground=ground, checkpoint=work / "model", out=work / "out" / ADCODE).model_dump(mode="json")
        for time_ in ("work", "find"):
            for stage in stage_names():
                done = run({"kind": "stage", "stage": stage, "job": job}, stage)
                rows.setdefault(stage, {})[time_] = done
    fresh = fresh_import_cpu_s()
    print(f"{'stage':<12} {'start':>8} {'works':>8} {'finds':>8} {'peak MB':>8}   CPU seconds; imported late")
    for stage, row in rows.items():
        late = ", ".join(row["work"].late_imports[:8])
        print(
            f"{stage:<12} {row['work'].start_cpu_s:8.3f} {row['work'].cpu_s:8.2f} {row['find'].cpu_s:8.2f} "
            f"{row['work'].peak_bytes / 1e6:8.0f}   {late}"
        )
    print(f"a fresh interpreter's imports: {fresh:.1f} CPU-s")
    figures = {
        "start_cpu_s": max(r["work"].start_cpu_s for r in rows.values()),
        "stages": {
            s: {"works_cpu_s": round(r["work"].cpu_s, 3), "finds_cpu_s": round(r["find"].cpu_s, 3)}
            for s, r in rows.items()
        },
        "city_cpu_s": round(sum(r["work"].cpu_s for s, r in rows.items() if s != "demo-data"), 2),
        "fresh_import_cpu_s": round(fresh, 2),
        "load": os.getloadavg()[0],
    }
    print(json.dumps(figures))


def run(request: dict[str, Any], what: str) -> Finished:
    """One piece of work in a process of the nursery; its lines go to standard error."""
    start = time.monotonic()
    done = run_isolated(request, what=what, log=lambda line: print(line, file=sys.stderr))
    print(f"{what}: {time.monotonic() - start:.2f} s", file=sys.stderr)
    return done


if __name__ == "__main__":
    main()
