"""Planted truth against what the analysis finds, over many nations of tables (`regions.demo.planted`).

    .venv/bin/python benchmarks/analysis_truth.py [--seeds 200]

Per row: what was planted, the mean of what was found, how often the interval held the truth (or the test found
something, at 5 %). Rows without anything planted are false positives. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pipeline.analysis.between import measure_global, measure_regions
from pipeline.analysis.effects import tabulate_effects, tabulate_gradients
from pipeline.analysis.likeness import LikenessModel
from pipeline.analysis.neighbours import make_neighbourhood
from pipeline.analysis.options import AnalysisOptions
from pipeline.analysis.shares import city_shares
from pipeline.analysis.within import GroundPixels, describe_pattern
from regions.demo.planted import STEPS, Planted, planted_cities, planted_form, planted_points

SIDE_M = 10_000.0
FORM = Planted(form_gap={"coverage": 0.2, "height_mean_m": -8.0}, form_gradient=2.0)
CLAIM = "claim: Central + South"


def between(seeds: int) -> list[tuple[str, str, str, float]]:
    options = AnalysisOptions(permutations=499)
    places = planted_cities(Planted(), 0)
    near = make_neighbourhood("knn", places, options)
    model = LikenessModel(list(places["region"]), near)
    cases = {
        "nothing": Planted(),
        "likeness 0.3 of neighbours": Planted(likeness=0.3),
        "likeness 0.6 of neighbours": Planted(likeness=0.6),
        "Central and South x 1.5": Planted(region_factor={"Central": 1.5, "South": 1.5}),
        "Central and South x 2.5": Planted(region_factor={"Central": 2.5, "South": 2.5}),
        "North and Northeast x 4": Planted(region_factor={"North": 4.0, "Northeast": 4.0}),
    }
    rows = []
    for name, planted in cases.items():
        moran, found, ratio, claimed, beyond, likeness = [], [], [], [], [], []
        for seed in tqdm(range(seeds), desc=name, leave=False):
            cities = planted_cities(planted, seed)
            values = city_shares(cities)
            own = options.model_copy(update={"seed": seed})
            whole = measure_global(values, near, own)
            table = measure_regions(values, list(cities["region"]), near, own, model=model).set_index("region")
            inside = cities["region"].isin(["Central", "South"]).to_numpy()
            moran.append(whole["moran_i"])
            found.append(whole["p"] <= 0.05)
            claimed.append(bool(table.loc[CLAIM, "found"]))
            beyond.append(bool(table.loc[CLAIM, "found_beyond"]))
            likeness.append(float(table.loc[CLAIM, "likeness"]))
            ratio.append(float(np.exp(np.log(values[inside]).mean() - np.log(values[~inside]).mean())))
        rows += [
            (name, "Moran's I found at 5 %", f"I {np.mean(moran):.3f}", float(np.mean(found))),
            (name, "claim found at 5 %, against no pattern", f"shares x {np.mean(ratio):.2f}", float(np.mean(claimed))),
            (
                name,
                "claim found at 5 %, against likeness alone",
                f"likeness {np.mean(likeness):.2f}",
                float(np.mean(beyond)),
            ),
        ]
    return rows


def within(seeds: int) -> list[tuple[str, str, str, float]]:
    options = AnalysisOptions(simulated_points=0)
    x, y = np.meshgrid(np.arange(25.0, SIDE_M, 50), np.arange(25.0, SIDE_M, 50))
    ground = GroundPixels(np.stack([x.ravel(), y.ravel()], axis=1), 50.0)
    rows = []
    for name, planted in {
        "villages placed independently": Planted(),
        "8 clusters of villages": Planted(clusters=8),
        "30 loose clusters": Planted(clusters=30, spread_m=600),
    }.items():
        found, ratio = [], []
        for seed in tqdm(range(seeds), desc=name, leave=False):
            points = planted_points(planted, seed, count=60, side_m=SIDE_M)
            row = describe_pattern(points, ground, options, key=str(seed), centre=None)
            found.append(row["clustered_p"] <= 0.05)
            ratio.append(row["nearest_ratio"])
        rows.append((name, "clustered at 5 %", f"nearest neighbour x {np.mean(ratio):.2f}", float(np.mean(found))))
    return rows


def form(seeds: int) -> list[tuple[str, str, str, float]]:
    options = AnalysisOptions()
    counts = planted_cities(Planted(), 0)["region"].value_counts()
    mean_step = sum(STEPS[r] * n for r, n in counts.items()) / counts.sum()
    truths = {
        ("coverage", "nation"): 0.2,
        ("height_mean_m", "nation"): -8.0 + 2.0 * mean_step,
        ("height_mean_m", "North"): -8.0,
        ("height_mean_m", "South"): -4.0,
    }
    values: dict[tuple[str, str], list[float]] = {k: [] for k in truths}
    held: dict[tuple[str, str], list[bool]] = {k: [] for k in truths}
    false, gradient, no_gradient = [], [], []
    for seed in tqdm(range(seeds), desc="building form", leave=False):
        planted = planted_form(FORM, seed)
        table = tabulate_effects(planted, options).set_index(["measure", "name"])
        for key, truth in truths.items():
            row = table.loc[key]
            values[key].append(row["difference"])
            held[key].append(bool(row["low"] <= truth <= row["high"]))
        gradient.append(tabulate_gradients(planted).set_index("measure").loc["height_mean_m", "p"] <= 0.05)
        null = planted_form(Planted(), seed)
        false.append(
            tabulate_effects(null, options).set_index(["measure", "name"]).loc[("coverage", "nation"), "p"] <= 0.05
        )
        no_gradient.append(tabulate_gradients(null).set_index("measure").loc["height_mean_m", "p"] <= 0.05)
    rows = [
        (
            f"{m} of {n}: {truth:+.2f}",
            "95 % interval holds it",
            f"{np.mean(values[m, n]):+.2f}",
            float(np.mean(held[m, n])),
        )
        for (m, n), truth in truths.items()
    ]
    return [
        *rows,
        ("height gap rises by 2 m a step from North to South", "regions differ at 5 %", "", float(np.mean(gradient))),
        ("no gap of coverage", "difference found at 5 %", "", float(np.mean(false))),
        ("no gradient of height", "regions differ at 5 %", "", float(np.mean(no_gradient))),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=200)
    given = parser.parse_args()
    rows = [*between(given.seeds), *within(given.seeds), *form(given.seeds)]
    print("| planted | what is looked at | mean found | rate |\n| --- | --- | --- | --- |")
    for planted, what, mean, rate in rows:
        print(f"| {planted} | {what} | {mean} | {100 * rate:.1f} % |")
    print(json.dumps({"seeds": given.seeds, "rates": {f"{a}: {b}": round(d, 3) for a, b, _, d in rows}}))


if __name__ == "__main__":
    main()
