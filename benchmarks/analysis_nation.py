"""Planted truth against `uvmap analyze` on real products: a nation of demo cities, mapped with errors and assessed.

    .venv/bin/python benchmarks/analysis_nation.py --out out/planted [--cities 42] [--side-m 4000]

Each city of the demo generator gets what is planted: the share of superblocks with villages (Central and South more),
their crowding, and storeys of their houses (fewer towards the South). Its map is the truth with errors: villages left
out, outlines moved, look-alikes taken for villages. Products, sample, assessment and analysis come from the real
functions and commands. A second nation has nothing planted. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from scipy import stats
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.analysis.form import measure_city_form
from pipeline.attributes.buildings import Fabric, read_fabric
from regions.demo import Cover, VillagePlan, demo_features
from regions.demo.block import make_block
from regions.demo.city import to_frame
from regions.demo.frame import make_frame
from regions.demo.layout import make_layout
from regions.registry import City, national_set
from tests.support.products import write_campaign, write_map_of

ROOT = Path(__file__).resolve().parents[1]
STOREY_M = 3.1
SHARE, FACTOR, SCATTER = 0.18, 2.2, 0.25
CLAIMED = ("Central", "South")
STOREYS = {"North": 0.0, "Northeast": 0.0, "South": -2.0}
OTHER_STOREYS = -1.0
OMITTED, INVENTED, MOVED_M = 0.12, 0.06, 4.0
BUILT = frozenset(Cover) - {Cover.PARK, Cover.WATER, Cover.BARE, Cover.FARMLAND}
LOOK_ALIKE = (Cover.OLD_TOWN, Cover.WORKSHOP)


@dataclass(frozen=True)
class Truth:
    """What is true of one city."""

    uv_m2: float
    built_m2: float
    form: dict[str, float | int]


def choose_cities(count: int) -> list[City]:
    """So many of every region, spread over its cities."""
    of: dict[str, list[City]] = {}
    for city in national_set():
        of.setdefault(city.region, []).append(city)
    each = count // len(of)
    return [own[k * len(own) // each] for own in of.values() for k in range(each)]


def plan_of(city: City, k: int, *, planted: bool) -> VillagePlan:
    """What is planted of a city; without anything planted only the scatter of shares is there."""
    rng = np.random.default_rng([k, 5])
    share = SHARE * float(np.exp(SCATTER * rng.standard_normal()))
    if not planted:
        return VillagePlan(superblocks=share, storeys_added=OTHER_STOREYS)
    share *= FACTOR if city.region in CLAIMED else 1.0
    storeys = STOREYS.get(city.region, OTHER_STOREYS)
    return VillagePlan(superblocks=share, clusters=2 if city.region in CLAIMED else 0, storeys_added=storeys)


def make_city(root: Path, city: City, k: int, *, side_m: int, planted: bool) -> Truth:
    """Product, map features, built-up land and truth of one city."""
    villages = plan_of(city, k, planted=planted)
    place = {"center_lonlat": (city.seat_lon, city.seat_lat), "crs": city.crs}
    layout = make_layout(seed=k, side_m=side_m, villages=villages)
    frame = make_frame(side_m=side_m, **place)
    blocks = [make_block(layout, row, col) for row in range(layout.n) for col in range(layout.n)]
    parcels = [p for b in blocks for p in b.parcels]
    truth = gpd.GeoSeries([to_frame(v, frame) for b in blocks for v in b.villages], crs=frame.crs)
    built = [to_frame(shapely.Polygon(p.ring), frame) for p in parcels if p.cover in BUILT]
    alike = [to_frame(shapely.Polygon(p.ring), frame) for p in parcels if p.cover in LOOK_ALIKE]
    features = demo_features(k, side_m, villages=villages, **place)
    rng = np.random.default_rng([k, 6])
    kept = truth.to_numpy()[rng.random(len(truth)) >= OMITTED]
    kept = [shapely.buffer(v, rng.normal(0, MOVED_M)) for v in kept]
    wrong = [a.buffer(-3.0) for a in alike if rng.random() < INVENTED]
    shapes = [s for s in shapely.get_parts(shapely.union_all([*kept, *wrong])) if s.area > 1000]
    write_map_of(
        root / "products", city.adcode, shapes, bounds_m=frame.bounds_m, crs=frame.crs, vectors=features, seed=k
    )
    work = root / "products" / ".work" / city.adcode / "graph-made"
    work.mkdir(parents=True, exist_ok=True)
    features.to_parquet(work / "features.parquet")
    for name, shape in (("truth", list(truth)), ("built", [*built, *truth])):
        (root / name).mkdir(parents=True, exist_ok=True)
        whole = gpd.GeoDataFrame(geometry=[shapely.union_all(shape)], crs=frame.crs)
        whole.to_parquet(root / name / f"{city.adcode}.parquet")
    height = np.concatenate([b.height_m for b in blocks])
    quads = np.concatenate([b.quads for b in blocks]) + frame.origin
    complete = gpd.GeoDataFrame(
        {
            "height_m": pd.array(height, dtype="Float64"),
            "floors": pd.array(np.maximum(np.round(height / STOREY_M), 1), dtype="Float64"),
            "height_source": pd.array(["tag"] * len(height), dtype="string"),
        },
        geometry=shapely.polygons(quads),
        crs=frame.crs,
    )
    fabric = Fabric(complete, gpd.GeoDataFrame(geometry=[], crs=frame.crs))
    form = measure_city_form(truth, fabric, area=shapely.box(*frame.bounds_m), surroundings_m=1000.0)
    return Truth(float(shapely.union_all(truth).area), float(shapely.union_all([*built, *truth]).area), form)


def uvmap(*words: object) -> None:
    """One command, as people give it."""
    subprocess.run(
        [sys.executable, "-m", "flows.cli", *map(str, words)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )


def assess(root: Path, cities: list[City], *, seed: int = 7, name: str = "") -> None:
    """Two cities of three are drawn by region; the truth answers the points."""
    sample = root / f"sample{name}"
    sample.mkdir(parents=True, exist_ok=True)
    pd.DataFrame({"adcode": [c.adcode for c in cities], "region": [c.region for c in cities]}).to_csv(
        sample / "frame.csv", index=False
    )
    counts = pd.Series([c.region for c in cities]).value_counts()
    drawn = [w for r, n in sorted(counts.items()) for w in ("--region-count", f"{r}={max(2, 2 * n // 3)}")]
    products = root / "products"
    uvmap("sample", "totals", "--products", products, "--frame", sample / "frame.csv", "--out", sample)
    uvmap("sample", "cities", "--frame", sample / "frame.csv", "--seed", seed, *drawn, "--out", sample / "cities.csv")
    uvmap("sample", "points", "--cities", sample / "cities.csv", "--products", products, "--seed", seed,
          "--out", sample, "--mapped", 30, "--candidate", 60, "--rest", 120)  # fmt: skip
    points = gpd.read_parquet(sample / "points_design.parquet")
    answered = []
    for code, own in points.groupby("city"):
        truth = gpd.read_parquet(root / "truth" / f"{code}.parquet")
        inside = own.to_crs(truth.crs).geometry.within(truth.geometry.iloc[0])
        answered.append(own.assign(ref=inside.astype(int).to_numpy()))
    pd.concat(answered).to_parquet(sample / "labelled.parquet")
    uvmap("assess", "sample", sample / "labelled.parquet", "--psu-selection", "probability", "--second-stage-stratum",
          "map_stratum", "--map-totals", sample / "map_totals.csv", "--city-totals", sample / "city_totals.csv",
          "--out", root / f"assessment{name}")  # fmt: skip


def redraw(root: Path, cities: list[City], truths: list[Truth], count: int) -> dict[str, object]:
    """How often intervals of areas hold the truth when cities and points are drawn anew."""
    true = pd.Series([t.uv_m2 / 1e6 for t in truths]).groupby([c.region for c in cities]).sum()
    true["all"] = true.sum()
    rows = []
    for seed in tqdm(range(101, 101 + count), desc="samples drawn anew"):
        assess(root, cities, seed=seed, name=f"-{seed}")
        report = json.loads((root / f"assessment-{seed}" / "report.json").read_text(encoding="utf-8"))
        rows += [r | {"truth": true[r["value"]]} for r in report["areas"]]
    table = pd.DataFrame(rows)
    held = (table["low_km2"] <= table["truth"]) & (table["truth"] <= table["high_km2"])
    whole = table["value"] == "all"
    ratio = float((table["estimated_km2"] / table["truth"])[whole].mean())
    return {"draws": count, "nation_held": int(held[whole].sum()), "regions_held": int(held[~whole].sum()),
            "regions": int((~whole).sum()), "found_by_true": round(ratio, 4)}  # fmt: skip


def form_of_truth(root: Path, city: City) -> dict[str, float | int]:
    """Building form of the true villages, by the buildings that the map has."""
    truth = gpd.read_parquet(root / "truth" / f"{city.adcode}.parquet")
    features = gpd.read_parquet(root / "products" / ".work" / city.adcode / "graph-made" / "features.parquet")
    villages = truth.geometry.explode(ignore_index=True)
    whole = shapely.box(*features.total_bounds)
    return measure_city_form(villages, read_fabric(features), area=whole, surroundings_m=1000.0)


Row = dict[str, object]


def judged(what: str, truth: float, found: float, low: float, high: float) -> Row:
    """One planted value beside the recovered one."""
    held = "" if not np.isfinite(low) else "yes" if low <= truth <= high else "NO"
    return {"what": what, "truth": truth, "found": found, "low": low, "high": high, "held": held}


def compare_shares(tables: Path, true: pd.DataFrame) -> list[Row]:
    """Shares of nation and regions, and how many cities the model's intervals hold."""
    shares = pd.read_csv(tables / "shares.csv", dtype={"adcode": str})
    rows: list[Row] = []
    for row in shares[shares["level"].isin(["nation", "region"])].to_dict("records"):
        name = row["name"]
        mine = true if row["level"] == "nation" else true[true["region"] == name]
        for key, ends, words, truth in (
            ("share_area", "adjusted_{}", "share", mine["uv"].sum() / mine["built"].sum()),
            ("share_mean", "adjusted_mean_{}", "mean of cities", (mine["uv"] / mine["built"]).mean()),
        ):
            found = row["adjusted_share" if key == "share_area" else "adjusted_mean"]
            low, high = (100 * row[ends.format(e)] for e in ("low", "high"))
            rows.append(
                judged(f"{words} of {name}, % (mapped {100 * row[key]:.2f})", 100 * truth, 100 * found, low, high)
            )
    own = shares[shares["level"] == "city"].set_index("adcode").loc[true["adcode"]]
    truth_of_city = (true["uv"] / true["built"]).to_numpy()
    held = ((own["adjusted_low"] <= truth_of_city) & (truth_of_city <= own["adjusted_high"])).mean()
    rows.append({"what": "cities' shares within the model's interval, %", "found": 100 * float(held), "truth": 95.0})
    return rows


