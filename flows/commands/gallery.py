"""`uvmap gallery`: a page that shows a map beside imagery and reference, where it errs and where nobody chose."""

from pathlib import Path
from typing import Annotated

import typer

from flows.commands import options as opt
from flows.console import JsonFlag, say, show, table


def gallery(
    product: Annotated[Path, typer.Argument(help="Product folder of `uvmap map`.")],
    *,
    reference: Annotated[list[Path], typer.Option(help="Reference polygons or mask raster; repeat for several.")],
    imagery: Annotated[
        list[Path] | None, typer.Option(help="Scenes of the product, topmost first; without, pictures show no imagery.")
    ] = None,
    areas: Annotated[Path | None, typer.Option(help="Areas where the reference is complete.")] = None,
    role: Annotated[str | None, typer.Option(help="Only areas with this value in column `role`.")] = None,
    layer: opt.Layer = None,
    positive: opt.Positive = None,
    imagery_crs: opt.ReferenceRasterCrs = None,
    villages: Annotated[int, typer.Option(min=0, max=60, help="Reference villages at most.")] = 24,
    regions: Annotated[int, typer.Option(min=0, max=30, help="Largest missed regions and false alarms, each.")] = 14,
    tiles: Annotated[int, typer.Option(min=0, max=60, help="Tiles drawn at random.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of what is drawn.")] = 0,
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("out/gallery.html"),
    title: Annotated[str, typer.Option(help="Title of the page.")] = "Map and reference, side by side",
    json: JsonFlag = False,
) -> None:
    """Show the published map beside imagery, reference and scores: villages, missed ground, false alarms, random tiles.

    Errors are counted by kind: missed, false, boundary. The page is one file that opens from disk.

    Example: uvmap gallery out/demo/990001 --reference truth.gpkg --imagery scene.tif --areas districts.gpkg
    --role assess
    """
    from accuracy.reporting.gallery_places import GalleryLimits
    from flows.assessment import find_polygons, find_rasters, read_areas, read_reference
    from flows.gallery import GalleryGround, imagery_of_product, write_product_gallery
    from pipeline.reference.reader import ReferenceHints

    rasters = find_rasters(product)
    labels = read_reference(reference, rasters, hints=ReferenceHints(layer, tuple(positive or ()), imagery_crs))
    for warning in labels.warnings:
        say(f"warning: {warning}")
    where = read_areas(areas, role)
    with imagery_of_product(rasters, imagery or (), crs=imagery_crs) as scenes:
        result = write_product_gallery(
            rasters,
            find_polygons(product),
            GalleryGround(reference=labels, areas=where, where=describe(areas, role)),
            out,
            title=title,
            imagery=scenes,
            limits=GalleryLimits(villages=villages, regions=regions, tiles=tiles, seed=seed),
        )
    data = result.as_dict()
    columns = {"kind": "errors", "regions": "regions", "area_m2": "m2"}
    show(data, text=f"{table(data['errors'], columns)}\nnext: open {out}", as_json=json)


def describe(areas: Path | None, role: str | None) -> str:
    """Which ground is judged, in words."""
    if areas is None:
        return "all ground with labels"
    return f"the areas of {areas.name}" + ("" if role is None else f" with role {role}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(gallery)
