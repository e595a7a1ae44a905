"""A server with Zenodo's deposit interface, in a process of its own, with faults on demand.

Run by `python -m tests.support.zenodo_server PORT FOLDER`; `ZenodoServer` starts and stops it. It keeps what it holds
in memory, files as digests, as long as it runs. Made from the interface's documentation, not from live answers.

Faults (`POST /_test/faults`): ``{"method", "path" (regex), "kind", "times", ...}`` with the kinds ``status`` (answer
``status``, with ``headers``, and do nothing), ``commit`` (do it, then answer ``status``), ``corrupt`` (store one byte
changed), ``drop`` (cut the connection after the share ``at`` of the body), ``hang`` (wait there).
"""

import asyncio
import hashlib
import itertools
import re
import subprocess
import sys
import time
from pathlib import Path

import httpx

TOKEN = "tok-3f9a77c1d2"  # noqa: S105 - of this server alone
PREFIX = "10.5072/zenodo."


class ZenodoServer:
    """The server, started; `base_url` is where it listens."""

    def __init__(self, log: Path) -> None:
        self._log = log.open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.zenodo_server"],
            stdout=subprocess.PIPE, stderr=self._log, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        line = self._process.stdout.readline().decode()
        self.base_url = f"http://127.0.0.1:{int(line)}"
        self.http = httpx.Client(base_url=self.base_url, trust_env=False, timeout=30)
        for _ in range(200):
            try:
                self.http.get("/_test/log")
            except httpx.TransportError:
                time.sleep(0.05)
            else:
                return
        raise RuntimeError("the server does not answer")

    def fault(self, method: str, path: str, kind: str, **more) -> None:
        self.http.post("/_test/faults", json={"method": method, "path": path, "kind": kind, "times": 1} | more)

    def expire(self, deposition: int) -> None:
        self.http.post(f"/_test/expire/{deposition}")

    def log(self) -> list[dict]:
        return self.http.get("/_test/log").json()

    def count(self, method: str, path: str, *, done: bool = True) -> int:
        """Requests that took effect (with ``done=False`` all)."""
        return sum(e["method"] == method and re.search(path, e["path"]) is not None and (e["done"] or not done)
                   for e in self.log())  # fmt: skip

    def depositions(self) -> list[dict]:
        return self.http.get("/_test/depositions").json()

    def close(self) -> None:
        self.http.close()
        self._process.kill()  # a hung upload would keep it
        self._process.wait(10)
        self._log.close()


