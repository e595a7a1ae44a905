"""`uvmap map`: one city from sources to product."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands import options as opt
from flows.console import JsonFlag, say, show


def map_(
    city: opt.CityArg = None,
    *,
    checkpoint: opt.Checkpoint,
    data_root: opt.DataRoot = Path("data/china"),
    out: Annotated[Path, typer.Option(help="Folder that receives {adcode}/, the product.")] = Path("out/china"),
    imagery: opt.Imagery = None,
    vectors: opt.Vectors = None,
    aoi: opt.Aoi = None,
    reference: opt.Reference = None,
    layer: opt.Layer = None,
    positive: opt.Positive = None,
    districts: opt.Districts = None,
    imagery_crs: opt.ImageryCrs = None,
    resolution_m: opt.ResolutionM = None,
    default_tag: opt.DefaultTag = None,
    vectors_crs: opt.VectorsCrs = None,
    vectors_encoding: opt.VectorsEncoding = None,
    vectors_id: opt.VectorsId = None,
    stride_px: opt.StridePx = opt.GRID.stride_px,
    block_px: opt.BlockPx = opt.GRID.block_px,
    symmetries: Annotated[
        int, typer.Option(min=1, max=8, help="Above 1: ask turned and mirrored, band 2 says how they differ.")
    ] = opt.GRID.symmetries,
    seed: Annotated[float, typer.Option(help="Probability that starts a village.")] = opt.POLYGONS.seed,
    grow: Annotated[float, typer.Option(help="Probability down to which it grows.")] = opt.POLYGONS.grow,
    close_gap_m: opt.CloseGapM = opt.POLYGONS.close_gap_m,
    min_area_m2: opt.MinAreaM2 = opt.POLYGONS.min_area_m2,
    simplify_m: Annotated[float, typer.Option(help="Largest shift of a simplified outline.")] = opt.POLYGONS.simplify_m,
    refiner: Annotated[
        str, typer.Option("--refine", help="Boundary refinement: none, built-in or sam.")
    ] = opt.REFINEMENT.refiner,
    sam_weights: Annotated[Path | None, typer.Option(help="Folder with SAM weights, for --refine sam.")] = None,
    text_encoder: opt.TextEncoder = None,
    text_weights: opt.TextWeights = None,
    adapt: Annotated[
        bool, typer.Option(help="Adapt models that can to the look of this imagery, without labels.")
    ] = True,
    previous: Annotated[
        Path | None, typer.Option(help="Product of the last release; its villages keep their ids.")
    ] = None,
    gallery: opt.Gallery = True,
    json: JsonFlag = False,
) -> None:
    """Map a city, or the ground of some scenes: scores, polygons, STAC item, manifest and report.

    With reference polygons (labels/uv.gpkg or --reference) the map is compared with them at once. Stopped and
    started again it goes on where it stopped; what has not changed
    is not computed again.

    Example: uvmap map 440300 --checkpoint out/model --data-root data/china
    """
    from pipeline.city.job import CityJob
    from pipeline.city.stages import map_city
    from regions.settings import TextConfig

    sources = opt.sources_from(
        city,
        data_root=data_root,
        imagery=imagery,
        vectors=vectors,
        aoi=aoi,
        reference=reference,
        reference_layer=layer,
        reference_positive=positive,
        districts=districts,
        imagery_crs=imagery_crs,
        default_tag=default_tag,
        vectors_crs=vectors_crs,
        vectors_encoding=vectors_encoding,
        vectors_id=vectors_id,
    )
    ground = opt.ground_from(
        sources,
        work=out / ".work",
        grid=opt.grid_of(resolution_m=resolution_m, stride_px=stride_px, block_px=block_px, symmetries=symmetries),
    )
    job = CityJob(
        ground=ground,
        checkpoint=checkpoint,
        out=out / ground.adcode,
        polygons=opt.polygons_of(
            seed=seed, grow=grow, close_gap_m=close_gap_m, min_area_m2=min_area_m2, simplify_m=simplify_m
        ),
        refinement=opt.refinement_of(refiner=refiner, sam_weights=sam_weights),
        adapt=adapt,
        text=TextConfig(encoder=text_encoder, weights=text_weights),
        previous=previous,
    )
    summary = map_city(job, progress=not json)
    if sources.reference:
        from flows.assessment import assess_wall_to_wall

        summary["accuracy"] = assess_wall_to_wall(job, ground.extent(), with_gallery=gallery)["figures"]
    flat = {k: v for k, v in summary.items() if not isinstance(v, dict | list)} | summary.get("accuracy", {})
    text = "\n".join(
        f"{key:<28} {value:.4f}" if isinstance(value, float) else f"{key:<28} {value}" for key, value in flat.items()
    )
    show(summary, text=f"{text}\nnext: open {summary['report']}", as_json=json)
    for warning in summary["warnings"]:  # last, where they are seen
        say(f"warning: {warning}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("map")(map_)
