"""Locks between processes: one works on a city, and one stage holds a GPU; the system frees them on any death."""

import contextlib
import fcntl
import os
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from flows.errors import CityBusyError
from flows.home import uvmap_home

BUSY_PATIENCE_S = 10.0
"""How long a stage waits for the lock of its city: longer than an orphan takes to die."""


@contextlib.contextmanager
def city_lock(folder: Path) -> Iterator[None]:
    """Hold the city's lock file beside ``folder`` for as long as the block runs; the system frees it on any death.

    On a shared folder the lock holds between machines where its file system passes locks on (NFS 4, NFS 3 with its lock
    daemon, Lustre mounted with flock, CephFS); `docs/scaling.md` says how to find out.

    Raises:
        CityBusyError: another process holds it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    with path.open("a+", encoding="utf-8") as file:
        deadline = time.monotonic() + BUSY_PATIENCE_S
        while not _try_lock(file):
            if time.monotonic() > deadline:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise CityBusyError(f"{folder}: process {holder} works on this city; wait for it or stop that run")
            time.sleep(0.2)
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


@contextlib.contextmanager
def hold_accelerator() -> Iterator[None]:
    """Take one GPU that no other stage on this machine holds, and show only that one to torch."""
    devices = gpu_devices()
    if not devices:
        yield
        return
    folder = uvmap_home() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        for device in devices:
            name = re.sub(r"[^A-Za-z0-9.-]", "_", f"{socket.gethostname()}-{device}")  # homes may be shared
            with (folder / f"gpu-{name}.lock").open("a") as file:
                if _try_lock(file):
                    os.environ["CUDA_VISIBLE_DEVICES"] = device
                    yield
                    return
        time.sleep(1.0)


@contextlib.contextmanager
def hold_processor(slots: int) -> Iterator[None]:
    """Take one of this machine's ``slots`` for stages without a model, whichever run they belong to; wait for one."""
    folder = uvmap_home() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        for k in range(slots):
            with (folder / f"cpu-{k}.lock").open("a") as file:
                if _try_lock(file):
                    yield
                    return
        time.sleep(0.2)


def gpu_devices() -> list[str]:
    """Names of the GPUs this process may use: ``CUDA_VISIBLE_DEVICES``, or the NVIDIA devices of the machine."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [d for d in visible.split(",") if d and d != "-1"]
    found = (re.fullmatch(r"nvidia(\d+)", p.name) for p in Path("/dev").glob("nvidia*"))
    return sorted((m[1] for m in found if m), key=int)


def _try_lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