def build_app():  # noqa: C901, PLR0915 - one route after the other
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse, RedirectResponse

    api = FastAPI()
    numbers = itertools.count(1001)
    depositions: dict[int, dict] = {}
    log: list[dict] = []
    faults: list[dict] = []

    def fault_of(request: Request) -> dict | None:
        for fault in faults:
            if fault["times"] > 0 and fault["method"] == request.method and re.search(fault["path"], request.url.path):
                fault["times"] -= 1
                return fault
        return None

    def answer(status: int, message: str = "", headers: dict | None = None, **more) -> JSONResponse:
        return JSONResponse({"status": status, "message": message, **more}, status, headers=headers)

    def shown(d: dict, request: Request) -> dict:
        base = str(request.base_url).rstrip("/")
        concept = [x for x in depositions.values() if x["conceptrecid"] == d["conceptrecid"]]
        drafts = [x["id"] for x in concept if not x["submitted"]]
        links = {
            "self": f"{base}/api/deposit/depositions/{d['id']}",
            "html": f"{base}/deposit/{d['id']}",
            "bucket": f"{base}/api/files/{d['bucket']}",
        }
        if d["submitted"]:
            links["latest_draft"] = f"{base}/api/deposit/depositions/{drafts[0] if drafts else d['id']}"
            links["record_html"] = f"{base}/records/{d['id']}"
        view = {k: d[k] for k in ("id", "conceptrecid", "submitted", "state", "metadata")} | {"links": links}
        if d["submitted"]:
            view |= {"doi": f"{PREFIX}{d['id']}", "conceptdoi": f"{PREFIX}{d['conceptrecid']}"}
        return view

    def fresh(metadata: dict, conceptrecid: str | None, files: dict) -> dict:
        concept = conceptrecid or str(next(numbers))
        number = next(numbers)
        d = {
            "id": number, "conceptrecid": concept, "submitted": False, "state": "unsubmitted",
            "bucket": f"b-{number}", "files": files, "metadata": dict(metadata),
        }  # fmt: skip
        d["metadata"]["prereserve_doi"] = {"doi": f"{PREFIX}{number}", "recid": number}
        depositions[number] = d
        return d

    @api.middleware("http")
    async def gate(request: Request, call_next):
        if request.url.path.startswith("/_test"):
            return await call_next(request)
        entry = {"method": request.method, "path": request.url.path, "query": str(request.url.query), "done": False}
        log.append(entry)
        if request.headers.get("authorization") != f"Bearer {TOKEN}" and not request.url.path.startswith(
            "/api/records"
        ):
            return answer(401, "The server could not verify that you are authorized to access the URL requested.")
        fault = fault_of(request)
        if fault and fault["kind"] == "status":
            return answer(fault["status"], "injected", fault.get("headers"))
        request.state.fault = fault
        response = await call_next(request)
        entry["done"] = response.status_code < 400
        if fault and fault["kind"] == "commit":
            return answer(fault["status"], "injected after it was done")
        return response

    def found(number: int, *, writable: bool = False) -> dict | JSONResponse:
        if number not in depositions:
            return answer(404, "PID does not exist.")
        if writable and depositions[number]["submitted"]:
            return answer(403, "Published: cannot be changed.")
        return depositions[number]

    @api.post("/api/deposit/depositions")
    async def create(request: Request):
        body = await request.json()
        return JSONResponse(shown(fresh(body.get("metadata", {}), None, {}), request), 201)

    @api.get("/api/deposit/depositions")
    def listing(request: Request, status: str = "", size: int = 10):
        kept = [d for d in depositions.values() if not status or d["submitted"] == (status == "published")]
        return [shown(d, request) for d in sorted(kept, key=lambda d: -d["id"])[:size]]

    @api.get("/api/deposit/depositions/{number}")
    def read(number: int, request: Request):
        d = found(number)
        return d if isinstance(d, JSONResponse) else shown(d, request)

    @api.put("/api/deposit/depositions/{number}")
    async def describe(number: int, request: Request):
        d = found(number, writable=True)
        if isinstance(d, JSONResponse):
            return d
        metadata = (await request.json())["metadata"]
        wrong = [k for k in ("title", "description", "creators", "upload_type") if not metadata.get(k)]
        if wrong:
            return answer(
                400, "Validation error.", errors=[{"field": f"metadata.{k}", "message": "Missing"} for k in wrong]
            )
        d["metadata"] = metadata | {"prereserve_doi": d["metadata"]["prereserve_doi"]}
        return shown(d, request)

    @api.get("/api/deposit/depositions/{number}/files")
    def files(number: int):
        d = found(number)
        if isinstance(d, JSONResponse):
            return d
        return [{"id": f"f-{n}", "filename": n, **f} for n, f in sorted(d["files"].items())]

    def of_bucket(bucket: str) -> dict | JSONResponse:
        for d in depositions.values():
            if d["bucket"] == bucket:
                return answer(403, "Bucket is locked.") if d["submitted"] else d
        return answer(404, "Bucket does not exist.")

    @api.put("/api/files/{bucket}/{name}")
    async def put(bucket: str, name: str, request: Request):
        d = of_bucket(bucket)
        if isinstance(d, JSONResponse):
            return d
        fault, total = request.state.fault, int(request.headers.get("content-length", 0))
        digest, size = hashlib.md5(usedforsecurity=False), 0
        async for block in request.stream():
            digest.update(block)
            size += len(block)
            if fault and fault["kind"] in {"drop", "hang"} and size >= fault.get("at", 0.99) * total:
                if fault["kind"] == "hang":
                    await asyncio.sleep(120)
                request.scope["cut"]()
                return answer(500)
        if size != total:
            return answer(400, "Stream ended early.")
        if len(d["files"]) >= 100 and name not in d["files"]:
            return answer(400, "Maximum number of files is 100.")
        if fault and fault["kind"] == "corrupt":
            digest.update(b"x")
        d["files"][name] = {"filesize": size, "checksum": digest.hexdigest()}
        return JSONResponse({"key": name, "size": size, "checksum": f"md5:{digest.hexdigest()}"}, 201)

    @api.delete("/api/files/{bucket}/{name}")
    def remove(bucket: str, name: str):
        d = of_bucket(bucket)
        if isinstance(d, JSONResponse):
            return d
        if d["files"].pop(name, None) is None:
            return answer(404, "File does not exist.")
        return JSONResponse(None, 200)

    @api.post("/api/deposit/depositions/{number}/actions/publish")
    def publish(number: int, request: Request):
        d = found(number)
        if isinstance(d, JSONResponse):
            return d
        if d["submitted"]:
            return answer(404, "PID does not exist.")
        if not d["files"] or not d["metadata"].get("title"):
            return answer(400, "Validation error.", errors=[{"field": "files", "message": "Missing uploaded files."}])
        d |= {"submitted": True, "state": "done", "published_files": dict(d["files"])}
        return JSONResponse(shown(d, request), 202)

    @api.post("/api/deposit/depositions/{number}/actions/newversion")
    def newversion(number: int, request: Request):
        d = found(number)
        if isinstance(d, JSONResponse):
            return d
        if not d["submitted"]:
            return answer(404, "PID does not exist.")
        if not any(x["conceptrecid"] == d["conceptrecid"] and not x["submitted"] for x in depositions.values()):
            fresh(d["metadata"], d["conceptrecid"], dict(d["files"]))
        return JSONResponse(shown(d, request), 201)

    @api.get("/api/records/{number}")
    def record(number: int, request: Request):
        versions = [d for d in depositions.values() if d["conceptrecid"] == str(number) and d["submitted"]]
        if versions:
            return RedirectResponse(f"/api/records/{max(d['id'] for d in versions)}", 301)
        d = depositions.get(number)
        if d is None or not d["submitted"]:
            return answer(404, "The persistent identifier does not exist.")
        newest = max(x["id"] for x in depositions.values() if x["conceptrecid"] == d["conceptrecid"] and x["submitted"])
        base = str(request.base_url).rstrip("/")
        return {"id": number, "conceptrecid": d["conceptrecid"], "links": {"latest": f"{base}/api/records/{newest}"}}

    @api.post("/_test/faults")
    async def add_fault(request: Request):
        faults.append(await request.json())

    @api.delete("/_test/faults")
    def no_faults():
        faults.clear()

    @api.post("/_test/expire/{number}")
    def expire(number: int):
        depositions.pop(number)

    @api.get("/_test/log")
    def seen():
        return log

    @api.get("/_test/depositions")
    def all_depositions():
        return list(depositions.values())

    async def outer(scope, receive, send):
        """The application, with a way to cut the connection under it."""
        if scope["type"] == "http":
            scope["cut"] = receive.__self__.transport.abort
        await api(scope, receive, send)

    return outer


def main() -> None:
    import socket

    import uvicorn

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    uvicorn.Server(uvicorn.Config(build_app(), log_level="warning")).run(sockets=[listener])


if __name__ == "__main__":
    main()