def compare_form(tables: Path, root: Path, cities: list[City], truths: list[Truth]) -> list[Row]:
    """Building form against that of the true villages, by the mapped buildings and by all."""
    form = pd.read_csv(tables / "form.csv").set_index(["measure", "name"])
    region = np.array([c.region for c in cities])
    of = {
        "mapped buildings": pd.DataFrame([form_of_truth(root, c) for c in cities]),
        "all buildings": pd.DataFrame([t.form for t in truths]),
    }
    rows = []
    for measure in ("coverage", "height_mean_m", "floor_area_ratio", "low_rise_share"):
        for what, known in of.items():
            gap = known[f"{measure}_in"] - known[f"{measure}_out"]
            for name in ("nation", "North", "South"):
                row = form.loc[(measure, name)]
                truth = gap.mean() if name == "nation" else gap[region == name].mean()
                label = f"{measure}, villages less around, {name}; truth of {what}"
                rows.append(judged(label, truth, row["difference"], row["low"], row["high"]))
    cells = pd.read_csv(tables / "form_cities.csv", dtype={"adcode": str}).set_index("adcode")
    cells = cells.reindex([c.adcode for c in cities])
    every = of["all buildings"]["height_mean_m_in"].to_numpy(dtype=float)
    truth = every[region == "South"].mean() - every[region == "North"].mean()
    for label, table in (("as mapped", cells), ("if the map had no errors", of["mapped buildings"])):
        own = table["height_mean_m_in"].to_numpy(dtype=float)
        south, north = (own[(region == r) & np.isfinite(own)] for r in ("South", "North"))
        low, high = stats.ttest_ind(south, north, equal_var=False).confidence_interval()
        what = f"height in villages, South less North, m, {label}"
        rows.append(judged(what, truth, south.mean() - north.mean(), low, high))
    return rows


