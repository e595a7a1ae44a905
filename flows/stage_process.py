"""What a process of the nursery does: read one request, work, write the outcome.

The request is one line of JSON on standard input, which stays open as a lifeline: when the parent ends, however it
ends, the pipe closes and this process kills its whole group.
"""

import contextlib
import io
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from flows.errors import FlowsError
from flows.failures import TYPED_ERRORS, is_transient, one_line
from flows.locks import city_lock, hold_accelerator, hold_processor
from flows.secret_blocks import provide_secrets
from pipeline.city.job import CityJob
from pipeline.city.sources import INVENTED_NOTE
from pipeline.city.stage_table import STAGES, find_stage
from pipeline.files import replacing_folder, write_json
from regions.campaign import Campaign
from regions.registry import DEMO_PREFIX, find_city

SAID_BYTES = 50_000_000
"""A fetch says something each time that so many bytes came."""


def main() -> None:
    """Entry of the child: read the request, work, write the outcome."""
    request = json.loads(_first_line())
    threading.Thread(target=_die_with_parent, daemon=True).start()
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO, stream=sys.stderr)
    for chatty in ("rasterio", "pyogrio"):  # they report every error of GDAL that is caught anyway, every file written
        logging.getLogger(chatty).setLevel(logging.WARNING)
    if "UVMAP_DEBUG" not in os.environ:
        warnings.simplefilter("ignore")
    target = Path(request.pop("outcome_file"))
    start, known = time.process_time(), set(sys.modules)
    try:
        outcome: dict[str, Any] = {"result": KINDS[request.pop("kind")](**request)}
    except Exception as error:  # noqa: BLE001 - everything a stage can raise is reported to the parent
        if not isinstance(error, TYPED_ERRORS) or "UVMAP_DEBUG" in os.environ:
            traceback.print_exc()
        outcome = {"error": one_line(error), "transient": is_transient(error)}
    late = sorted(set(sys.modules) - known)
    write_json(target, {**outcome, "start_cpu_s": start, "late_imports": late})


def _run_stage(*, stage: str, job: dict[str, Any], anew: bool = False, processors: int = 1) -> dict[str, Any]:
    with contextlib.ExitStack() as held:
        held.enter_context(hold_accelerator() if find_stage(stage).uses_model else hold_processor(processors))
        from pipeline.city import stages  # imports torch: only now that the accelerator is chosen

        parsed = CityJob.model_validate(job)
        held.enter_context(city_lock(parsed.out))
        if anew:
            forget_stage(stage, parsed)
        return stages.run_stage(stage, parsed, progress=False)


def forget_stage(stage: str, job: CityJob) -> None:
    """Drop the result of a stage, so that it is made anew; of the last stage the manifest, by which it is found."""
    for folder in (job.ground.work / stage, *job.ground.work.glob(f"{stage}-*")):
        shutil.rmtree(folder, ignore_errors=True)
    if stage == STAGES[-1].name:
        (job.out / "manifest.json").unlink(missing_ok=True)


def _make_demo_data(*, folder: str, adcode: str, side_m: int) -> dict[str, Any]:
    from regions.demo import generate_demo_city  # only where data are generated

    target, city = Path(folder), find_city(adcode)
    place: dict[str, Any] = {}
    if not adcode.startswith(DEMO_PREFIX):
        place = {"center_lonlat": (city.centroid_lon, city.centroid_lat), "crs": city.crs}
    with city_lock(target):
        if target.is_dir():
            return {"folder": folder, "generated": False}
        with replacing_folder(target) as made:
            generate_demo_city(made, seed=int(adcode), side_m=side_m, adcode=adcode, **place)
            write_json(made / INVENTED_NOTE, {"seed": int(adcode), "side_m": side_m})
    return {"folder": folder, "generated": True}


def _diff(*, old: str, new: str, out: str) -> dict[str, Any]:
    """What became of the villages; with those that grew and shrank told apart."""
    import geopandas as gpd

    from pipeline.product.identity_page import read_villages, write_diff

    folder = Path(out)
    figures = write_diff(read_villages(Path(old)), read_villages(Path(new)), folder, title=f"{Path(new).name}: before")
    events = gpd.read_parquet(folder / "events.parquet")
    changed = events[events["event"] == "changed"]
    grown = int((changed["area_new_m2"] > changed["area_old_m2"]).sum())
    return {**figures, "grown": grown, "shrunk": len(changed) - grown}


def _run_command(*, arguments: list[str]) -> dict[str, Any]:
    """A command of `uvmap` with ``--json``: the object that it prints."""
    from flows.cli import build_app

    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = build_app()([*arguments, "--json"], standalone_mode=False)
    lines = printed.getvalue().strip().splitlines()
    if code or not lines:
        raise FlowsError(f"uvmap {' '.join(arguments)}: exit code {code or 0}; {lines[-1] if lines else 'no answer'}")
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def _random_model(*, folder: str) -> dict[str, Any]:
    from flows.random_model import write_random_model

    write_random_model(Path(folder))
    return {"folder": folder}


def _fetch(*, campaign: dict[str, Any], adcode: str) -> dict[str, Any]:
    from pipeline.fetch.run import fetch_city  # only where sources are brought

    settings, log = Campaign.model_validate(campaign), logging.getLogger(__name__)
    came = [0]

    def tell(what: str, size: int) -> None:
        before, came[0] = came[0], came[0] + size
        if before // SAID_BYTES != came[0] // SAID_BYTES:
            log.info("%s: %.0f MB came", what, came[0] / 1e6)

    provide_secrets(settings.sources_of(adcode))
    with city_lock(settings.product_folder(adcode)):
        found = fetch_city(settings, find_city(adcode), progress=tell)
    names = [str(f["file"]) for f in found.files]
    return {"folder": str(found.folder), "files": names, "reused": list(found.reused), "received_bytes": came[0]}


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


KINDS: dict[str, Callable[..., dict[str, Any]]] = {
    "stage": _run_stage,
    "demo-data": _make_demo_data,
    "fetch": _fetch,
    "plan": _plan,
    "diff": _diff,
    "command": _run_command,
    "random-model": _random_model,
}


def _first_line() -> str:
    """The request; read without Python's buffer, whose lock the lifeline's thread would hold at the end."""
    data = b""
    while not data.endswith(b"\n"):
        chunk = os.read(0, 1 << 16)
        if not chunk:
            raise FlowsError("no request on standard input; a nursery starts this, nobody by hand")
        data += chunk
    return data.decode()


def _die_with_parent() -> None:
    while os.read(0, 1):
        pass
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    main()
