"""Demo cities by two workers of one pool, by a Dask cluster of two processes, and by one process: equal files?

    python benchmarks/many_workers.py [--cities 2] [--postgres /usr/lib/postgresql/15/bin]

A server on PostgreSQL (SQLite without ``--postgres``) and two homes, as if of two machines, whose workers draw the runs
of `uvmap scatter`, one at a time each. All with one thread per process: scores on a CPU are the same to the bit at one
number of threads. Prints a table and, as its last line, one JSON object.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import yaml

os.environ["OMP_NUM_THREADS"] = "1"  # before torch
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PATIENCE_S = 1500.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def checksums(out: Path) -> dict[str, str]:
    """Of all files of all products under a folder, work folders and records left out."""
    files = sorted(p for p in out.glob("9*/**/*") if p.is_file())
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


class Postgres:
    """A database server of its own, run by the user ``postgres`` where this one is root."""

    def __init__(self, bins: Path, folder: Path) -> None:
        self.bins, self.folder, self.port = bins, folder, free_port()
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)  # another user makes its files in it
        self._run(f"{bins}/initdb -D {folder}/data -U uvmap --auth=trust -E UTF8")
        options = f"-p {self.port} -k {folder} -c listen_addresses=127.0.0.1"
        self._run(f"{bins}/pg_ctl -D {folder}/data -o '{options}' -l {folder}/log -w start")
        self._run(f"{bins}/createdb -h 127.0.0.1 -p {self.port} -U uvmap uvmap")

    @property
    def url(self) -> str:
        """As Prefect takes it."""
        return f"postgresql+asyncpg://uvmap@127.0.0.1:{self.port}/uvmap"

    def count_runs(self) -> str:
        """Flow runs in the database."""
        query = "select count(*) from flow_run"
        return self._run(f"{self.bins}/psql -h 127.0.0.1 -p {self.port} -U uvmap -Atc '{query}'")

    def stop(self) -> None:
        """Take it down."""
        self._run(f"{self.bins}/pg_ctl -D {self.folder}/data -m fast -w stop")

    def _run(self, command: str) -> str:
        words = ["su", "postgres", "-c", command] if os.geteuid() == 0 else ["bash", "-c", command]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd="/tmp")  # noqa: S108
        if done.returncode:
            raise SystemExit(f"{command}: {done.stderr[-800:]}")
        return done.stdout.strip()


def prepare(folder: Path, cities: int) -> Path:
    """Data of demo cities, a `tiny` model with random weights, and a campaign."""
    import torch  # noqa: PLC0415

    from models.checkpoints import CheckpointConfig, ModelCard, save_checkpoint  # noqa: PLC0415
    from models.segmentation.config import SegmentationConfig  # noqa: PLC0415
    from models.segmentation.model import GeoLinkSegmenter  # noqa: PLC0415
    from regions.demo import generate_demo_city  # noqa: PLC0415

    codes = [f"99010{k}" for k in range(1, cities + 1)]
    for code in codes:
        generate_demo_city(folder / "data" / code, seed=int(code), side_m=1000, adcode=code)
    torch.manual_seed(0)
    config = SegmentationConfig.of_size("tiny")
    save_checkpoint(
        folder / "model",
        weights=GeoLinkSegmenter(config).state_dict(),
        config=CheckpointConfig(kind="segmentation", model=config.model_dump(mode="json"), resolution_m=1.0),
        card=ModelCard(title="Random weights"),
    )
    campaign = {
        "name": "many", "version": "1.0.0", "cities": codes, "data_root": str(folder / "data"),
        "out_root": str(folder / "workers"), "checkpoint": str(folder / "model"), "grid": {"block_px": 1024},
    }  # fmt: skip
    path = folder / "many.yaml"
    path.write_text(yaml.safe_dump(campaign), encoding="utf-8")
    return path


def by_workers(folder: Path, campaign: Path, database: str | None) -> tuple[float, dict[str, str]]:
    """Seconds of the runs, and which worker did which run."""
    port = free_port()
    base = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    base |= {"PYTHONPATH": str(ROOT), "DO_NOT_TRACK": "1", "OMP_NUM_THREADS": "1", "HOME": str(folder)}
    homes = [base | {"UVMAP_HOME": str(folder / h), "PREFECT_HOME": str(folder / h / "user")} for h in ("one", "two")]
    if database is not None:
        homes[0]["PREFECT_API_DATABASE_CONNECTION_URL"] = database

    def uvmap(home: int, *arguments: str) -> str:
        command = [sys.executable, "-m", "flows.cli", *arguments]
        done = subprocess.run(command, env=homes[home], cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"uvmap {' '.join(arguments)}: {done.stdout[-1500:]} {done.stderr[-1500:]}")
        return done.stdout

    try:
        uvmap(0, "up", "--port", str(port), "--runs", "1", "--gpus", "2", "--cpus", "2")
        uvmap(1, "up", "--join", f"http://127.0.0.1:{port}")
        start = time.monotonic()
        runs = json.loads(uvmap(0, "scatter", "--campaign", str(campaign), "--runs", "2", "--json"))["runs"]
        again = json.loads(uvmap(0, "scatter", "--campaign", str(campaign), "--runs", "2", "--json"))["runs"]
        assert again == runs, "the same scattering starts nothing twice"
        while True:
            api = f"http://127.0.0.1:{port}/api/flow_runs"
            states = {r: httpx.get(f"{api}/{r}", trust_env=False, timeout=60).json()["state"] for r in runs}
            kinds = {s["type"] for s in states.values()}
            if kinds == {"COMPLETED"}:
                break
            if kinds & {"FAILED", "CRASHED", "CANCELLED"} or time.monotonic() - start > PATIENCE_S:
                raise SystemExit(f"runs ended as {[(s['name'], s['message']) for s in states.values()]}")
            time.sleep(2)
        seconds = time.monotonic() - start
        done = {}
        for home in ("one", "two"):
            log = (folder / home / "logs" / "worker.log").read_text(encoding="utf-8", errors="replace")
            done |= {run: home for run in runs if re.search(run, log)}
        return seconds, done
    finally:
        for home in (1, 0):
            uvmap(home, "down", "--force")


def by_dask(campaign: Path, out: Path, workers: int | None) -> float:
    """All cities by `map_city`, on a cluster of processes or, without one, here; seconds."""
    from pipeline.city.job import job_of  # noqa: PLC0415
    from pipeline.city.stages import map_city  # noqa: PLC0415
    from pipeline.national.cluster import in_order, open_cluster  # noqa: PLC0415
    from regions.campaign import load_campaign  # noqa: PLC0415
    from regions.settings import ClusterConfig  # noqa: PLC0415

    settings = load_campaign(campaign).model_copy(update={"out_root": out})
    jobs = [job_of(settings, city) for city in settings.selected()]
    start = time.monotonic()
    if workers is None:
        list(in_order(None, map_city, jobs))
    else:
        with open_cluster(ClusterConfig(workers=workers)) as client:
            list(in_order(client, map_city, jobs))
    return time.monotonic() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cities", type=int, default=2)
    parser.add_argument("--postgres", type=Path, help="folder of PostgreSQL's programs")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="uvmap-many-"))
    folder.chmod(0o755)
    database = Postgres(args.postgres, folder / "pg") if args.postgres else None
    try:
        campaign = prepare(folder, args.cities)
        seconds, done = by_workers(folder, campaign, None if database is None else database.url)
        rows = None if database is None else database.count_runs()
    finally:
        if database is not None:
            database.stop()
    dask = by_dask(campaign, folder / "dask", 2)
    one = by_dask(campaign, folder / "one-process", None)
    wanted = checksums(folder / "one-process")
    equal = {name: checksums(folder / name) == wanted for name in ("workers", "dask")}
    print(f"{len(wanted)} files of {args.cities} cities; equal to those of one process: {equal}")
    print(f"runs by worker: {done}; flow runs in PostgreSQL: {rows}")
    print(f"seconds: two workers {seconds:.0f}, two Dask processes {dask:.0f}, one process {one:.0f}")
    if not all(equal.values()):
        for name in equal:
            differing = [f for f, d in checksums(folder / name).items() if wanted.get(f) != d]
            print(name, differing[:8], sorted(set(wanted) ^ set(checksums(folder / name)))[:8])
        raise SystemExit("files differ")
    shutil.rmtree(folder, ignore_errors=True)
    print(
        json.dumps(
            {
                "cities": args.cities, "files": len(wanted), "equal": equal, "workers": sorted(set(done.values())),
                "flow_runs_in_postgres": rows, "seconds": {"workers": seconds, "dask": dask, "one": one},
                "load": os.getloadavg()[0],
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
