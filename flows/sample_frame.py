"""`uvmap sample totals`: the frame of cities, its maps' totals."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.console import JsonFlag, progress, show, table

if TYPE_CHECKING:
    import pandas as pd

Frame = Annotated[
    Path | None, typer.Option(help="Table of all cities (adcode, region), in place of the national set of 342.")
]


def totals(
    *,
    products: Annotated[Path, typer.Option(help="Folder of the cities' products, {adcode} each.")] = Path("out/china"),
    frame: Frame = None,
    out: Annotated[Path, typer.Option(help="Folder that receives map_totals.csv and city_totals.csv.")],
    as_json: JsonFlag = False,
) -> None:
    """Measure the mapped and unmapped ground of every city of the frame, from the products' masks.

    map_totals.csv (region, map, area_m2) is for --map-totals; city_totals.csv (adcode, region, mapped_m2, …) for
    drawing cities in proportion to their mapped ground. Every city of the frame must be mapped.

    Example: uvmap sample totals --products out/china --out sample
    """
    import pandas as pd

    from accuracy.survey.map_totals import CITY_COLUMNS, measure_cities, sum_map_totals
    from accuracy.tables import write_table
    from pipeline.product.files import mask_path

    cities = read_frame(frame)
    masks = {adcode: mask_path(products / adcode, adcode) for adcode in cities["adcode"]}
    regions = dict(zip(cities["adcode"], cities["region"], strict=True))
    rows = progress(measure_cities(masks, regions), total=len(masks), unit="city", label="measure masks")
    measured = pd.DataFrame(list(rows), columns=list(CITY_COLUMNS))
    known = sum_map_totals(measured)
    files = [write_table(known, out / "map_totals.csv"), write_table(measured, out / "city_totals.csv")]
    shown = known.assign(km2=known["area_m2"] / 1e6)
    data: dict[str, Any] = {"cities": len(measured), "totals": shown.to_dict("records"), "files": [*map(str, files)]}
    text = table(
        [{str(k): v for k, v in row.items()} for row in shown.to_dict("records")],
        {"region": "region", "map": "map", "km2": "km²", "cities": "cities"},
    )
    show(data, text=f"{text}\n" + "\n".join(map(str, files)), as_json=as_json)


def read_frame(path: Path | None) -> "pd.DataFrame":
    """All cities of the frame with ``adcode`` and ``region`` as text: the national set, or those of a table."""
    import pandas as pd

    from accuracy.survey.design import as_text
    from accuracy.survey.map_totals import require_frame_columns
    from accuracy.tables import read_table
    from regions.registry import load_registry

    if path is None:
        columns = ("adcode", "name_zh", "name_en", "province", "region")
        return pd.DataFrame([{c: getattr(city, c) for c in columns} for city in load_registry() if city.national])
    found = read_table(path)
    require_frame_columns(found, str(path))
    return found.assign(adcode=as_text(found["adcode"]), region=as_text(found["region"]))


def add_commands(app: typer.Typer) -> None:
    """Add the commands to `uvmap sample`."""
    app.command("totals")(totals)
