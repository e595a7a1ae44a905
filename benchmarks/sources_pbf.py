"""One national PBF cut into the extracts of the national set, beside `osmium extract` with the same boxes.

A synthetic nation (`benchmarks/synthetic_nation.py`) is made once and kept in the folder given. Both engines run in
processes of their own, one after the other; wall and CPU time and peak memory are the system's account of each.
Equality comes first: every extract holds the same objects, compared as text.

    .venv/bin/python benchmarks/sources_pbf.py /tmp/nation --nodes 20000000
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from synthetic_nation import boxes, write_config, write_nation

from pipeline.extracts import cut_extracts


@dataclass(frozen=True)
class Cost:
    """What a process took."""

    wall_s: float
    cpu_s: float
    peak_gb: float
    ended: int


def run(command: list[str]) -> Cost:
    """Run a command and account for it and what it started."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    return Cost(
        time.perf_counter() - begun,
        used.ru_utime + used.ru_stime,
        used.ru_maxrss / 2**20,
        os.waitstatus_to_exitcode(status),
    )


def content(file: Path) -> str:
    """Digest of all objects of a file as text, metadata included, in their order."""
    digest = hashlib.sha256()
    with subprocess.Popen(["osmium", "cat", str(file), "-f", "opl", "-o", "-"], stdout=subprocess.PIPE) as process:
        while part := process.stdout.read(1 << 20):  # type: ignore[union-attr]
            digest.update(part)
    return digest.hexdigest()


def main() -> None:
    """Make the nation, cut it twice, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nodes", type=int, default=20_000_000)
    parser.add_argument("--id-step", type=int, default=1, help="600 spreads ids as the world's are")
    parser.add_argument("--ours-only", action="store_true", help="without osmium extract: for spread ids")
    parser.add_argument("--cut", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    source, config = given.folder / "nation.osm.pbf", given.folder / "boxes.json"
    ours, theirs = given.folder / "ours", given.folder / "theirs"
    if given.cut:
        cut_extracts(source, boxes(), ours)
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    if not source.exists():
        write_config(config)
        part = source.with_name("part.osm.pbf")
        kinds = write_nation(part, nodes=given.nodes, id_step=given.id_step)
        (given.folder / "nation.json").write_text(json.dumps(kinds))
        part.rename(source)
    kinds = json.loads((given.folder / "nation.json").read_text())
    for folder in (ours, theirs):
        shutil.rmtree(folder, ignore_errors=True)
    theirs.mkdir()
    costs = {}
    if not given.ours_only:
        command = ["osmium", "extract", "--config", str(config), "-d", str(theirs), "-s", "smart", "--no-progress"]
        costs["osmium extract -s smart"] = run([*command, str(source)])
    costs["uvmap extracts"] = run([sys.executable, __file__, str(given.folder), "--cut"])
    names = [f"{code}.osm.pbf" for code in boxes()]
    different = [] if given.ours_only else [n for n in names if content(ours / n) != content(theirs / n)]
    print(f"{kinds['nodes']:,} nodes, {kinds['ways']:,} ways, {kinds['relations']:,} relations, {len(names)} extracts")
    print(f"extracts that differ: {'not compared' if given.ours_only else len(different)}")
    print(f"{'engine':26s}{'wall s':>9s}{'CPU s':>9s}{'peak GB':>9s}")
    for name, cost in costs.items():
        print(f"{name:26s}{cost.wall_s:9.1f}{cost.cpu_s:9.1f}{cost.peak_gb:9.2f}")
    result: dict[str, object] = {
        **kinds,
        "extracts": len(names),
        "different": None if given.ours_only else len(different),
    }
    result |= {name: cost.__dict__ for name, cost in costs.items()}
    if not given.ours_only:
        one, other = costs["uvmap extracts"], costs["osmium extract -s smart"]
        result |= {"wall_ratio": round(one.wall_s / other.wall_s, 3), "cpu_ratio": round(one.cpu_s / other.cpu_s, 3)}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
