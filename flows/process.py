"""Heavy work in a process of its own: memory of GDAL and torch isolated, the GIL of the flow free.

The processes are forked by a nursery (`flows.nursery`) that has imported what they need, so a stage starts in
hundredths of a second. Each reads one line of JSON from its standard input and keeps that pipe open as a lifeline: when
the flow ends, however it ends, the pipe closes and the process kills its whole group. Output is streamed line by line;
the outcome comes back as a small JSON file.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.errors import StageFailedError
from flows.nursery import DESCRIPTORS

_TAIL_LINES = 5
_running: set[int] = set()
_running_lock = threading.Lock()


@dataclass(frozen=True)
class Finished:
    """What a process came back with.

    Attributes:
        result: What the work returned.
        start_cpu_s: CPU time of the process before its work began, seconds.
        cpu_s: CPU time of the process and its ended children in all, seconds.
        peak_bytes: Largest resident memory; what it shares with the nursery counts too.
        late_imports: Modules that it had to import itself.
    """

    result: dict[str, Any]
    start_cpu_s: float
    cpu_s: float
    peak_bytes: int
    late_imports: tuple[str, ...]


def run_isolated(request: dict[str, Any], *, what: str, log: Callable[[str], None]) -> Finished:
    """Carry out ``request`` in a process of its own and return what it returned.

    Args:
        request: JSON-able; ``kind`` is one of the keys of `flows.stage_process.KINDS`, the rest are its arguments.
        what: Names the work in errors, such as "990101 scores".
        log: Receives every line that the process writes.

    Raises:
        StageFailedError: the work failed (one line), or the process was killed.
    """
    with tempfile.TemporaryDirectory(prefix="uvmap-") as folder:
        outcome_file = Path(folder) / "outcome.json"
        tail: deque[str] = deque(maxlen=_TAIL_LINES)

        def hear(text: str) -> None:
            tail.append(text)
            log(text)

        end = _supervised({**request, "outcome_file": str(outcome_file)}, what, hear)
        if not outcome_file.exists():
            raise _died(what, end["code"], tail)
        outcome = json.loads(outcome_file.read_text(encoding="utf-8"))
    if "error" in outcome:
        raise StageFailedError(outcome["error"], transient=outcome["transient"])
    return Finished(
        outcome["result"],
        start_cpu_s=outcome["start_cpu_s"],
        cpu_s=end.get("cpu_s", 0.0),
        peak_bytes=end.get("peak_bytes", 0),
        late_imports=tuple(outcome["late_imports"]),
    )


def stop_all() -> None:
    """Kill every process that `run_isolated` has running; their callers get a `StageFailedError`."""
    with _running_lock:
        for pid in _running:
            _kill_group(pid)


def warm_up() -> None:
    """Start the nursery before it is needed: it imports while the run is planned."""
    _nursery.start()


def _supervised(request: dict[str, Any], what: str, hear: Callable[[str], None]) -> dict[str, Any]:
    """One process from its start to its end; how it ended."""
    given_read, given_write = os.pipe()
    output_read, output_write = os.pipe()
    status_read, status_write = os.pipe()
    with (
        os.fdopen(given_write, "wb", buffering=0) as lifeline,
        os.fdopen(output_read, encoding="utf-8", errors="replace") as output,
        os.fdopen(status_read, encoding="utf-8") as status,
    ):
        try:
            _nursery.fork((given_read, output_write, status_write))
        finally:
            for descriptor in (given_read, output_write, status_write):
                os.close(descriptor)
        first = status.readline()
        if not first:
            raise StageFailedError(f"{what}: the process that starts stages ended before it started", transient=True)
        pid: int = json.loads(first)["pid"]
        with _running_lock:
            _running.add(pid)
        try:
            with contextlib.suppress(BrokenPipeError):  # a child that died at once is reported by its exit code
                lifeline.write(json.dumps(request).encode() + b"\n")
            for line in output:
                if text := line.rstrip():
                    hear(text)
            last = status.readline()
        except BaseException:
            _kill_group(pid)
            raise
        finally:
            with _running_lock:
                _running.discard(pid)
        if not last:  # the nursery is gone; the child has ended all the same, as its output has
            _kill_group(pid)
            return {"code": -signal.SIGKILL}
        end: dict[str, Any] = json.loads(last)
        return end


class _Nursery:
    """The one nursery of this process: started when first needed, anew where it died or the environment changed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None
        self._environment: dict[str, str] = {}

    def fork(self, descriptors: tuple[int, ...]) -> None:
        """Have a child forked that holds the descriptors: standard input, output and status pipe."""
        if len(descriptors) != DESCRIPTORS:
            raise ValueError(f"{len(descriptors)} descriptors; a child takes {DESCRIPTORS}")
        with self._lock:
            link = self._ready()
            try:
                socket.send_fds(link, [b"."], descriptors)
            except OSError:  # it died since: once more with a new one
                self._end()
                socket.send_fds(self._ready(), [b"."], descriptors)

    def start(self) -> None:
        """Start it where none runs."""
        with self._lock:
            self._ready()

    def _ready(self) -> socket.socket:
        environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        }  # no CUDA before a fork
        if self._process is not None and (self._process.poll() is not None or self._environment != environment):
            self._end()
        if self._link is None:
            self._link, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "flows.nursery", str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                    pass_fds=(theirs.fileno(),),
                    env=environment,
                )
            self._environment = environment
        return self._link

    def _end(self) -> None:
        """Let it go: it ends with its last child."""
        if self._link is not None:
            self._link.close()
        if self._process is not None:
            threading.Thread(target=self._process.wait, daemon=True).start()
        self._link = self._process = None


_nursery = _Nursery()


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _died(what: str, code: int, tail: deque[str]) -> StageFailedError:
    last = f"; its last lines: {' | '.join(tail)}" if tail else ""
    if code == -signal.SIGKILL:
        return StageFailedError(
            f"{what}: killed from outside (SIGKILL): most likely out of memory; lower batch_size, block_px or "
            f"max_parallel_cities{last}",
            transient=True,
        )
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return StageFailedError(f"{what}: the process ended with {how} and no result{last}")
