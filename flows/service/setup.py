"""Bring the services up, idempotently, and take them down."""

import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType, WorkerStatus
from prefect.exceptions import ObjectNotFound

from flows.errors import ServiceError
from flows.home import CHECKOUT, uvmap_home
from flows.locks import gpu_devices
from flows.service.automations import BEAT_S, ensure_automations
from flows.service.processes import Services, last_words, log_file, read_services, start, stop, wait_until
from flows.service.profile import leave_profile, write_profile
from flows.slots import CPU_LIMIT, GPU_LIMIT

POOL = "uvmap"
WORKER = "uvmap"
FIRST_PORT = 4200
SERVER_PATIENCE_S = 300.0
"""A first start migrates the database: 19 s on a quiet machine, 48 s on a busy one."""
WORKER_PATIENCE_S = 240.0
_FOREIGN = ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE", "PREFECT_PROFILES_PATH", "PREFECT_HOME")


def bring_up(
    *,
    say: Callable[[str], None],
    port: int | None = None,
    gpus: int | None = None,
    cpus: int | None = None,
    activate: bool = False,
    runs: int | None = None,
) -> Services:
    """Start or check server, profile, work pool, limits, deployments and worker; what is there is left alone.

    Args:
        say: Receives one line per step.
        port: Port of the server; where None the one of last time, else the first free one from 4200.
        gpus: Stages on an accelerator at once; where None that of last time, else the number of GPUs, at least one.
        cpus: Other stages at once; where None that of last time, else the number of cores.
        activate: Make the profile `uvmap` active even where another one points to a server.
        runs: Runs that the worker of this machine works on at once; None for as many as there are.

    Raises:
        ServiceError: a service does not start; the message holds the last lines of its log.
    """
    with _alone():
        services = read_services()
        if services.server is not None and services.server.alive and port not in {None, services.port}:
            raise ServiceError(f"the server runs on port {services.port}, not {port}; run `uvmap down` first")
        any_port = port is None and services.port is None
        services.port = port or services.port or _free_port()
        services.gpus = gpus or services.gpus or max(1, len(gpu_devices()))
        services.cpus = cpus or services.cpus or os.cpu_count() or 1
        moved = services.checkout not in {None, CHECKOUT}
        services.checkout = CHECKOUT
        try:
            _server(services, say)
        except ServiceError:
            if not any_port or _is_free(services.port):
                raise
            services.port = _free_port()  # another home's server was faster
            _server(services, say)
        write_profile(services, activate=activate)
        services.save()
        _objects(services)
        say(f"work pool '{POOL}', limits {GPU_LIMIT}={services.gpus}, {CPU_LIMIT}={services.cpus}")
        if not moved:
            _start_worker(services, runs=runs)  # meanwhile the deployments are written: each takes about ten seconds
        _deploy(services)
        say("deployments uv-map/china, uv-map-city/regenerate and others: `prefect deployment ls`")
        if moved and stop(services.worker):
            say("stopped the worker of another checkout")
        _start_worker(services, runs=runs)
        _await_worker(services, say)
    return services


def join(address: str, *, say: Callable[[str], None], runs: int = 1) -> Services:
    """Start a worker here that takes its runs from the server of another machine.

    Args:
        address: The server, such as http://10.0.0.5:4200.
        say: Receives one line per step.
        runs: Runs that this machine works on at once; one per GPU is usual.

    Raises:
        ServiceError: this machine has a server of its own, no server answers, or it was not set up by `uvmap up`.
    """
    with _alone():
        services = read_services()
        if services.server is not None and services.server.alive:
            raise ServiceError(f"a server runs here at {services.api_url}: `uvmap down` before joining another")
        services.joined = f"{address.rstrip('/').removesuffix('/api')}/api"
        if not healthy(services):
            raise ServiceError(f"{services.joined}: no server answers; is it up, and does it listen on that address?")
        with api(services) as client:
            try:
                client.read_work_pool(POOL)
            except ObjectNotFound as error:
                raise ServiceError(
                    f"{services.joined} has no work pool '{POOL}': run `uvmap up` there first"
                ) from error
        services.checkout = CHECKOUT
        write_profile(services, activate=False)
        _start_worker(services, runs=runs)
        _await_worker(services, say)
    return services


def take_down(*, say: Callable[[str], None], force: bool = False) -> Services:
    """Stop worker and server, and leave the profile.

    Args:
        say: Receives one line per step.
        force: Stop although runs are in progress; `uvmap resume` takes them up later.

    Raises:
        ServiceError: runs are in progress and ``force`` is not set.
    """
    with _alone():
        services = read_services()
        running = [] if force else runs_in_progress(services)
        if running:
            raise ServiceError(
                f"{len(running)} runs are in progress ({', '.join(running)}); wait, cancel them with "
                "`prefect flow-run cancel ID`, or `uvmap down --force` and `uvmap resume ID` later"
            )
        for name in ("worker", "server"):
            if stop(getattr(services, name)):
                say(f"{name} stopped")
            setattr(services, name, None)
        leave_profile(services)
        services.joined = None
        services.save()
    return services


