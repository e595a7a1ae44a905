"""A process that has the heavy modules imported and forks one child per piece of work.

Started by `flows.process` with one end of a socket pair. Each message on it is one byte with three descriptors: the
child's standard input, its output, and a pipe on which the nursery tells the child's id and, at its end, how it ended
and what it used. Imports are all that is done before a fork: no file of GDAL is open, CUDA is not initialised, no
pool of threads of OpenMP has started (those of OpenBLAS and jemalloc mind forks by handlers of their own). The
nursery ends when its parent's end of the socket closes; children watch their own standard input.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import selectors
import signal
import socket
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path

from pipeline.city.stage_table import STAGES, Stage

DESCRIPTORS = 3
"""What comes with a message: standard input, output, status pipe of the child."""
_ALSO = (
    "flows.stage_process",
    "pipeline.city.stages",
    "pipeline.city.plan",
    "pipeline.graph",
    "models.segmentation.predictor",
    "models.segmentation.adaptation",
    "segmentation_models_pytorch.decoders.upernet.decoder",
    "pipeline.refinement.built_in",
    "regions.demo",
    "pyarrow.pandas_compat",
    "geopandas.io._geoarrow",
)
"""Imported beside the stages' own modules, as stages import them only when they need them."""


def modules_to_warm(stages: Iterable[Stage] = STAGES) -> tuple[str, ...]:
    """Modules that the stages of a table name, and those they are known to import later, each once."""
    named = (module for stage in stages for module in stage.modules)
    return tuple(dict.fromkeys((*_ALSO, *named)))


def main() -> None:
    """Entry: warm up, then fork a child for every message until the parent is gone."""
    link = socket.socket(fileno=int(sys.argv[1]))
    for module in modules_to_warm():
        if _closed(link):
            return
        try:
            importlib.import_module(module)
        except Exception:  # noqa: BLE001 - the stage that needs it says so, in its own words
            traceback.print_exc()
    cold = cuda_is_open()
    if cold:
        sys.stderr.write("an import has initialised CUDA, so every stage starts an interpreter of its own\n")
    gc.collect()
    gc.freeze()
    _Nursery(link, cold=cold).serve()
    os._exit(0)  # nothing is open that an orderly end would close, and libraries report leaks then


def cuda_is_open(descriptors: Path = Path("/proc/self/fd")) -> bool:
    """Whether this process has initialised CUDA, which no forked child could then use."""
    for descriptor in descriptors.iterdir():
        with contextlib.suppress(OSError):
            if str(descriptor.readlink()).startswith("/dev/nvidia-uvm"):
                return True
    return False


def _closed(link: socket.socket) -> bool:
    """Whether the parent has gone meanwhile."""
    ready = select.poll()
    ready.register(link, select.POLLHUP | select.POLLRDHUP)
    return bool(ready.poll(0))


class _Nursery:
    def __init__(self, link: socket.socket, *, cold: bool) -> None:
        self._link = link
        self._cold = cold
        self._status: dict[int, int] = {}
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_write, False)
        os.set_blocking(self._wake_read, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)

    def serve(self) -> None:
        """Fork for every message, and tell of every child that ended; until the parent and all children are gone."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._link, selectors.EVENT_READ)
            selector.register(self._wake_read, selectors.EVENT_READ)
            open_ = True
            while open_ or self._status:
                for key, _ in selector.select():
                    if key.fileobj is not self._link:
                        with contextlib.suppress(BlockingIOError):
                            os.read(self._wake_read, 4096)
                        self._reap()
                    elif not self._fork():
                        selector.unregister(self._link)
                        open_ = False

    def _fork(self) -> bool:
        """Take one message and fork; whether there was one."""
        message, descriptors, _, _ = socket.recv_fds(self._link, 1, DESCRIPTORS)
        if not message:
            return False
        given, output, status = descriptors
        pid = os.fork()
        if pid == 0:
            self._be_child(given, output, status)
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)  # here and in the child: whoever comes first
        os.close(given)
        os.close(output)
        self._status[pid] = status
        _tell(status, {"pid": pid})
        return True

    def _reap(self) -> None:
        """Kill what ended children left behind, then collect them: until then nobody else can have their ids."""
        while self._status:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None:
                return
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(found.si_pid, signal.SIGKILL)
            _, code, used = os.wait4(found.si_pid, 0)
            status = self._status.pop(found.si_pid, None)
            if status is not None:
                end = {
                    "code": os.waitstatus_to_exitcode(code),
                    "cpu_s": used.ru_utime + used.ru_stime,
                    "peak_bytes": used.ru_maxrss * 1024,
                }
                _tell(status, end)
                os.close(status)

    def _be_child(self, given: int, output: int, status: int) -> None:
        code = 1
        try:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            os.dup2(given, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            # a status pipe that a child kept open would hide that the nursery is gone
            for descriptor in (given, output, status, self._wake_read, self._wake_write, *self._status.values()):
                os.close(descriptor)
            self._link.close()
            if self._cold:
                os.execv(sys.executable, [sys.executable, "-m", "flows.stage_process"])  # noqa: S606
            from flows.stage_process import main as work

            work()
            code = 0
        except BaseException:  # noqa: BLE001 - a child must never go on as a second nursery
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


def _tell(status: int, word: dict[str, float]) -> None:
    with contextlib.suppress(BrokenPipeError):  # a parent that gave up on this child
        os.write(status, json.dumps(word).encode() + b"\n")


if __name__ == "__main__":
    main()
