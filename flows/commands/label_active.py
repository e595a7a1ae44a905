"""Active learning of `uvmap label`: tiles worth labelling, and answers about them as reference to learn from."""

from pathlib import Path
from typing import Annotated

import typer

from flows.console import JsonFlag, say, show

SQUARE_QUESTION = "Square of urban village: all 1, none 0, mixed or unclear ?"


def select(
    product: Annotated[Path, typer.Argument(help="Product folder of `uvmap map`.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder that receives tiles.gpkg, points_to_label.gpkg and pages.")],
    tiles: Annotated[int, typer.Option(min=1, help="Tiles to choose.")] = 200,
    tile_m: Annotated[float, typer.Option(help="Side of a tile.")] = 128.0,
    random_share: Annotated[float, typer.Option(help="Share of the tiles that is drawn at random.")] = 0.2,
    by: Annotated[
        str, typer.Option(help="entropy of the scores, or disagreement of the views (`uvmap map --symmetries 8`).")
    ] = "entropy",
    areas: Annotated[Path | None, typer.Option(help="Areas in which tiles may lie.")] = None,
    role: Annotated[str | None, typer.Option(help="Only areas with this value in column `role`.")] = None,
    leave_out: Annotated[
        list[Path] | None, typer.Option(help="Areas where no tile may lie: assessed, or labelled already.")
    ] = None,
    imagery: Annotated[list[Path] | None, typer.Option(help="8-bit imagery: pages are written at once.")] = None,
    image_date: Annotated[list[str] | None, typer.Option(help="ISO date of the imagery, as of `label page`.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of what is drawn.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Choose the tiles whose labels would teach a model most: uncertain, spread over the city, and some by chance.

    They are for training. Accuracy is never estimated from them: draw a sample (`uvmap sample points`) for that.

    Example: uvmap label select out/china/440300 --tiles 200 --leave-out assessed.gpkg --imagery scene.tif --out active
    """
    import geopandas as gpd
    import pandas as pd

    from accuracy.choices import choose
    from accuracy.survey.active import UNCERTAINTIES, ActiveSelection, points_of_tiles, select_tiles
    from accuracy.survey.chips import ChipSize
    from accuracy.survey.labelling_page import write_labelling_pages
    from accuracy.tables import read_places, write_table
    from flows.assessment import find_rasters, read_areas
    from flows.label_imagery import date_imagery

    rasters = find_rasters(product)
    kept_out = [read_places(path).to_crs("EPSG:4326")[["geometry"]] for path in leave_out or ()]
    chosen = select_tiles(
        rasters,
        ActiveSelection(
            tiles=tiles, tile_m=tile_m, random_share=random_share, by=choose(by, UNCERTAINTIES, "--by"), seed=seed
        ),
        areas=read_areas(areas, role),
        leave_out=gpd.GeoDataFrame(pd.concat(kept_out, ignore_index=True)) if kept_out else None,
    )
    points = points_of_tiles(chosen, rasters.scores.name.partition("_")[0])
    files = [write_table(chosen, out / "tiles.gpkg"), write_table(points, out / "points_to_label.gpkg")]
    size = ChipSize(half_side_m=1.5 * tile_m / 2, pixel_m=tile_m)
    if imagery:
        written = write_labelling_pages(
            points, out, imagery=date_imagery(imagery, image_date or []), size=size, title=SQUARE_QUESTION
        )
        files += written.pages
        if len(written.without_picture):
            say(f"warning: {len(written.without_picture)} tiles are shown by no raster; see {written.list_file}")
    counts = chosen["chosen_by"].value_counts().to_dict()
    text = (
        "\n".join(map(str, files))
        + f"\n{counts.get('uncertain', 0)} uncertain tiles, {counts.get('random', 0)} by chance"
    )
    if not imagery:
        text += (
            f"\nnext: uvmap label page {out / 'points_to_label.gpkg'} --imagery SCENE --pixel-m {size.pixel_m:g}"
            f" --half-side-m {size.half_side_m:g} --title {SQUARE_QUESTION!r} --out {out}"
        )
    show({"files": [str(f) for f in files], "tiles": len(chosen), **counts}, text=text, as_json=as_json)


def squares(
    tiles: Annotated[Path, typer.Argument(help="tiles.gpkg of `uvmap label select`.")],
    labels: Annotated[list[Path], typer.Argument(help="Tables of answers that the pages saved.")],
    *,
    product: Annotated[Path, typer.Option(help="Product folder that the tiles were chosen from.")],
    out: Annotated[Path, typer.Option(help="Mask raster to write, for `uvmap train --reference`.")],
    as_json: JsonFlag = False,
) -> None:
    """Make reference of answers about squares: 1 where all is village, 0 where none is, the rest without label.

    A square that nobody answered, or that interpreters answered differently, stays without label.

    Example: uvmap label squares active/tiles.gpkg active/labels_*.csv --product out/440300 --out active/uv.tif
    """
    from accuracy.survey.active import burn_answers
    from accuracy.survey.labels import read_labels
    from accuracy.tables import read_places
    from flows.assessment import find_rasters

    counts = burn_answers(
        read_places(tiles), [read_labels(path) for path in labels], like=find_rasters(product).scores, out=out
    )
    text = ", ".join(f"{n} {name}" for name, n in counts.items()) + f"\n{out}\nnext: uvmap train with --reference {out}"
    show({"file": str(out), **counts}, text=text, as_json=as_json)
