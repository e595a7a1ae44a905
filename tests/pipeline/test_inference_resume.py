"""Nothing is redone, nothing stale is kept: changed inputs, damaged files, kills, full disks.

Run as a script, this file is the driver of the kill test: a process of its own without threads, so that it can fork.
"""

import hashlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import shapely

from pipeline.disk import DiskFullError
from pipeline.imagery import ArrayImagery, open_imagery
from pipeline.inference import BlockPlan, predict_scores
from regions.raster.grid import Grid, Tiling
from tests.support.rasters import write_raster

GRID = Grid("EPSG:32650", 1.0, 500_003, -4_400_001, 420, 390)
TILING = Tiling(32, 24)
BLOCK_PX = 128
PLAN = BlockPlan.of_size(GRID, TILING, block_px=BLOCK_PX)


@dataclass
class PlainModel:
    """One minus the first band."""

    tile_px: int = 32
    bands: int = 3
    batch_size: int = 8
    digest: str = "v1"
    uses_graphs: bool = False
    calls: int = 0

    def predict(self, images, graphs):
        self.calls += 1
        return (1 - images[:, 0].astype(np.float32) / np.float32(255)).astype(np.float32)


def pixels(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 256, (3, GRID.height_px, GRID.width_px)).astype(np.uint8)


def write(path: Path, values: np.ndarray, **how) -> Path:
    return write_raster(path, GRID, values, nodata=0, **how)


def run(folder: Path, imagery, *, model=None, **how):
    how = {"grid": GRID, "tiling": TILING, "block_px": BLOCK_PX} | how
    return predict_scores(imagery, model or PlainModel(), None, out=folder / "s.tif", work=folder / "work", **how)


def redone(folder: Path, before: dict[str, str]) -> set[str]:
    return {name for name, sha in entries(folder).items() if before.get(name) != sha}


def entries(folder: Path) -> dict[str, str]:
    """Name of each block to when its entry was written last."""
    return {p.stem: str(p.stat().st_mtime_ns) for p in (folder / "work/files").iterdir()}


def test_second_run_does_nothing(tmp_path):
    with open_imagery([write(tmp_path / "i.tif", pixels())]) as imagery:
        first = run(tmp_path, imagery)
        written = first.path.stat().st_mtime_ns
        model = PlainModel()
        again = run(tmp_path, imagery, model=model)
    assert first.blocks_done == first.blocks_total == again.blocks_reused
    assert (again.blocks_done, again.tiles, model.calls, again.assembled) == (0, 0, 0, False)
    assert again.path.stat().st_mtime_ns == written
    assert again.digest == first.digest


@pytest.mark.parametrize("place", [(0, 0), (200, 200), (101, 97), (419, 389), (93, 250)])
def test_a_changed_pixel_redoes_exactly_the_blocks_it_touches(tmp_path, place):
    values = pixels()
    with open_imagery([write(tmp_path / "i.tif", values)]) as imagery:
        run(tmp_path, imagery)
    before = entries(tmp_path)
    values[0, *place] = values[0, *place] % 255 + 1
    with open_imagery([write(tmp_path / "i.tif", values)]) as imagery:
        result = run(tmp_path, imagery)
        fresh = run(tmp_path / "fresh", imagery)
    expected = set()
    for block in PLAN.blocks():
        tiles = PLAN.tiles(block)
        if ((tiles <= place) & (np.array(place) < tiles + 32)).all(axis=1).any():
            expected.add(block.name)
    changed = {name.rsplit("-", 1)[0] for name in redone(tmp_path, before)}
    assert changed == expected
    assert result.blocks_done == len(expected)
    assert result.blocks_reused == result.blocks_total - len(expected)
    assert result.digest == fresh.digest


