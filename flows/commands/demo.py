"""`uvmap demo`: the whole way on a synthetic city, with its figures."""

import json
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.commands import options as opt
from flows.console import progress, say, show, table

EPOCHS = 10
"""No time limit: a busy machine reaches the same figures, later."""
STRIDE_PX = 160


def demo(
    *,
    out: Annotated[Path, typer.Option(help="Folder for data, model and product.")] = Path("out/demo"),
    side_m: Annotated[int, typer.Option(min=1000, max=50_000, help="Side of the city in metres.")] = 4000,
    seed: Annotated[int, typer.Option(help="Seed of the city and of training.")] = 1,
    epochs: Annotated[int, typer.Option(help="Passes over the training tiles.")] = EPOCHS,
    train_seconds: Annotated[
        float | None, typer.Option(help="Time limit of training; without it, the same epochs on every machine.")
    ] = None,
    gallery: opt.Gallery = True,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Build the demo city, train on some districts, map it all, assess the others, and write the product.

    The last line is one JSON object with iou_unseen, iou_no_osm, ece, seconds and product.

    Example: uvmap demo --side-m 4000
    """
    start = time.perf_counter()
    from flows.assessment import assess_wall_to_wall
    from pipeline.city.ground import CityGround
    from pipeline.city.job import CityJob
    from pipeline.city.sources import find_sources
    from pipeline.city.stages import map_city
    from pipeline.learning.training import train_model
    from regions.demo import DEMO_ADCODE
    from regions.registry import find_city
    from regions.settings import GridConfig, RefinementConfig

    seconds: dict[str, float] = {"start": time.perf_counter() - start}

    def timed(name: str, since: float) -> float:
        seconds[name] = round(time.perf_counter() - since, 1)
        return time.perf_counter()

    now = time.perf_counter()
    data = out / "data" / DEMO_ADCODE
    _generate(data, seed=seed, side_m=side_m)
    now = timed("generate", now)
    ground = CityGround(
        sources=find_sources(data, DEMO_ADCODE),
        crs=find_city(DEMO_ADCODE).crs,
        grid=GridConfig(stride_px=STRIDE_PX, block_px=1024),
        work=out / ".work" / DEMO_ADCODE,
    )
    job = CityJob(
        ground=ground,
        checkpoint=out / "model" / "checkpoint",
        out=out / DEMO_ADCODE,
        refinement=RefinementConfig(refiner="built-in"),
        campaign="demo",
        version="1.0.0",
    )
    say("training on the districts with role `train`")
    trained = train_model(
        [ground],
        out=out / "model",
        epochs=epochs,
        max_seconds=train_seconds,
        seed=seed,
        progress=progress,
        warn=lambda _: None,  # one city is all there is; its districts are apart
    )
    now = timed("train", now)
    say("mapping the whole city")
    product = map_city(job, progress=True)
    now = timed("map", now)
    result = assess_wall_to_wall(job, ground.extent(), with_gallery=gallery)
    timed("assess", now)
    figures = result["figures"]
    summary: dict[str, Any] = {
        "iou_unseen": figures.get("iou_unseen_polygons"),
        "iou_no_osm": figures.get("iou_no_osm_polygons"),
        "iou_with_osm": figures.get("iou_with_osm_polygons"),
        "f1_unseen": figures.get("f1_unseen_polygons"),
        "ece": figures.get("ece"),
        "ece_before": figures.get("ece_before"),
        "villages": product["villages"],
        "seconds": round(time.perf_counter() - start, 1),
        "seconds_by_step": seconds,
        "product": str(job.out),
        "report": product["report"],
        "checkpoint": str(trained.checkpoint),
    }
    if not json_:
        head = result["tables"][0]
        rows = [dict(zip(head["columns"], row, strict=True)) for row in head["rows"]]
        show({}, text=f"\n{head['title']}\n{table(rows, {c: c for c in head['columns']})}\n", as_json=False)
        show({}, text=f"product  {job.out}\nreport   {product['report']}  (open it in a browser)", as_json=False)
    show(summary, text=json.dumps(summary, ensure_ascii=False), as_json=json_)


def _generate(folder: Path, *, seed: int, side_m: int) -> None:
    """Make the demo data, unless the same are there from the same generator."""
    from tqdm import tqdm

    import regions.demo
    from pipeline.city.sources import INVENTED_NOTE
    from pipeline.files import digest_of, sha256_of, write_json
    from regions.demo import generate_demo_city

    generator = digest_of([sha256_of(p) for p in sorted(Path(regions.demo.__path__[0]).glob("*.py"))])
    stamp, wanted = folder / INVENTED_NOTE, {"seed": seed, "side_m": side_m, "generator": generator}
    if stamp.exists() and json.loads(stamp.read_text(encoding="utf-8")) == wanted:
        return
    bars: dict[str, tqdm[Any]] = {}

    def show_progress(what: str, done: int, total: int) -> None:
        if what not in bars:
            bars[what] = tqdm(total=total, desc=f"demo city: {what}")
        bars[what].update(done - bars[what].n)

    generate_demo_city(folder, seed=seed, side_m=side_m, adcode=folder.name, progress=show_progress)
    for bar in bars.values():
        bar.close()
    write_json(stamp, wanted)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)
