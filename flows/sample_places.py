"""Where a sample is drawn: the products of the drawn cities, or the two rasters of one."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def single_place(score: Path | None, mask: Path | None, city: str, region: str) -> dict[str, Any] | None:
    """The one city of --score and --mask, or None where neither is given."""
    from accuracy.errors import DrawError
    from accuracy.survey.map_strata import MapRasters

    if score is None and mask is None:
        return None
    if score is None or mask is None:
        given, lacking = ("--mask", "--score") if score is None else ("--score", "--mask")
        raise DrawError(
            f"{given} without {lacking}: strata need both, the published polygons ({{adcode}}_uv_mask.tif) and the"
            " scores ({adcode}_scores.tif) of one product"
        )
    return {
        "rasters": MapRasters(mask=mask, scores=score),
        "city": city,
        "region": region,
        "draw": {"N_city": 1, "n_city": 1},
    }


def find_places(cities: Path | None, products: Path, *, single: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The products to draw in: `city`, `region`, `rasters`, and `draw` (how the city was drawn: `N_city`, …) each.

    Raises:
        DrawError: Nothing was given, the table is none of `uvmap sample cities`, or a city has no whole product.
    """
    from accuracy.errors import DrawError
    from accuracy.survey.map_strata import MapRasters
    from accuracy.tables import read_table
    from pipeline.product.files import mask_path, scores_path

    if single is not None:
        return [single]
    if cities is None:
        raise DrawError("give --cities (from `uvmap sample cities`), or --score and --mask for a single city")
    frame = read_table(cities)
    missing = [c for c in ("adcode", "region", "N_city", "n_city") if c not in frame.columns]
    if missing:
        raise DrawError(f"{cities} has no column {missing[0]!r}: write it with `uvmap sample cities`")
    places: list[dict[str, Any]] = []
    absent: list[Path] = []
    for row in frame.to_dict("records"):
        adcode = str(row["adcode"])
        folder = products / adcode
        rasters = MapRasters(mask=mask_path(folder, adcode), scores=scores_path(folder, adcode))
        absent += [path for path in (rasters.mask, rasters.scores) if not path.exists()][:1]
        places.append(
            {
                "rasters": rasters,
                "city": adcode,
                "region": str(row["region"]),
                "draw": {
                    "N_city": int(row["N_city"]),
                    "n_city": int(row["n_city"]),
                    **({"pi_city": float(row["pi_city"])} if "pi_city" in frame.columns else {}),
                },
            }
        )
    if absent:
        raise DrawError(
            f"{len(absent)} of {len(places)} drawn cities have no whole product under {products} (first:"
            f" {absent[0]} is missing): map them first; leaving them out would break the draw"
        )
    return places


def first_stage(design: "pd.DataFrame") -> "pd.Series":
    """The probability that a unit's city was drawn: its own where cities were drawn with unequal ones."""
    return design["pi_city"] if "pi_city" in design.columns else design["n_city"] / design["N_city"]