def test_repacked_imagery_is_recognised_by_its_content(tmp_path):
    with open_imagery([write(tmp_path / "i.tif", pixels())]) as imagery:
        first = run(tmp_path, imagery)
    with open_imagery([write(tmp_path / "i.tif", pixels(), compress="lzw", blockxsize=128)]) as imagery:
        for _ in range(2):
            again = run(tmp_path, imagery)
            assert (again.blocks_done, again.digest) == (0, first.digest)


def test_what_else_shapes_a_block_is_in_its_key(tmp_path):
    imagery = ArrayImagery(pixels(), GRID)
    total = run(tmp_path, imagery).blocks_total
    assert run(tmp_path, imagery, model=PlainModel(digest="v2")).blocks_done == total
    assert run(tmp_path, imagery, model=PlainModel(digest="v2", batch_size=5)).blocks_done == total
    _, bottom, right, _ = GRID.bounds_m
    model = PlainModel(digest="v2", batch_size=5)
    # an area that leaves out one pixel of the lower right corner: only the last block sees it
    area = shapely.box(*GRID.bounds_m) - shapely.box(right - 1, bottom, right, bottom + 1)
    assert run(tmp_path, imagery, model=model, aoi=area).blocks_done == 1
    assert run(tmp_path, imagery, model=model, aoi=area).blocks_done == 0
    # a grid that is wider by 3 px: the blocks at its right edge
    wider = replace(GRID, width_px=GRID.width_px + 3)
    imagery = ArrayImagery(np.pad(pixels(), ((0, 0), (0, 0), (0, 3))), wider)
    rows = len({b.row for b in PLAN.blocks()})
    done = run(tmp_path, imagery, model=model, grid=wider).blocks_done
    assert rows <= done <= 2 * rows


