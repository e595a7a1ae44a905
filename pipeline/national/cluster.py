"""Where work over many cities runs: a Dask cluster named in the campaign, its answers in the order of the questions.

No Prefect and no dask-collections here: a `distributed.Client` and a map over cities is what nearly all national
work needs. Workers get ids, paths and settings, and give back small values or files; nothing depends on which worker
did what, or when.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import PipelineError
from regions.settings import ClusterConfig

T = TypeVar("T")
R = TypeVar("R")

KINDS = {
    "local": "distributed.LocalCluster",
    "ssh": "distributed.SSHCluster",
    "slurm": "dask_jobqueue.SLURMCluster",
    "pbs": "dask_jobqueue.PBSCluster",
    "sge": "dask_jobqueue.SGECluster",
    "lsf": "dask_jobqueue.LSFCluster",
    "kubernetes": "dask_kubernetes.operator.KubeCluster",
}
"""Short names of classes of clusters."""

PACKAGES = {
    "dask_jobqueue": "dask-jobqueue",
    "dask_kubernetes": "dask-kubernetes",
    "asyncssh": "asyncssh",
}
"""Packages that clusters need and that are not part of the environment, by the module they bring."""

IN_HAND_PER_WORKER = 3
"""Pieces of work given out ahead per worker: enough that none waits, few enough that results do not pile up."""

LOOPBACK: dict[str, Any] = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
"""Nobody but this machine reaches a local cluster; by itself its status page listens everywhere, without a password."""

CONNECT_S = 30.0
"""How long a scheduler that is named by its address may take to answer."""

_ROOMS = ("regions", "models", "pipeline")


class ClusterError(PipelineError):
    """The cluster cannot be started or reached, or cannot do the work."""


@contextmanager
def open_cluster(config: ClusterConfig | None = None) -> Iterator[Any]:
    """Start or join the cluster; yields its `distributed.Client` and takes down again what was started.

    Args:
        config: Which cluster; None for processes on this machine, one per core.

    Raises:
        ClusterError: no such class or package, refused arguments, no answer, no worker in time, or workers that run
            other code than this process.
    """
    import dask  # noqa: PLC0415 - an eighth of a second that only those pay who spread work
    from distributed import Client  # noqa: PLC0415

    logging.getLogger("distributed").setLevel(logging.WARNING)  # it tells of every connection
    config = config or ClusterConfig()
    with ExitStack() as held:
        held.enter_context(dask.config.set({"distributed.scheduler.allowed-failures": config.losses}))
        if config.address is None:
            cluster = held.enter_context(_started(config))
            client = held.enter_context(Client(cluster, set_as_default=False))
        else:
            client = held.enter_context(_joined(config.address))
        try:
            client.wait_for_workers(1, timeout=config.wait_s)
        except TimeoutError as error:
            raise ClusterError(
                f"{_named(config)}: no worker came within {config.wait_s:g} s: look at the queue and at the workers' "
                "own messages, or raise cluster.wait_s"
            ) from error
        _check_code(client, config)
        yield client


def in_order(client: Any | None, function: Callable[[T], R], items: Iterable[T], *, ahead: int = 0) -> Iterator[R]:
    """``function(item)`` for every item, in the order of the items, whichever worker is first.

    Work whose worker is lost is done again by another. Results are taken one by one and let go of, so that only a few
    are held at a time. Where the caller stops early or a piece fails, what is not begun is called off.

    Args:
        client: Of `open_cluster`; None works in this process, one item after the other.
        function: A function of a module, or a `functools.partial` of one; must give the same for the same item.
        items: Small values, such as adcodes, paths and settings.
        ahead: Pieces given out ahead of the one that is waited for; 0 for `IN_HAND_PER_WORKER` per worker.

    Raises:
        ClusterError: a piece of work lost its worker too often, or the scheduler is gone.
        Exception: what ``function`` raised, as it is.
    """
    if client is None:
        yield from map(function, items)
        return
    waiting: deque[tuple[T, Any]] = deque()
    rest = iter(items)
    try:
        while True:
            width = ahead or IN_HAND_PER_WORKER * _threads(client)
            while len(waiting) < width:
                try:
                    item = next(rest)
                except StopIteration:
                    break
                waiting.append((item, client.submit(function, item, pure=False)))
            if not waiting:
                return
            item, future = waiting.popleft()
            yield _result(future, item)
    finally:
        if waiting:
            _call_off(client, [future for _, future in waiting])


def _result(future: Any, item: object) -> Any:
    from distributed import CancelledError, KilledWorker  # noqa: PLC0415
    from distributed.comm.core import CommClosedError  # noqa: PLC0415

    try:
        value = future.result()
    except KilledWorker as error:
        raise ClusterError(
            f"{item}: its worker was lost {error.allowed_failures + 1} times: most likely out of memory; give workers "
            "more memory (cluster.arguments), or look at the log of the last one, " + str(error.last_worker.address)
        ) from error
    except (CancelledError, CommClosedError) as error:
        raise ClusterError(
            f"{item}: the scheduler is gone ({type(error).__name__}): start it again and run the same command; what is "
            "done is kept"
        ) from error
    future.release()
    return value


def _threads(client: Any) -> int:
    """Pieces of work that run at once, now; one where the scheduler does not answer: the next result says why."""
    try:
        return max(1, sum(map(int, client.nthreads().values())))
    except (OSError, TimeoutError):
        return 1


def _call_off(client: Any, futures: list[Any]) -> None:
    try:
        client.cancel(futures, force=True)
    except Exception:
        logging.getLogger(__name__).debug("could not call off %d pieces of work", len(futures), exc_info=True)


@contextmanager
def _started(config: ClusterConfig) -> Iterator[Any]:
    make = cluster_class(config.kind)
    arguments = dict(config.arguments)
    workers = config.workers
    if make is cluster_class("local"):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        own = {"n_workers": workers or cores, "threads_per_worker": 1} | LOOPBACK
        if arguments.get("processes") is False:
            del own["host"]  # threads talk within the process
        arguments, workers = own | arguments, None
    try:
        cluster = make(**arguments)
    except ImportError as error:
        raise _not_installed(config.kind, error) from error
    except Exception as error:
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        raise ClusterError(
            f"{_named(config)} with {arguments}: {type(root).__name__}: {root}: mend cluster.arguments"
        ) from error
    with cluster:
        if config.most_workers is not None:
            cluster.adapt(minimum=config.workers or 1, maximum=config.most_workers)
        elif workers is not None:
            cluster.scale(workers)
        yield cluster


@contextmanager
def _joined(address: str) -> Iterator[Any]:
    from distributed import Client  # noqa: PLC0415

    where: dict[str, Any] = {"scheduler_file": address} if address.endswith(".json") else {"address": address}
    if "scheduler_file" in where and not Path(address).exists():
        raise ClusterError(f"{address}: no such scheduler file: start `dask scheduler` so that it writes this file")
    try:
        client = Client(**where, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise ClusterError(
            f"{address}: no Dask scheduler answers ({error}): start one with `dask scheduler`, or mend cluster.address"
        ) from error
    with client:
        yield client


def cluster_class(kind: str) -> Any:
    """The class of a kind of cluster: a short name of `KINDS`, or a dotted name.

    Raises:
        ClusterError: its package is not installed, or has no such class.
    """
    dotted = KINDS.get(kind, kind)
    module, _, name = dotted.rpartition(".")
    if not module:
        raise ClusterError(f"cluster.kind {kind!r}: give one of {', '.join(KINDS)}, or the dotted name of a class")
    try:
        found = getattr(import_module(module), name)
    except ImportError as error:
        raise _not_installed(kind, error) from error
    except AttributeError as error:
        raise ClusterError(f"cluster.kind {kind!r}: module {module} has no class {name}") from error
    return found


def _not_installed(kind: str, error: ImportError) -> ClusterError:
    wanted = (error.name or KINDS.get(kind, kind)).partition(".")[0]
    package = PACKAGES.get(wanted, wanted)
    return ClusterError(
        f"cluster.kind {kind!r} needs the package {package}, which is not installed: run "
        f"`.venv/bin/uv pip install {package}` on every machine, or name another cluster"
    )


def _check_code(client: Any, config: ClusterConfig) -> None:
    """All workers must run this code: other code would give other results under the same keys."""
    try:
        theirs = client.run(code_digest)
    except Exception as error:
        raise ClusterError(
            f"{_named(config)}: a worker cannot import uvmap's modules ({type(error).__name__}: {error}): start "
            "workers in the environment and with the checkout of this process"
        ) from error
    other = sorted(address for address, digest in theirs.items() if digest != code_digest())
    if other:
        raise ClusterError(
            f"{_named(config)}: {len(other)} of {len(theirs)} workers run other code or another Python than this "
            f"process (first {other[0]}): bring all machines to the same checkout, then start the workers again"
        )


@cache
def code_digest() -> str:
    """Digest of this process's Python version and of the source files of the rooms that do the work."""
    digest = hashlib.sha256(".".join(map(str, sys.version_info[:2])).encode())
    root = Path(__file__).resolve().parents[2]
    for path in sorted(p for room in _ROOMS for p in (root / room).rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _named(config: ClusterConfig) -> str:
    return f"cluster {config.address or KINDS.get(config.kind, config.kind)}"