def compare(root: Path, cities: list[City], truths: list[Truth]) -> list[Row]:
    """Planted and recovered, a row each."""
    tables = root / "analysis" / "tables"
    true = pd.DataFrame({"region": [c.region for c in cities], "adcode": [c.adcode for c in cities],
                         "uv": [t.uv_m2 for t in truths], "built": [t.built_m2 for t in truths]})  # fmt: skip
    rows = [*compare_shares(tables, true), *compare_form(tables, root, cities, truths)]
    gradients = pd.read_csv(tables / "form_gradients.csv").set_index("measure")
    if "height_mean_m" in gradients.index:  # regions of three cities and more
        rows.append({"what": "gradient of height (p)", "found": float(gradients.loc["height_mean_m", "p"])})
    globals_ = pd.read_csv(tables / "clustering.csv").iloc[0]
    rows.append({"what": "Moran's I (p)", "found": float(globals_["p"])})
    claim = pd.read_csv(tables / "clustering_regions.csv")
    claim = claim[claim["region"].str.startswith("claim")].iloc[0]
    rows += [{"what": f"claim Central + South ({c})", "found": float(claim[c])} for c in ("p", "p_beyond")]
    if (tables / "pattern_cities.csv").exists():
        pattern = pd.read_csv(tables / "pattern_cities.csv")
        inside = pattern["region"].isin(CLAIMED)
        for name, mine in ((" and ".join(CLAIMED), pattern[inside]), ("elsewhere", pattern[~inside])):
            if len(mine):
                found = 100 * float((mine["clustered_p"] <= 0.05).mean())
                rows.append({"what": f"cities with clustered villages, {name}, % of {len(mine)}", "found": found})
    return rows


