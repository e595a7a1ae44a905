"""Heavy work in a process of its own: memory of GDAL and torch isolated, the GIL of the flow free.

The parent starts a fresh interpreter (`python -m flows.process`), writes one line of JSON to its standard input and
keeps that pipe open as a lifeline: when the parent ends, however it ends, the pipe closes and the child kills its
whole process group. Output is streamed line by line; the outcome comes back as a small JSON file.
"""

import contextlib
import errno
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accuracy.errors import AccuracyError
from flows.errors import FlowsError, StageFailedError
from flows.locks import city_lock, hold_accelerator
from models.errors import ModelsError
from pipeline.city.job import CityJob
from pipeline.city.stage_table import find_stage
from pipeline.errors import PipelineError
from pipeline.files import replacing_folder, write_json
from regions.errors import RegionsError

TYPED_ERRORS = (PipelineError, RegionsError, ModelsError, AccuracyError)
_TAIL_LINES = 5
_TRANSIENT_ERRNOS = frozenset({
    errno.EAGAIN, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH, errno.EINTR,
    errno.EIO, errno.ENETDOWN, errno.ENETRESET, errno.ENETUNREACH, errno.ENOBUFS, errno.ENOLCK, errno.EPIPE,
    errno.ESTALE, errno.ETIMEDOUT,
})  # fmt: skip

_children: set[subprocess.Popen[str]] = set()
_children_lock = threading.Lock()


def run_isolated(request: dict[str, Any], *, what: str, log: Callable[[str], None]) -> dict[str, Any]:
    """Carry out ``request`` in a fresh interpreter and return what it returned.

    Args:
        request: JSON-able; ``kind`` is one of the keys of `_KINDS`, the rest are its arguments.
        what: Names the work in errors, such as "990101 scores".
        log: Receives every line that the child writes.

    Raises:
        StageFailedError: the work failed (one line), or the process was killed.
    """
    with tempfile.TemporaryDirectory(prefix="uvmap-") as folder:
        outcome_file = Path(folder) / "outcome.json"
        tail: deque[str] = deque(maxlen=_TAIL_LINES)
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        with _children_lock:
            _children.add(process)
        try:
            _send(process, {**request, "outcome_file": str(outcome_file)})
            for line in process.stdout or ():
                text = line.rstrip()
                if text:
                    tail.append(text)
                    log(text)
            code = process.wait()
        finally:
            _kill_group(process)
            with _children_lock:
                _children.discard(process)
        if not outcome_file.exists():
            raise _died(what, code, tail)
        outcome = json.loads(outcome_file.read_text(encoding="utf-8"))
    if "error" in outcome:
        raise StageFailedError(outcome["error"], transient=outcome["transient"])
    result: dict[str, Any] = outcome["result"]
    return result


def stop_all() -> None:
    """Kill every process that `run_isolated` has running; their callers get a `StageFailedError`."""
    with _children_lock:
        running = list(_children)
    for process in running:
        _kill_group(process)


def is_transient(error: BaseException) -> bool:
    """Whether ``error``, or an error that caused it, may go away by itself: network, timeouts, I/O hiccups."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, TimeoutError | ConnectionError | InterruptedError):
            return True
        if isinstance(seen, OSError) and seen.errno in _TRANSIENT_ERRNOS:
            return True
        if any(c.__name__ == "TransportError" and c.__module__.startswith("httpx") for c in type(seen).__mro__):
            return True
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return False


def one_line(error: BaseException) -> str:
    """The error as one line; typed errors carry their whole message, others are named by their class."""
    text = " ".join(str(error).split())
    return text if isinstance(error, TYPED_ERRORS) and text else f"{type(error).__name__}: {text}".rstrip(": ")


def _send(process: subprocess.Popen[str], request: dict[str, Any]) -> None:
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):  # a child that died at once is reported by its exit code
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()


def _kill_group(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


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


# --- in the child ---------------------------------------------------------------------------------------------------


def main() -> None:
    """Entry of the child: read the request, work, write the outcome."""
    request = json.loads(_first_line())
    threading.Thread(target=_die_with_parent, daemon=True).start()
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO, stream=sys.stderr)
    logging.getLogger("rasterio").setLevel(logging.WARNING)  # it reports every error of GDAL that is caught anyway
    if "UVMAP_DEBUG" not in os.environ:
        warnings.simplefilter("ignore")
    target = Path(request.pop("outcome_file"))
    try:
        outcome: dict[str, Any] = {"result": _KINDS[request.pop("kind")](**request)}
    except Exception as error:  # noqa: BLE001 - everything a stage can raise is reported to the parent
        if not isinstance(error, TYPED_ERRORS) or "UVMAP_DEBUG" in os.environ:
            traceback.print_exc()
        outcome = {"error": one_line(error), "transient": is_transient(error)}
    write_json(target, outcome)


def _run_stage(*, stage: str, job: dict[str, Any]) -> dict[str, Any]:
    with contextlib.ExitStack() as held:
        if find_stage(stage).uses_model:
            held.enter_context(hold_accelerator())
        from pipeline.city import stages  # imports torch: only now that the accelerator is chosen

        parsed = CityJob.model_validate(job)
        held.enter_context(city_lock(parsed.out))
        return stages.run_stage(stage, parsed, progress=False)


def _make_demo_data(*, folder: str, adcode: str, side_m: int) -> dict[str, Any]:
    from regions.demo import generate_demo_city  # only where data are generated

    target = Path(folder)
    with city_lock(target):
        if target.is_dir():
            return {"folder": folder, "generated": False}
        with replacing_folder(target) as made:
            generate_demo_city(made, seed=int(adcode), side_m=side_m, adcode=adcode)
    return {"folder": folder, "generated": True}


def _plan(*, jobs: list[dict[str, Any]]) -> dict[str, Any]:
    with hold_accelerator():
        from pipeline.city import plan  # imports torch: only now that the accelerator is chosen

        parsed = [CityJob.model_validate(raw) for raw in jobs]
        try:
            speed = plan.measure_throughput(parsed[0].checkpoint, batch_size=parsed[0].batch_size)
        except TYPED_ERRORS as error:
            logging.getLogger(__name__).warning("no measured throughput, so no estimate of time: %s", one_line(error))
            speed = None
        plans: dict[str, Any] = {}
        for job in parsed:
            try:
                plans[job.adcode] = asdict(plan.plan_city(job.ground, throughput=speed))
            except TYPED_ERRORS as error:
                plans[job.adcode] = {"error": one_line(error)}
        return plans


_KINDS: dict[str, Callable[..., dict[str, Any]]] = {
    "stage": _run_stage,
    "demo-data": _make_demo_data,
    "plan": _plan,
}


def _first_line() -> str:
    """The request; read without Python's buffer, whose lock the lifeline's thread would hold at the end."""
    data = b""
    while not data.endswith(b"\n"):
        chunk = os.read(0, 1 << 16)
        if not chunk:
            raise FlowsError("no request on standard input; `flows.process` is started by a flow, not by hand")
        data += chunk
    return data.decode()


def _die_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    main()
