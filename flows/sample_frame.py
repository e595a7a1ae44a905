"""`uvmap sample totals` and `uvmap sample cities`: the frame of cities, the ground of its maps, and draws from it."""

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


def cities(  # noqa: PLR0913 - the arguments of a command are its options
    *,
    out: Annotated[Path, typer.Option(help="Table to write, such as sample/cities.csv.")],
    per_region: Annotated[int, typer.Option(help="Cities per region, beside certainties.")] = 4,
    region_count: Annotated[list[str] | None, typer.Option(help="Region=number, in place of --per-region.")] = None,
    design: Annotated[
        str, typer.Option(help="srs: all cities of a region alike; pps: in proportion to their size, without repeats.")
    ] = "srs",
    sizes: Annotated[
        Path | None, typer.Option(help="With --design pps: city_totals.csv of `uvmap sample totals`.")
    ] = None,
    size_floor: Annotated[
        float, typer.Option(help="With --design pps: added to mapped ground, as a share of what is average there.")
    ] = 0.5,
    certainty: Annotated[
        Path | None, typer.Option(help="Table of cities (adcode) that are in whatever is drawn, such as those done.")
    ] = None,
    frame: Frame = None,
    seed: Annotated[int, typer.Option(help="Seed of the survey: keep it, and a pilot can grow.")],
    as_json: JsonFlag = False,
) -> None:
    """Draw cities of the national set at random within regions: 4 in each of 7 by default, 28 of 342.

    With --design pps cities with much mapped ground are drawn more often, which takes far fewer cities for the same
    error. --certainty joins cities that were chosen on purpose with random ones: they speak for themselves, the random
    ones for all others. Both write pi_city, and the estimate takes --psu-selection pps.

    Example: uvmap sample cities --seed 7 --out sample/cities.csv
    """
    from accuracy.choices import choose
    from accuracy.errors import DrawError
    from accuracy.survey.drawing import draw_cities
    from accuracy.survey.unequal_draw import CityDraw, draw_unequal_cities
    from accuracy.tables import write_table

    known = read_frame(frame)
    how = choose(design, ("srs", "pps"), "--design")
    if how == "pps" and sizes is None:
        raise DrawError("--design pps without --sizes: give city_totals.csv of `uvmap sample totals`")
    if how == "srs" and sizes is not None:
        raise DrawError(f"--sizes {sizes} says how large cities are, --design srs draws all alike: give --design pps")
    wanted: int | dict[str, int] = per_region
    if region_count:
        wanted = dict.fromkeys(sorted(known["region"].unique()), per_region) | _read_counts(region_count)
    if how == "srs" and certainty is None:
        drawn = draw_cities(known, per_region=wanted, seed=seed)
    else:
        chosen = () if certainty is None else _read_certainties(certainty)
        size = None if sizes is None else _read_sizes(sizes, known, size_floor)
        drawn = draw_unequal_cities(known, CityDraw(seed=seed, per_region=wanted, certainty=chosen, size=size))
    write_table(drawn, out)
    rows = [{str(k): v for k, v in row.items()} for row in drawn.to_dict("records")]
    names = {"name_zh": "name", "name_en": "English", "pi_city": "probability"}
    columns = {"region": "region", "adcode": "adcode"} | {k: v for k, v in names.items() if k in drawn.columns}
    text = table(rows, columns)
    text += f"\n{len(drawn)} of {len(known)} cities written to {out}\nnext: uvmap sample points --cities {out}"
    selection = "pps" if "pi_city" in drawn.columns else "probability"
    text += f"; then uvmap assess sample --psu-selection {selection}"
    show(
        {"cities": rows, "frame": len(known), "file": str(out), "psu_selection": selection}, text=text, as_json=as_json
    )


def _read_counts(texts: list[str]) -> dict[str, int]:
    from accuracy.errors import DrawError

    counts = {}
    for text in texts:
        name, sign, number = text.partition("=")
        if not (sign and number.isdecimal()):
            raise DrawError(f"--region-count {text!r}: write region=number, such as South=6")
        counts[name] = int(number)
    return counts


def _read_certainties(path: Path) -> list[str]:
    from accuracy.errors import DrawError
    from accuracy.survey.design import as_text
    from accuracy.tables import read_table

    found = read_table(path)
    if "adcode" not in found.columns or found.empty:
        raise DrawError(f"{path} has no column 'adcode' or no row: list the cities that are in, one a row")
    return sorted(set(as_text(found["adcode"]).dropna()))


def _read_sizes(path: Path, frame: "pd.DataFrame", floor: float) -> dict[str, float]:
    from accuracy.errors import DrawError
    from accuracy.survey.design import as_text
    from accuracy.survey.unequal_draw import size_of_cities
    from accuracy.tables import read_table

    found = read_table(path)
    if "adcode" not in found.columns:
        raise DrawError(f"{path} has no column 'adcode': give city_totals.csv of `uvmap sample totals`")
    found = found.assign(adcode=as_text(found["adcode"]))
    found = found[found["adcode"].isin(set(frame["adcode"]))]
    repeated = found["adcode"][found["adcode"].duplicated()]
    if len(repeated):
        raise DrawError(f"{path} has city {repeated.iloc[0]!r} twice: keep one row per city")
    return size_of_cities(found, floor=floor)


def add_commands(app: typer.Typer) -> None:
    """Add the commands to `uvmap sample`."""
    app.command("totals")(totals)
    app.command("cities")(cities)