def run(root: Path, cities: list[City], *, side_m: int, planted: bool) -> list[Row]:
    kept = root / "truth.json"
    if kept.exists():  # made before, by the same arguments
        truths = [Truth(**t) for t in json.loads(kept.read_text(encoding="utf-8"))]
    else:
        truths = [
            make_city(root, city, k, side_m=side_m, planted=planted)
            for k, city in enumerate(tqdm(cities, desc=root.name))
        ]
        kept.write_text(json.dumps([asdict(t) for t in truths]), encoding="utf-8")
    if not (root / "assessment").exists():
        assess(root, cities)
    campaign = write_campaign(root / "made.yaml", root / "products", [c.adcode for c in cities], name=root.name)
    uvmap("analyze", "--campaign", campaign, "--assessment", root / "assessment", "--built-up", root / "built",
          "--least-villages", 8, "--distance-km", 600, "--out", root / "analysis")  # fmt: skip
    return compare(root, cities, truths)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cities", type=int, default=42)
    parser.add_argument("--side-m", type=int, default=4000)
    parser.add_argument("--redraws", type=int, default=0, help="Samples drawn anew, for the rate of intervals.")
    given = parser.parse_args()
    cities = choose_cities(given.cities)
    found = {}
    for name in ("planted", "nothing-planted"):
        rows = run(given.out.resolve() / name, cities, side_m=given.side_m, planted=name == "planted")
        print(f"\n| {name.replace('-', ' ')} | truth | found | interval | held |\n| --- | --- | --- | --- | --- |")
        for r in rows:
            truth, value = (f"{r[c]:.4g}" if c in r and np.isfinite(r[c]) else "" for c in ("truth", "found"))
            ends = f"{r['low']:.4g} to {r['high']:.4g}" if np.isfinite(r.get("low", np.nan)) else ""
            print(f"| {r['what']} | {truth} | {value} | {ends} | {r.get('held', '')} |")
        found[name] = rows
    again = {}
    if given.redraws:
        root = given.out.resolve() / "planted"
        truths = [Truth(**t) for t in json.loads((root / "truth.json").read_text(encoding="utf-8"))]
        again = redraw(root, cities, truths, given.redraws)
    held = [r["held"] for rows in found.values() for r in rows if r.get("held")]
    print(json.dumps({"intervals": len(held), "held": held.count("yes"), "cities": len(cities)} | again))


if __name__ == "__main__":
    main()