def api(services: Services) -> SyncPrefectClient:
    """A client of this machine's server, whatever profile is active."""
    return SyncPrefectClient(api=services.api_url)


def healthy(services: Services) -> bool:
    """Whether the server answers."""
    try:
        return httpx.get(f"{services.api_url}/health", timeout=5.0, trust_env=False).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def worker_name(services: Services) -> str:
    """Name of this machine's worker: that of the machine where the server is on another."""
    return WORKER if services.joined is None else f"{WORKER}-{socket.gethostname()}-{os.getuid()}"


def worker_online(services: Services) -> bool:
    """Whether the server hears from this machine's worker."""
    with api(services) as client:
        try:
            workers = client.read_workers_for_work_pool(POOL)
        except ObjectNotFound:
            return False
    return any(w.status == WorkerStatus.ONLINE and w.name == worker_name(services) for w in workers)


def runs_in_progress(services: Services) -> list[str]:
    """Ids of the flow runs that are pending or running; none where the server is down, or another machine's."""
    if services.port is None or services.joined is not None or not healthy(services):
        return []
    unfinished = FlowRunFilterStateType(any_=[StateType.RUNNING, StateType.PENDING, StateType.CANCELLING])
    with api(services) as client:
        runs = client.read_flow_runs(flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=unfinished)))
    return [str(run.id) for run in runs]


def service_environment(services: Services) -> dict[str, str]:
    """The environment of server, worker and deploying: this shell's, less what points to other servers."""
    return {
        **{k: v for k, v in os.environ.items() if k not in _FOREIGN},
        "UVMAP_HOME": str(uvmap_home()),
        "UVMAP_CHECKOUT": str(CHECKOUT),
        "PREFECT_HOME": str(uvmap_home() / "prefect"),
        "PREFECT_API_URL": services.api_url,
        "DO_NOT_TRACK": "1",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # leases survive a restart of the server
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_LOG_RETRYABLE_ERRORS": "true",
        # a busy machine makes SQLite's one writer slow: wait longer before a request fails, and ask again more often
        "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
        "PREFECT_CLIENT_MAX_RETRIES": "10",
        "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1",
        "PREFECT_WORKER_QUERY_SECONDS": "5",
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(BEAT_S),
        # the server looks for late and paused runs every few seconds, which takes processors from the stages
        "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "30",
        "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_LOOP_SECONDS": "60",
    }


def _server(services: Services, say: Callable[[str], None]) -> None:
    if services.server is None or not services.server.alive:
        if not _is_free(services.port or 0):
            raise ServiceError(
                f"port {services.port} on 127.0.0.1 is taken by another program; `uvmap up --port N` takes another"
            )
        say(f"starting the server on port {services.port}; the first time takes up to a minute")
        arguments = ["-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(services.port)]
        services.server = start("server", arguments, env=service_environment(services))
        services.save()
    ours = services.server
    wait_until(
        lambda: ours.listens_on(services.port or 0) and healthy(services),  # not another home's server on this port
        what="answering on /api/health",
        service=ours,
        name="server",
        patience_s=SERVER_PATIENCE_S,
    )
    say(f"server {services.api_url}")


def _objects(services: Services) -> None:
    with api(services) as client:
        try:
            client.read_work_pool(POOL)
        except ObjectNotFound:
            client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        client.upsert_global_concurrency_limit_by_name(GPU_LIMIT, services.gpus or 1)
        client.upsert_global_concurrency_limit_by_name(CPU_LIMIT, services.cpus or 1)
        ensure_automations(client)


def _deploy(services: Services) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"],
        cwd=CHECKOUT,
        env=service_environment(services),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    log = log_file("deploy")
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    if done.returncode != 0:
        raise ServiceError(f"`prefect deploy --all` failed; {log} says: {last_words('deploy')}")


def _start_worker(services: Services, *, runs: int | None = None) -> None:
    if services.worker is None or not services.worker.alive:
        arguments = ["-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process"]
        arguments += ["--name", worker_name(services)]
        arguments += [] if runs is None else ["--limit", str(runs)]
        services.worker = start("worker", arguments, env=service_environment(services))
        services.save()


def _await_worker(services: Services, say: Callable[[str], None]) -> None:
    if services.worker is None:
        raise ServiceError("no worker was started")
    wait_until(
        lambda: worker_online(services),
        what="polling the work pool",
        service=services.worker,
        name="worker",
        patience_s=WORKER_PATIENCE_S,
    )
    say(f"worker '{worker_name(services)}' polls the work pool")


@contextmanager
def _alone() -> Iterator[None]:
    """One `up` or `down` at a time; the second waits."""
    uvmap_home().mkdir(parents=True, exist_ok=True)
    with (uvmap_home() / "services.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _free_port() -> int:
    return next(port for port in range(FIRST_PORT, 65_536) if _is_free(port))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
