"""Background processes that outlive the command that started them, and the file that remembers them."""

import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from flows.errors import ServiceError
from flows.home import CHECKOUT, uvmap_home
from pipeline.files import replacing

STOP_PATIENCE_S = 40.0
"""How long a process may take to end after SIGTERM before it is killed; a worker first stops its flow runs."""
# A process started in the background of a non-interactive shell inherits an ignored SIGINT, and a Prefect worker that
# cannot be interrupted never stops: on SIGTERM it sends itself SIGINT. So SIGINT is set right before the real program.
_LAUNCHER = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)


class Service(BaseModel):
    """A background process: its id, and its start so that a reused id is not mistaken for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pid: int
    created: float

    def process(self) -> psutil.Process | None:
        """The process where it still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process() is not None

    def listens_on(self, port: int) -> bool:
        """Whether it is this process that takes connections on a port."""
        process = self.process()
        try:
            taken = process.net_connections(kind="inet") if process is not None else []
        except psutil.Error:  # it ended meanwhile
            return False
        return any(c.status == psutil.CONN_LISTEN and c.laddr.port == port for c in taken)


class Services(BaseModel):
    """What `uvmap up` has started on this machine.

    Attributes:
        port: Port of the server on 127.0.0.1.
        gpus: Stages that may use an accelerator at once.
        cpus: Other stages at once.
        server: The server's process.
        worker: The worker's process.
        previous_profile: Prefect profile that was active before, to which `uvmap down` returns.
        activated: Whether `uvmap up` made its profile the active one.
        checkout: The code the deployments point to.
        joined: Address of the server of another machine whose cities this one works on; None where it has its own.
    """

    model_config = ConfigDict(extra="forbid")

    port: int | None = None
    gpus: int | None = None
    cpus: int | None = None
    server: Service | None = None
    worker: Service | None = None
    previous_profile: str | None = None
    activated: bool = False
    checkout: Path | None = None
    joined: str | None = None

    @property
    def api_url(self) -> str:
        """Where the server answers.

        Raises:
            ServiceError: nothing was ever started here.
        """
        if self.joined is not None:
            return self.joined
        if self.port is None:
            raise ServiceError(f"no server was ever started under {uvmap_home()}; run `uvmap up`")
        return f"http://127.0.0.1:{self.port}/api"

    def save(self) -> None:
        """Write the state in one step."""
        with replacing(state_file()) as temporary:
            temporary.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


def state_file() -> Path:
    """Where the state of the services is kept."""
    return uvmap_home() / "services.json"


def read_services() -> Services:
    """The state of the services; an empty one where nothing was ever started.

    Raises:
        ServiceError: the file is damaged.
    """
    path = state_file()
    if not path.exists():
        return Services()
    try:
        return Services.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise ServiceError(f"{path}: damaged ({error.error_count()} faults); remove it and run `uvmap up`") from error


def start(name: str, arguments: list[str], *, env: Mapping[str, str]) -> Service:
    """Start `python ARGUMENTS` in a session of its own, its output appended to `logs/NAME.log` of the home.

    Args:
        name: Names the log.
        arguments: Of the interpreter, such as ``["-m", "prefect", "server", "start"]``.
        env: The whole environment.
    """
    log = log_file(name)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _LAUNCHER, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=CHECKOUT,
            env=dict(env),
        )
    return Service(pid=process.pid, created=psutil.Process(process.pid).create_time())


def stop(service: Service | None, *, patience_s: float = STOP_PATIENCE_S) -> bool:
    """Ask a process to end, and kill its session if it does not; whether it was running."""
    process = service.process() if service is not None else None
    if process is None:
        return False
    family = [process, *process.children(recursive=True)]
    process.send_signal(signal.SIGTERM)
    _, left = psutil.wait_procs(family, timeout=patience_s)
    for one in left:
        one.kill()
    psutil.wait_procs(left, timeout=5.0)
    return True


def log_file(name: str) -> Path:
    """The log of a service."""
    return uvmap_home() / "logs" / f"{name}.log"


def last_words(name: str, *, lines: int = 3) -> str:
    """The last lines of a service's log, joined into one."""
    path = log_file(name)
    if not path.exists():
        return "no log"
    with path.open(encoding="utf-8", errors="replace") as file:
        return " | ".join(deque((line.strip() for line in file if line.strip()), maxlen=lines)) or "log is empty"


def wait_until(condition: Callable[[], bool], *, what: str, service: Service, name: str, patience_s: float) -> None:
    """Poll ``condition`` until it holds.

    Raises:
        ServiceError: the process ended, or patience did; with the last lines of its log.
    """
    deadline = time.monotonic() + patience_s
    while not condition():
        if not service.alive:
            raise ServiceError(f"the {name} ended before {what}; {log_file(name)} says: {last_words(name)}")
        if time.monotonic() > deadline:
            raise ServiceError(
                f"the {name} runs, but {what} took over {patience_s:.0f} s; {log_file(name)} says: {last_words(name)}"
            )
        time.sleep(0.25)
