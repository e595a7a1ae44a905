"""A server of sources in a process of its own: files with ranges, tiles drawn from a raster, faults on demand.

Run as ``python -m tests.support.source_server FOLDER PORT``. ``POST /_faults`` takes a list of
``{"path": prefix, "do": "status" | "drop" | "corrupt" | "garble" | "slow", "times": n, ...}`` (garble: the right
length, wrong bytes, of ranges from byte ``from`` on); ``GET /_log`` says what was asked.
``/private/`` wants the token ``s3cret-token`` as bearer, ``/keyed/`` the key ``s3cret-key`` in the address.
"""

import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx

TOKEN, KEY = "s3cret-token", "s3cret-key"
ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def serve(folder: Path):
    """Start the server on a free port; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.source_server", str(folder), str(port)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise RuntimeError(f"the server ended with {process.returncode}")
            try:
                httpx.get(f"{address}/_log", timeout=1)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield address
    finally:
        process.kill()
        process.wait()


def faults(address: str, *items: dict) -> None:
    """Set the faults, forgetting earlier ones and the log."""
    httpx.post(f"{address}/_faults", json=list(items)).raise_for_status()


def log(address: str) -> dict:
    """What was asked since `faults`: ``requests`` (path, status, headers) and ``most_in_flight``."""
    return httpx.get(f"{address}/_log").json()


def make_app(folder: Path):  # noqa: C901, PLR0915 - one server, every fault in one place
    """The application; see the module."""
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse, Response, StreamingResponse
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    state = {"faults": [], "requests": [], "now": 0, "most": 0, "latency_s": 0.0}
    lock = threading.Lock()

    async def set_faults(request):
        items = await request.json()
        state["latency_s"] = next((i["latency_s"] for i in items if "latency_s" in i), 0.0)
        state["faults"] = [dict(i) for i in items if "path" in i]
        state["requests"], state["most"] = [], 0
        return JSONResponse({})

    async def get_log(_request):
        return JSONResponse({"requests": state["requests"], "most_in_flight": state["most"]})

    def tile(request):
        if "layer" in request.query_params:
            z, x, y = (int(request.query_params[k]) for k in ("tilematrix", "tilecol", "tilerow"))
        else:
            z, x, y = (int(request.path_params[k]) for k in "zxy")
        if request.url.path.startswith("/tms"):
            y = 2**z - 1 - y
        body = draw_tile(folder / "tiles.tif", z, x, y, **request.query_params)
        if body is None:
            return Response(status_code=404)
        etag = f'"{hash((z, x, y)) & 0xFFFFFFFF:x}"'
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304)
        return Response(body, media_type="image/png", headers={"etag": etag})

    def landing(request):
        root = str(request.base_url).rstrip("/") + "/stac"
        core = "https://api.stacspec.org/v1.0.0"
        return JSONResponse({
            "type": "Catalog", "id": "api", "stac_version": "1.0.0", "description": "made",
            "conformsTo": [f"{core}/core", f"{core}/item-search"],
            "links": [
                {"rel": "self", "href": root}, {"rel": "root", "href": root},
                {"rel": "search", "href": f"{root}/search", "type": "application/geo+json", "method": "POST"},
            ],
        })  # fmt: skip

    async def search(request):
        asked = await request.json()
        west, south, east, north = asked["bbox"]
        found = []
        for link in json.loads((folder / "catalog.json").read_text(encoding="utf-8"))["links"]:
            item = json.loads((folder / link["href"].rsplit("/", 1)[-1]).read_text(encoding="utf-8"))
            a, b, c, d = item["bbox"]
            if a <= east and c >= west and b <= north and d >= south:
                found.append(item)
        return JSONResponse({"type": "FeatureCollection", "features": found, "links": []})

    routes = [
        Route("/stac", landing),
        Route("/stac/search", search, methods=["POST"]),
        Route("/_faults", set_faults, methods=["POST"]),
        Route("/_log", get_log),
        Route("/xyz/{z}/{x}/{y}.png", tile),
        Route("/tms/{z}/{x}/{y}.png", tile),
        Route("/wmts", tile),
        Route("/keyed/{z}/{x}/{y}.png", tile),
        Mount("/files", StaticFiles(directory=folder)),
        Mount("/private", StaticFiles(directory=folder)),
    ]
    inner = Starlette(routes=routes)

    def matching(path, start):
        with lock:
            for fault in state["faults"]:
                if path.startswith(fault["path"]) and fault.get("times", 1) > 0 and start >= fault.get("from", 0):
                    fault["times"] = fault.get("times", 1) - 1
                    return fault
        return None

    async def app(scope, receive, send):  # noqa: C901 - as above
        if scope["type"] != "http" or scope["path"].startswith("/_"):
            await inner(scope, receive, send)
            return
        import asyncio

        state["now"] += 1
        state["most"] = max(state["most"], state["now"])
        headers = {k.decode(): v.decode() for k, v in scope["headers"]}
        entry = {"path": scope["path"], "range": headers.get("range"), "none_match": headers.get("if-none-match")}
        entry["at"] = time.monotonic()
        state["requests"].append(entry)
        try:
            await asyncio.sleep(state["latency_s"])
            query = scope["query_string"].decode()
            if scope["path"].startswith("/private") and headers.get("authorization") != f"Bearer {TOKEN}":
                await Response(status_code=401)(scope, receive, send)
                return
            if scope["path"].startswith("/keyed") and KEY not in query:
                await Response(status_code=403)(scope, receive, send)
                return
            start = int(headers["range"].split("=")[1].split("-")[0]) if "range" in headers else 0
            fault = matching(scope["path"], start)
            if fault is None:
                await inner(scope, receive, send)
            elif fault["do"] == "status":
                extra = {"retry-after": str(fault["retry_after"])} if "retry_after" in fault else {}
                await Response(status_code=fault["status"], headers=extra)(scope, receive, send)
            elif fault["do"] == "slow":
                await asyncio.sleep(fault["seconds"])
                await inner(scope, receive, send)
            elif fault["do"] == "corrupt":
                await Response(b"no picture at all", media_type="image/png")(scope, receive, send)
            elif fault["do"] == "garble":

                async def garbled(message):
                    if message.get("body"):
                        message |= {"body": bytes(b ^ 0x5A for b in message["body"])}
                    await send(message)

                await inner(scope, receive, garbled)
            else:  # drop: a part of the body, then the connection ends
                path = folder / scope["path"].split("/", 2)[2]
                body = path.read_bytes()
                keep = body[start : start + int((len(body) - start) * fault.get("share", 0.5))]

                async def piece():
                    yield keep
                    raise ConnectionResetError

                from starlette.staticfiles import FileResponse

                etag = FileResponse(path, stat_result=path.stat()).headers["etag"]
                out = {"content-length": str(len(body) - start), "etag": etag}
                if start:
                    out["content-range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
                await StreamingResponse(piece(), status_code=206 if start else 200, headers=out)(scope, receive, send)
        finally:
            state["now"] -= 1

    return app


def draw_tile(path: Path, z: int, x: int, y: int, *, kernel="bilinear", jpeg=None, **_) -> bytes | None:
    """A tile of 256 px as PNG with alpha (or JPEG of a quality), from three bands; None where it has nothing."""
    import numpy as np
    import rasterio
    from PIL import Image
    from rasterio.enums import Resampling
    from rasterio.transform import from_origin
    from rasterio.vrt import WarpedVRT

    earth = 20037508.342789244
    side = 2 * earth / 2**z
    transform = from_origin(-earth + x * side, earth - y * side, side / 256, side / 256)
    with (
        rasterio.open(path) as source,
        WarpedVRT(
            source, crs="EPSG:3857", transform=transform, width=256, height=256, resampling=Resampling[kernel],
            add_alpha=True,
        ) as view,
    ):  # fmt: skip
        pixels = view.read()
    if not pixels[-1].any():
        return None
    out = io.BytesIO()
    if jpeg is not None:
        Image.fromarray(np.moveaxis(pixels[:3], 0, -1)).save(out, "JPEG", quality=int(jpeg))
        return out.getvalue()
    Image.fromarray(np.moveaxis(np.concatenate([pixels[:3], pixels[-1:]]), 0, -1), "RGBA").save(out, "PNG")
    return out.getvalue()


def write_stac(folder: Path, items: list[dict], address: str) -> Path:
    """A static catalog of items ``{"id", "date", "cloud", "bbox", "assets": {name: href}}``; its root file."""
    for item in items:
        west, south, east, north = item["bbox"]
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        data = {
            "type": "Feature", "stac_version": "1.0.0", "id": item["id"],
            "collection": item.get("collection", "scenes"),
            "bbox": item["bbox"], "geometry": {"type": "Polygon", "coordinates": [ring]},
            "properties": {"datetime": f"{item['date']}T03:00:00Z", "eo:cloud_cover": item["cloud"]},
            "assets": {n: {"href": h} for n, h in item["assets"].items()}, "links": [],
        }  # fmt: skip
        (folder / f"{item['id']}.json").write_text(json.dumps(data), encoding="utf-8")
    catalog = {
        "type": "Catalog", "stac_version": "1.0.0", "id": "made", "description": "made", "links":
        [{"rel": "item", "href": f"{address}/{i['id']}.json", "type": "application/json"} for i in items],
    }  # fmt: skip
    path = folder / "catalog.json"
    path.write_text(json.dumps(catalog), encoding="utf-8")
    return path


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(make_app(Path(sys.argv[1])), host="127.0.0.1", port=int(sys.argv[2]), log_level="error")
