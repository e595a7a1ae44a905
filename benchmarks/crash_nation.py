"""Kills processes of a small nation one after the other, runs it again, and compares with an uninterrupted one.

    python benchmarks/crash_nation.py [--cities 4] [--reference FOLDER] [--seed 0] [--victims flow server]

Victims, each killed with SIGKILL while cities are being mapped: a stage, the nursery, the flow, the worker, the server.
After each, `uvmap nation` is started again on the same folder, where a city is taken away before, so that there is work
to be struck. At the end every file of every product has the digest
that it has in the reference (made first where none is given). The last line is one JSON object.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from flows.record import read_record
from pipeline.files import sha256_of

ROOT = Path(__file__).resolve().parent.parent
VICTIMS = ("stage", "flow", "nursery", "worker", "server")


def nation(out: Path, cities: int) -> subprocess.Popen[bytes]:
    """`uvmap nation` on a folder."""
    command = [sys.executable, "-m", "flows.cli", "nation", "--cities", str(cities), "--out", str(out), "--json"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)


def records(out: Path) -> list[Path]:
    """Records of the runs on a folder, newest last."""
    return sorted((out / "products").glob("run-*.json"), key=lambda p: p.stat().st_mtime)


def victim_of(kind: str, out: Path, flow: int) -> psutil.Process | None:
    """The process to be killed, where it is there."""
    services = json.loads((out / "home" / "services.json").read_text())
    if kind in {"worker", "server"}:
        return psutil.Process(services[kind]["pid"])
    process = psutil.Process(flow)
    if kind == "flow":
        return process
    nurseries = [c for c in process.children() if "flows.nursery" in c.cmdline()]
    stages = [s for n in nurseries for s in n.children()]
    return next(iter(nurseries if kind == "nursery" else stages), None)


def strike(kind: str, out: Path, running: subprocess.Popen[bytes], known: set[Path], pause_s: float) -> bool:
    """Kill a process of a kind as soon as a stage is at work; whether there was one before the run ended."""
    while running.poll() is None:
        time.sleep(0.1)
        new = [p for p in records(out) if p not in known]
        try:
            record = read_record(new[-1]) if new else None
            if record is None or record.state != "running" or victim_of("stage", out, record.owner.pid) is None:
                continue
            time.sleep(pause_s)
            process = victim_of(kind, out, record.owner.pid)
            if process is not None:
                process.kill()
                return True
        except (psutil.Error, OSError):
            continue
    return False


def take_away(out: Path, k: int) -> None:
    """Product and intermediate results of one of the cities that are there."""
    products = out / "products"
    cities = sorted(p.name for p in products.iterdir() if p.name.isdigit())
    if cities:
        city = cities[k % len(cities)]
        shutil.rmtree(products / city)
        shutil.rmtree(products / ".work" / city, ignore_errors=True)


def digests(out: Path) -> dict[str, str]:
    """Digest of every file of every product."""
    products = out / "products"
    files = (p for city in products.iterdir() if city.name.isdigit() for p in city.rglob("*") if p.is_file())
    return {str(p.relative_to(products)): sha256_of(p) for p in sorted(files)}


def main() -> None:
    """Kill, run again, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cities", type=int, default=4)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--victims", nargs="+", default=list(VICTIMS), choices=VICTIMS)
    given = parser.parse_args()
    rng = random.Random(given.seed)  # noqa: S311 - moments, not secrets
    with tempfile.TemporaryDirectory() as temporary:
        reference = given.reference or Path(temporary) / "reference"
        if given.reference is None and nation(reference, given.cities).wait() != 0:
            raise SystemExit("the uninterrupted run failed")
        out = Path(temporary) / "struck"
        struck: list[str] = []
        for k, kind in enumerate(given.victims):
            if k:
                take_away(out, k - 1)
            known = set(records(out)) if out.exists() else set()
            running = nation(out, given.cities)
            if strike(kind, out, running, known, rng.uniform(0, 2)):
                struck.append(kind)
            print(f"{kind}: {'killed' if kind in struck else 'nothing to kill'}; waiting", file=sys.stderr)
            running.wait()
        last = nation(out, given.cities).wait()
        same = digests(out)
        wanted = digests(reference)
        summary = {
            "killed": struck,
            "last_run": last,
            "files": len(same),
            "different": sorted(k for k in wanted.keys() | same.keys() if wanted.get(k) != same.get(k)),
            "left_over": [p.pid for p in psutil.process_iter(["environ"]) if str(out) in str(p.info["environ"])],
            "load": os.getloadavg()[0],
        }
        print(json.dumps(summary))


if __name__ == "__main__":
    main()
