"""Fixtures that all rooms share, the order of the tests, and their share of the machine."""

import os
from collections import Counter
from pathlib import Path

# before torch and NumPy are imported: workers with two threads each would wait for each other on two cores; the
# processes that tests start inherit it. Only in a worker: what the controlling process sets, all workers inherit
if (workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT")) is not None:
    threads = max(1, (os.cpu_count() or 1) // int(workers))
    os.environ |= {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The most expensive groups first, so that no long test is left for the end while the other worker idles.

    `slow` takes the CPU seconds of a test (`pytest.mark.slow(cpu_s=60)`); a group costs what its tests cost together.
    The order within a group, and of all that is not slow, stays.
    """
    costs = Counter[str]()
    for item in items:
        if slow := item.get_closest_marker("slow"):
            costs[_group(item)] += slow.kwargs.get("cpu_s", 1)
    items.sort(key=lambda item: -costs[_group(item)])


def _group(item: pytest.Item) -> str:
    """What pytest-xdist keeps on one worker: the group of a test, or the test alone."""
    group = item.get_closest_marker("xdist_group")
    return str(group.args[0]) if group else item.nodeid


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared data folder: UVMAP_SHARED, or `shared` beside the checkout; skips where it is absent."""
    path = Path(os.environ.get("UVMAP_SHARED", ROOT.parent / "shared"))
    if not (path / "README.md").exists():
        pytest.skip(f"shared data not found at {path}: set UVMAP_SHARED to run this test")
    return path


settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("dev", deadline=None)
settings.register_profile("long", deadline=None, max_examples=2000)  # for the fuzz tests of readers, by hand
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