def test_damaged_block_is_redone_and_the_raster_is_mended(tmp_path):
    imagery = ArrayImagery(pixels(), GRID)
    first = run(tmp_path, imagery)
    files = sorted((tmp_path / "work/files").iterdir())
    files[3].write_bytes(files[3].read_bytes()[:-100])
    files[5].unlink()
    data = bytearray(files[7].read_bytes())
    data[len(data) // 2] ^= 1
    files[7].write_bytes(bytes(data))
    second = run(tmp_path, imagery)
    assert (second.blocks_done, second.digest) == (3, first.digest)
    first.path.write_bytes(first.path.read_bytes()[:-500])
    third = run(tmp_path, imagery)
    assert (third.blocks_done, third.assembled, third.digest) == (0, True, first.digest)
    assert sha256_of(third.path) == first.digest


def test_sigkill_at_every_rename_and_at_random_moments(tmp_path):
    done = subprocess.run(
        [sys.executable, __file__, "kill", str(tmp_path)], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    assert all(r["equal"] for r in rounds)
    assert all(r["left_over"] == 0 for r in rounds)
    placed = [r for r in rounds if r["rename"] is not None]
    blocks = len(list(PLAN.blocks()))
    # of each block its file and its entry, then the raster and its entry: each was about to be put in its place
    assert [r["rename"] for r in placed] == list(range(2 * blocks + 2))
    assert [r["reused"] for r in placed] == [*(n // 2 for n in range(2 * blocks)), blocks, blocks]
    assert all(r["torn"] for r in placed)
    assert len(rounds) == len(placed) + 4


def kill_rounds(folder: Path) -> None:
    """Kill runs before their first, second, ... rename until one ends by itself, then four at random moments.

    All runs are in children: after a run, GDAL believes in threads that a fork would not have.
    """
    imagery = ArrayImagery(pixels(), GRID)
    start = time.perf_counter()
    killed(folder / "whole", imagery)
    seconds = time.perf_counter() - start
    expected = sha256_of(folder / "whole" / "s.tif")
    for rename in itertools.count():
        at = folder / f"rename{rename}"
        if not killed(at, imagery, before_rename=rename):
            break
        report_round(at, imagery, expected, rename=rename)
    rng = random.Random(5)
    rounds = 0
    for attempt in range(400):
        at = folder / f"random{attempt}"
        if killed(at, imagery, after_s=rng.uniform(0, seconds)):
            report_round(at, imagery, expected, rename=None)
            rounds += 1
        else:
            seconds *= 0.8  # it had ended by itself: the machine is quicker than it was
        if rounds == 4:
            return


def killed(folder: Path, imagery, *, before_rename: int | None = None, after_s: float | None = None) -> bool:
    """Whether a run in a child was killed: by itself before a rename, counted from 0, or from here after a time."""
    pid = os.fork()
    if pid == 0:
        seen = itertools.count()

        def die(event: str, _: object) -> None:
            if event == "os.rename" and next(seen) == before_rename:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(die)  # `os.replace` gives this event too, before it does anything
        run(folder, imagery)
        os._exit(0)
    if after_s is not None:
        time.sleep(after_s)
        os.kill(pid, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def report_round(folder: Path, imagery, expected: str, *, rename: int | None) -> None:
    """Run again in a child, which prints what it found and left."""
    pid = os.fork()
    if pid == 0:
        torn = temporaries(folder)
        result = run(folder, imagery)
        report = {
            "rename": rename,
            "reused": result.blocks_reused,
            "equal": sha256_of(result.path) == expected,
            "torn": len(torn),
            "left_over": len(temporaries(folder)),
        }
        os.write(1, (json.dumps(report) + "\n").encode())
        os._exit(0)
    os.waitpid(pid, 0)


def sha256_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def temporaries(folder: Path) -> list[Path]:
    """What is not yet at its place: hidden files, and whatever else is called temporary."""
    return [p for p in folder.rglob("*") if p.name.startswith(".") or ".tmp" in p.name or p.suffix == ".part"]


@pytest.fixture
def small_disk():
    """A file system of 1.2 MB, where this process may mount one."""
    folder = Path(tempfile.mkdtemp(prefix="small-disk-"))
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("only root can mount a small file system; the limit on file size is tested in any case")
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1200k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if made.returncode != 0:
        pytest.skip(f"cannot mount a small file system here: {made.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=False)
    folder.rmdir()


def test_full_disk_gives_a_clear_error_and_a_clean_resume(tmp_path, small_disk):
    imagery = ArrayImagery(pixels(), GRID)
    expected = run(tmp_path, imagery).digest
    ballast = small_disk / "ballast"
    kept = []
    for free_kb in (100, 120, 180, 200):
        ballast.write_bytes(b"x" * (1_200_000 - free_kb * 1000 - used(small_disk, ballast)))
        with pytest.raises(DiskFullError, match="free space or raise the quota, then run the same command again"):
            run(small_disk, imagery)
        assert not (small_disk / "s.tif").exists()
        assert not list(small_disk.rglob(".*.part"))
        kept.append(len(list((small_disk / "work/entries").iterdir())))
        ballast.unlink()
    assert kept[-1] > 0
    assert kept == sorted(kept)
    result = run(small_disk, imagery)
    assert result.blocks_reused == kept[-1]
    assert result.digest == expected


def used(folder: Path, apart: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file() and p != apart)


def test_file_size_limit_gives_a_clear_error_and_a_clean_resume(tmp_path):
    for limit in (20_000, 120_000):
        done = subprocess.run(
            [sys.executable, __file__, "limit", str(tmp_path), str(limit)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 3, done.stderr
        assert "DiskFullError" in done.stdout
        assert not (tmp_path / "s.tif").exists()
    imagery = ArrayImagery(pixels(), GRID)
    result = run(tmp_path, imagery)
    assert result.digest == run(tmp_path / "fresh", imagery).digest


def limited_run(folder: Path, limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        run(folder, ArrayImagery(pixels(), GRID))
    except DiskFullError as error:
        sys.stdout.write(f"DiskFullError: {error}\n")
        raise SystemExit(3) from error


if __name__ == "__main__":
    if sys.argv[1] == "kill":
        kill_rounds(Path(sys.argv[2]))
    else:
        limited_run(Path(sys.argv[2]), int(sys.argv[3]))
