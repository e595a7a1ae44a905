"""`uvmap sample`: plan an assessment's size, and draw its cities, points and blocks."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows import sample_frame
from flows.console import JsonFlag, progress, say, show, table
from flows.sample_places import find_places, first_stage, single_place

Seed = Annotated[int, typer.Option(min=0, help="Seed of the survey: keep it, and a pilot can grow.")]
Out = Annotated[Path, typer.Option(help="Folder that receives the files.")]
Cities = Annotated[
    Path | None, typer.Option(help="Drawn cities: table of `uvmap sample cities` (adcode, region, N_city, n_city).")
]
Products = Annotated[Path, typer.Option(help="Folder of the cities' products, {adcode} each.")]
Score = Annotated[
    Path | None, typer.Option(help="Score raster of one city, with --mask, instead of --cities and --products.")
]
Mask = Annotated[
    Path | None, typer.Option(help="With --score: raster of the published polygons, {adcode}_uv_mask.tif.")
]
City = Annotated[str, typer.Option(help="With --score: key of the city.")]
Region = Annotated[str, typer.Option(help="With --score: its region.")]
Candidate = Annotated[float, typer.Option(help="Score from which a pixel that is not mapped is a candidate, 0 to 1.")]
BufferM = Annotated[float, typer.Option(help="Distance to a mapped pixel within which pixels are candidates.")]

app = typer.Typer(
    no_args_is_help=True,
    help="Plan an assessment's size, and draw its cities, points and blocks.\n\nExample: uvmap sample cities --help",
)


@app.command("size")
def size(
    *,
    measure: Annotated[str, typer.Option(help="UA, PA, F1, IoU, OA or area.")] = "F1",
    target_se: Annotated[float, typer.Option(help="Standard error wanted.")] = 0.03,
    stratum: Annotated[
        list[str] | None,
        typer.Option(help="name:share of area:mapped 0/1:true share[:cost of a point], once per stratum; guesses."),
    ] = None,
    method: Annotated[str, typer.Option(help="neyman, proportional, equal, cost or fixed_minimum.")] = "neyman",
    minimum: Annotated[int, typer.Option(help="Points that no stratum goes below, for fixed_minimum.")] = 50,
    rho: Annotated[float, typer.Option(help="Correlation of any two points inside a city, for --city-cost.")] = 0.02,
    error_cv: Annotated[
        float, typer.Option(help="How much cities' error rates differ: coefficient of variation.")
    ] = 0.4,
    city_cv: Annotated[float, typer.Option(help="How much cities' sizes differ: coefficient of variation.")] = 0.5,
    points_per_city: Annotated[int, typer.Option(help="Points in each drawn city.")] = 210,
    city_cost: Annotated[
        float | None, typer.Option(help="Cost of one more city in points: chooses the points per city.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """How many points and cities a target precision takes, and how to share them between strata.

    Example: uvmap sample size --measure PA --target-se 0.05 --stratum mapped:0.01:1:0.85
    --stratum candidate:0.05:0:0.063 --stratum rest:0.94:0:0.0008
    """
    from accuracy.choices import choose
    from accuracy.survey.planning import (
        ALLOCATIONS,
        allocate,
        best_points_per_city,
        expected_measure,
        plan_cities,
        planned_se,
        ratio_sd,
        sample_size,
    )

    strata, costs = zip(*(_read_stratum(text) for text in stratum or DEFAULT_STRATA), strict=True)
    shares, sd = [s.share for s in strata], [float(v) for v in ratio_sd(strata, measure)]
    n = max(int(-(-sample_size(shares, sd, target_se) // 1)), 2 * len(strata))
    points = allocate(n, shares, sd, method=choose(method, ALLOCATIONS, "--method"), minimum=minimum, cost=costs)
    if city_cost is not None:
        points_per_city = max(2, round(best_points_per_city(city_cost, rho)))
    chosen = choose(method, ALLOCATIONS, "--method")
    here = allocate(points_per_city, shares, sd, method=chosen, minimum=min(minimum, points_per_city // 5), cost=costs)
    stages = plan_cities(strata, measure, target_se=target_se, points=here, error_cv=error_cv, city_cv=city_cv)
    whole = stages.cities * points_per_city
    rows = [
        {"stratum": s.name, "share": s.share, "true_share": s.true_share, "points": k, "per_city": c}
        for s, k, c in zip(strata, points, here, strict=True)
    ]
    data: dict[str, Any] = {
        "measure": measure,
        "expected": expected_measure(strata, measure),
        "target_se": target_se,
        "points_if_independent": n,
        "planned_se": planned_se(shares, sd, points),
        "strata": rows,
        "two_stage": {
            "cities": stages.cities,
            "points_per_city": points_per_city,
            "points": whole,
            "deff": whole * (stages.se / target_se) ** 2 / n,
            "se": stages.se,
            "floor_se": stages.floor_se,
        },
    }
    text = table(
        rows,
        {"stratum": "stratum", "share": "share", "true_share": "true share", "points": "points"}
        | {"per_city": "in a city"},
    )
    text += (
        f"\n{measure} of {data['expected']:.3f} with a standard error of {data['planned_se']:.3f}:"
        f" {n} independent points;"
        f" in cities: {stages.cities} cities x {points_per_city} points (design effect"
        f" {data['two_stage']['deff']:.2f}); cities drawn by size (`uvmap sample cities --design pps`) take fewer"
    )
    show(data, text=text, as_json=as_json)


@app.command("points")
def points(
    *,
    out: Out,
    seed: Seed,
    cities: Cities = None,
    products: Products = Path("out/china"),
    score: Score = None,
    mask: Mask = None,
    city: City = "city",
    region: Region = "all",
    mapped: Annotated[int, typer.Option(help="Points per city in mapped urban village.")] = 30,
    candidate: Annotated[int, typer.Option(help="Points per city where omissions hide.")] = 60,
    rest: Annotated[int, typer.Option(help="Points per city elsewhere.")] = 120,
    sizes: Annotated[
        Path | None,
        typer.Option(
            help="city_totals.csv of `uvmap sample totals`: gives the points out by the cities' ground; --mapped,"
            " --candidate and --rest are then averages."
        ),
    ] = None,
    candidate_threshold: Candidate = 0.1,
    buffer_m: BufferM = 30.0,
    as_json: JsonFlag = False,
) -> None:
    """Draw points in the cities' products and write what interpreters label and what the estimate needs.

    Strata: mapped (inside the published polygons), candidate (a score of at least --candidate-threshold, or within
    --buffer-m of a mapped pixel), rest.

    points_to_label.gpkg holds places only; points_design.parquet holds map, strata and sizes: keep it from
    interpreters. survey.json records the draw: seed, frame, strata, and the checksums of the products. Run again with
    more points: all earlier points stay.

    With --sizes cities get points by what they hold: fewer in small ones, more in the rest of large ones.

    Example: uvmap sample points --cities sample/cities.csv --products out/china --seed 7 --out sample
    """
    import pandas as pd

    from accuracy.survey.map_strata import MapStrata
    from accuracy.survey.point_draw import blind, describe_draw, draw_points
    from accuracy.tables import write_table
    from flows.survey_record import add_villages, record_city, record_survey

    strata = MapStrata(candidate_threshold=candidate_threshold, buffer_m=buffer_m)
    allocation = {"mapped": mapped, "candidate": candidate, "rest": rest}
    parts, counts, kept = [], {}, []
    places = find_places(cities, products, single=single_place(score, mask, city, region))
    own = {} if sizes is None else _spread(sizes, places, allocation)
    for place in progress(places, total=len(places), unit="city", label="draw points"):
        drawn = draw_points(
            place["rasters"],
            city=place["city"],
            region=place["region"],
            allocation=own.get(place["city"], allocation),
            seed=seed,
            strata=strata,
        )
        counts[place["city"]] = describe_draw(drawn)
        kept.append(record_city(place, drawn))
        located = add_villages(drawn.design, place, kept[-1])
        parts.append(located.to_crs("EPSG:4326").assign(**place["draw"]))
    design = pd.concat(parts, ignore_index=True)
    design["pi"] = first_stage(design) * design["pi_point"]
    files = [
        write_table(design, out / "points_design.parquet"),
        write_table(blind(design, seed=seed), out / "points_to_label.gpkg"),
        record_survey(kept, places, strata, seed=seed).write(out),
    ]
    _done(files, counts, len(design), "points", as_json=as_json)


@app.command("blocks")
def blocks(
    *,
    out: Out,
    seed: Seed,
    cities: Cities = None,
    products: Products = Path("out/china"),
    score: Score = None,
    mask: Mask = None,
    city: City = "city",
    region: Region = "all",
    with_village: Annotated[int, typer.Option(help="Blocks per city that hold a published village.")] = 4,
    with_candidate: Annotated[int, typer.Option(help="Blocks per city that hold a candidate only.")] = 2,
    without: Annotated[int, typer.Option(help="Blocks per city that hold neither.")] = 2,
    block_px: Annotated[int, typer.Option(help="Side of a block.")] = 256,
    candidate_threshold: Candidate = 0.1,
    buffer_m: BufferM = 30.0,
    as_json: JsonFlag = False,
) -> None:
    """Draw blocks to be digitised completely, for object and boundary measures.

    Example: uvmap sample blocks --cities sample/cities.csv --products out/china --seed 7 --out sample
    """
    import pandas as pd

    from accuracy.survey.block_draw import draw_blocks
    from accuracy.survey.map_strata import MapStrata
    from accuracy.tables import write_table

    strata = MapStrata(candidate_threshold=candidate_threshold, buffer_m=buffer_m)
    allocation = {"with_village": with_village, "with_candidate": with_candidate, "without": without}
    parts, counts = [], {}
    places = find_places(cities, products, single=single_place(score, mask, city, region))
    for place in progress(places, total=len(places), unit="city", label="draw blocks"):
        drawn = draw_blocks(
            place["rasters"],
            city=place["city"],
            region=place["region"],
            allocation=allocation,
            seed=seed,
            block_px=block_px,
            strata=strata,
        )
        counts[place["city"]] = {"blocks": len(drawn)}
        parts.append(drawn.to_crs("EPSG:4326").assign(**place["draw"]))
    design = pd.concat(parts, ignore_index=True)
    design["pi"] = first_stage(design) * design["m_block"] / design["M_block"]
    places_only = design[["block_id", "city", "geometry"]].sort_values("block_id", ignore_index=True)
    files = [
        write_table(design, out / "blocks_design.parquet"),
        write_table(places_only, out / "blocks_to_digitise.gpkg"),
    ]
    _done(files, counts, len(design), "blocks", as_json=as_json)


def _spread(sizes: Path, places: list[dict[str, Any]], mean: dict[str, int]) -> dict[str, dict[str, int]]:
    """Points of every city and stratum by what is known of its ground."""
    from accuracy.survey.point_spread import spread_over_cities
    from accuracy.tables import read_table

    drawn = {}
    for place in places:
        draw = place["draw"]
        drawn[place["city"]] = draw.get("pi_city", draw["n_city"] / draw["N_city"])
    return spread_over_cities(read_table(sizes), drawn, mean, source=str(sizes))


DEFAULT_STRATA = ("mapped:0.01:1:0.85", "candidate:0.05:0:0.06336", "rest:0.94:0:0.000843")


def _read_stratum(text: str) -> tuple[Any, float]:
    """The stratum of `name:share:mapped:true share[:cost]`, and the cost of a point in it (1 where none is given)."""
    from accuracy.errors import PlanningError
    from accuracy.survey.planning import ExpectedStratum

    words = text.split(":")
    try:
        name, share, is_mapped, true_share, cost = words if len(words) == 5 else (*words, "1")
        stratum = ExpectedStratum(
            name=name, share=float(share), mapped=bool(int(is_mapped)), true_share=float(true_share)
        )
        value = float(cost)
    except ValueError as error:
        raise PlanningError(
            f"--stratum {text!r}: write name:share:mapped:true share[:cost], as mapped:0.01:1:0.85"
        ) from error
    if not value > 0:
        raise PlanningError(f"--stratum {text!r}: the cost of a point is {value:g}, it must be above 0")
    return stratum, value


def _done(files: list[Path], counts: dict[str, Any], number: int, what: str, *, as_json: bool) -> None:
    for city, count in counts.items():
        if count.get("not_predicted_px"):
            say(f"note: {city} has {count['not_predicted_px']} pixels without a score; the sample says nothing of them")
    text = f"{number} {what} in {len(counts)} cities\n" + "\n".join(map(str, files))
    data = {what: number, "cities": counts, "files": [str(f) for f in files]}
    show(data, text=f"{text}\nnext: uvmap label, then uvmap assess sample", as_json=as_json)


def register(main: typer.Typer) -> None:
    """Add the commands."""
    sample_frame.add_commands(app)
    main.add_typer(app, name="sample")
