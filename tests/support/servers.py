"""Servers for tests, each in a process of its own over loopback: files with byte ranges, and an S3-compatible store."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_RANGES = """
import sys, uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
log = open(sys.argv[3], "a", buffering=1)
files = StaticFiles(directory=sys.argv[1])
async def app(scope, receive, send):
    sent = 0
    async def counting(message):
        nonlocal sent
        sent += len(message.get("body", b""))
        await send(message)
    await files(scope, receive, counting)
    if scope["type"] == "http":
        log.write(f"{scope['method']} {scope['path']} {sent}\\n")
uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="error", lifespan="off")
"""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], url: str) -> Iterator[None]:
    """A server's process, once it answers at ``url``; ended afterwards."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(300):
                try:
                    urllib.request.urlopen(url, timeout=1).close()
                    break
                except urllib.error.HTTPError:
                    break
                except OSError:
                    if process.poll() is not None:
                        raise
                    time.sleep(0.1)
            yield
        finally:
            process.terminate()
            process.wait(10)


@contextmanager
def range_server(folder: Path, log: Path) -> Iterator[str]:
    """The address of a server of the files in a folder; each line of ``log`` is method, path and bytes sent."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with running([sys.executable, "-c", _RANGES, str(folder), str(port), str(log)], url):
        yield url


@contextmanager
def s3_server() -> Iterator[str]:
    """Host and port of an empty S3-compatible store."""
    port = free_port()
    with running([str(Path(sys.executable).with_name("moto_server")), "-p", str(port)], f"http://127.0.0.1:{port}"):
        yield f"127.0.0.1:{port}"
