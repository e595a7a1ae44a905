"""Which design and which weights give honest, narrow intervals? A synthetic nation, sampled thousands of times.

342 cities in seven regions whose share of urban village differs by a log-normal factor (log sd 1.3), mapped at 1, 2 or
10 m, with errors whose rates differ by city; a tenth of the true ground is missed without a trace. Two interpreters err
at 25 % of the points on true outlines and at 0.5 % of all others; a third reads where they differ, and every omission
of the rest stratum. Each repetition draws cities and points, labels them, and estimates with the package's own code;
the truth is the nation's census of the published polygons. Samples are drawn as counts of equal points, which have the
same law, so that a repetition takes milliseconds.

    nice -n 15 python benchmarks/design_study.py --repetitions 1000
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from accuracy.arrays import SampleArrays
from accuracy.estimation.calibration import Calibration
from accuracy.estimation.estimation import estimate_arrays
from accuracy.estimation.ground import ground_of
from accuracy.estimation.options import EstimateOptions
from accuracy.survey.point_spread import spread_points
from accuracy.survey.unequal_draw import draw_rejective, make_probabilities

REGION_SIZES = {"Central": 42, "East": 77, "North": 33, "Northeast": 36, "Northwest": 51, "South": 49, "Southwest": 54}
STRATA = ("mapped", "candidate", "rest")
RECOMMENDED = {"mapped": 30, "candidate": 60, "rest": 120}
SPREAD = {"mapped": 13, "candidate": 19, "rest": 73}
MEASURES = ("UA", "PA", "F1", "IoU")
Rows = list[tuple[int, float, np.ndarray]]
ERR_EDGE, ERR_ELSE = 0.25, 0.005
VILLAGE_M = 300.0


@dataclass(frozen=True, kw_only=True)
class Nation:
    """What is true, and what is mapped.

    Attributes:
        region: int (N,), of `names`.
        names: Regions.
        area_m2: float (N, 3, 2, 2): ground by city, stratum, truth (0, 1) and outline (0, 1: where interpreters err).
        pixel_m2: float (N,).
    """

    region: np.ndarray
    names: tuple[str, ...]
    area_m2: np.ndarray
    pixel_m2: np.ndarray

    @property
    def mapped_m2(self) -> np.ndarray:
        """Mapped ground of every city."""
        return self.area_m2[:, 0].sum(axis=(1, 2))

    @property
    def ground_m2(self) -> np.ndarray:
        """All ground of every city."""
        return self.area_m2.sum(axis=(1, 2, 3))


def build_nation(seed: int = 1, *, log_sd: float = 1.3, silent: float = 0.10) -> Nation:
    rng = np.random.default_rng(seed)
    names = tuple(REGION_SIZES)
    region = np.repeat(np.arange(len(names)), list(REGION_SIZES.values()))
    N = len(region)
    ground = 250e6 * rng.lognormal(0, 0.6, N)
    share = np.minimum(0.01 * rng.lognormal(-(log_sd**2) / 2, log_sd, N), 0.2)
    side = rng.choice([1.0, 2.0, 10.0], N, p=[0.4, 0.4, 0.2])
    uv = ground * share
    missed_silent = rng.beta(20 * silent, 20 * (1 - silent), N)
    missed_seen = (1 - missed_silent) * rng.beta(4, 24, N)
    found = 1 - missed_silent - missed_seen
    commission = rng.beta(6, 30, N)  # share of the mapped ground
    ring = np.minimum(4 * side / VILLAGE_M, 0.5)  # inside the outline, one pixel wide; as much lies outside it
    out = np.zeros((N, 3, 2, 2))
    mapped_true = uv * found
    mapped_false = mapped_true * commission / (1 - commission)
    # pieces of the outline: of what was found, the ring inside is mapped and the one outside is not, or the reverse
    out[:, 0, 1, 1], out[:, 0, 1, 0] = mapped_true * ring, mapped_true * (1 - ring)
    edge_false = np.minimum(mapped_true * ring / 2, mapped_false / 2)
    out[:, 0, 0, 1], out[:, 0, 0, 0] = edge_false, mapped_false - edge_false
    seen = uv * missed_seen
    out[:, 1, 1, 1], out[:, 1, 1, 0] = seen * ring, seen * (1 - ring)
    out[:, 1, 0, 1] = mapped_true * ring / 2 + seen * ring
    lost = uv * missed_silent
    out[:, 2, 1, 1], out[:, 2, 1, 0] = lost * ring, lost * (1 - ring)
    out[:, 2, 0, 1] = lost * ring
    candidate = np.minimum(0.02 * ground + 2.5 * uv, 0.5 * ground)
    out[:, 1, 0, 0] = np.maximum(candidate - out[:, 1].sum(axis=(1, 2)), 0.005 * ground)
    out[:, 2, 0, 0] = ground - out.sum(axis=(1, 2, 3))
    if (out[:, 2, 0, 0] < 0).any():
        raise SystemExit("a city's strata exceed its ground")
    return Nation(region=region, names=names, area_m2=out, pixel_m2=side**2)


def census(nation: Nation, where: np.ndarray | slice = slice(None)) -> dict[str, float]:
    """True measures of the published map."""
    a = nation.area_m2[where].reshape(-1, 3, 2, 2).sum(axis=(0, 3))
    tp, fp, fn = a[0, 1], a[0, 0], a[1:, 1].sum()
    return {"UA": tp / (tp + fp), "PA": tp / (tp + fn), "F1": 2 * tp / (2 * tp + fp + fn), "IoU": tp / (tp + fp + fn),
            "km2": (tp + fn) / 1e6}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How cities and points are drawn.

    Attributes:
        chance: float (N,), inclusion probabilities of cities; whole sums within regions.
        equal: Equal within regions: estimated with N and n, as simple random cities.
        points: Points per city and stratum.
        spread: Given out between the drawn cities by what is mapped and by ground; ``points`` are then averages.
    """

    chance: np.ndarray
    equal: bool
    points: Mapping[str, int]
    spread: bool = False

    def points_of(self, nation: Nation, cities: np.ndarray) -> Mapping[str, int | np.ndarray]:
        """Points in each stratum of the drawn cities."""
        if not self.spread:
            return self.points
        chance = self.chance[cities]
        return spread_points(nation.mapped_m2[cities], nation.ground_m2[cities], chance, self.points)


def plan_equal(nation: Nation, per_region: int) -> np.ndarray:
    return (per_region / np.bincount(nation.region))[nation.region]


def plan_by_size(nation: Nation, counts: np.ndarray, *, floor: float, certain: np.ndarray | None = None) -> np.ndarray:
    share = nation.mapped_m2.sum() / nation.ground_m2.sum()
    size = nation.mapped_m2 + floor * share * nation.ground_m2
    pi = np.zeros(len(size))
    for r in range(len(nation.names)):
        here = np.flatnonzero(nation.region == r)
        if certain is not None:
            pi[here[certain[here]]] = 1.0
            here = here[~certain[here]]
        pi[here] = make_probabilities(size[here], int(counts[r]))
    return pi


def label(
    nation: Nation,
    cities: np.ndarray,
    points: Mapping[str, int | np.ndarray],
    rng: np.random.Generator,
    *,
    readers: bool,
) -> Rows:
    """Stratum, answer and number of points of each drawn city.

    With readers: two readings, a third where they differ, and one for every omission of the rest stratum that both saw;
    the majority counts. Else the truth.
    """
    rows: Rows = []
    for s, name in enumerate(STRATA):
        p = nation.area_m2[cities, s].reshape(len(cities), 4)
        n = rng.multinomial(points[name], p / p.sum(axis=1, keepdims=True))  # (cities, truth x outline)
        yes = n[:, 2:].sum(axis=1)
        if readers:
            yes = np.zeros(len(cities), dtype=np.int64)
            for k in range(4):
                e = ERR_EDGE if k % 2 else ERR_ELSE
                wrong = e**2 * (3 - 2 * e)
                yes += rng.binomial(n[:, k], 1 - wrong if k >= 2 else wrong)
        rows += [(s, 1.0, yes), (s, 0.0, n.sum(axis=1) - yes)]
    return rows


def make_sample(nation: Nation, cities: np.ndarray, plan: Plan, rows: Rows) -> tuple[SampleArrays, np.ndarray]:
    """The design of drawn cities as pooled rows, and their outcomes (tp, fp, fn, tn)."""
    pi, equal = plan.chance, plan.equal
    P = len(cities)
    strata, stratum_of_psu = np.unique(nation.region[cities], return_inverse=True)
    per_city = nation.area_m2[cities].sum(axis=(2, 3))  # (P, 3)
    M = np.maximum(np.round(per_city / nation.pixel_m2[cities, None]), 1)
    points = np.zeros((P, 3))
    for s, _, n in rows:
        points[:, s] += n
    weight, psu, cell, count, outcome = [], [], [], [], []
    for s, value, n in rows:
        keep = np.flatnonzero(n > 0)
        w = per_city[keep, s] / points[keep, s] / pi[cities[keep]]
        weight.append(w)
        psu.append(keep)
        cell.append(keep * 3 + s)
        count.append(n[keep].astype(float))
        one = np.zeros((len(keep), 4))
        one[:, 0 if s == 0 else 2], one[:, 1 if s == 0 else 3] = value, 1 - value
        outcome.append(one)
    N_h = np.bincount(nation.region)[strata].astype(float)
    arrays = SampleArrays(
        weight=np.concatenate(weight), psu=np.concatenate(psu), cell=np.concatenate(cell),
        stratum_of_psu=stratum_of_psu, psu_of_cell=np.repeat(np.arange(P), 3),
        psu_population=N_h if equal else np.full(len(strata), np.inf), ssu_population=M.ravel(),
        stratum_names=tuple(nation.names[k] for k in strata), psu_names=tuple(map(str, cities)),
        cell_names=tuple(map(str, range(3 * P))), in_m2=True,
        psu_probability=None if equal else pi[cities], count=np.concatenate(count),
    )  # fmt: skip
    return arrays, np.concatenate(outcome)


def draw_cities(nation: Nation, pi: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    parts = []
    for r in range(len(nation.names)):
        here = np.flatnonzero(nation.region == r)
        parts.append(here[draw_rejective(pi[here], rng)])
    return np.concatenate(parts)


def map_totals(nation: Nation, arrays: SampleArrays, outcome: np.ndarray) -> Calibration:
    """Known mapped and unmapped ground of every region, for the rows of a sample."""
    mapped = (outcome[:, :2].sum(axis=1) > 0).astype(np.int64)
    region = np.array([nation.names.index(arrays.stratum_names[k]) for k in arrays.stratum])
    yes = np.bincount(nation.region, nation.mapped_m2)
    no = np.bincount(nation.region, nation.ground_m2) - yes
    totals = np.stack([no, yes], axis=1).ravel()
    return Calibration(cell=2 * region + mapped, totals=totals, names=tuple(map(str, range(len(totals)))))


def estimate_once(nation: Nation, plan: Plan, rng: np.random.Generator, *, readers: bool) -> list[tuple[object, ...]]:
    """Rows of weights, measure, estimate, standard error and interval of one sample."""
    cities = draw_cities(nation, plan.chance, rng)
    rows = label(nation, cities, plan.points_of(nation, cities), rng, readers=readers)
    arrays, outcome = make_sample(nation, cities, plan, rows)
    options = EstimateOptions(measures=MEASURES, lonely_psu="certainty")
    known = map_totals(nation, arrays, outcome)
    out: list[tuple[object, ...]] = []
    for weights, calibration in (("design", None), ("calibrated", known)):
        frame = estimate_arrays(arrays, outcome, options, calibration=calibration).frame
        fields = ("measure", "estimate", "se", "ci_low", "ci_high")
        out += [(weights, *(row[c] for c in fields)) for row in frame.to_dict("records")]
    share = estimate_arrays(
        arrays, outcome, EstimateOptions(measures=("area",), lonely_psu="certainty"), calibration=known
    )
    row, ground = share.frame.iloc[0], float(nation.ground_m2.sum()) / 1e6
    out.append(("calibrated", "km2", *(float(row[c]) * ground for c in ("estimate", "se", "ci_low", "ci_high"))))
    everywhere = np.ones(len(outcome), dtype=bool)
    ground_rows = ground_of(arrays, outcome, everywhere, float(nation.mapped_m2.sum()), options).to_dict("records")
    out += [(r["method"], "km2", r["km2"], r["se"], r["ci_low"], r["ci_high"]) for r in ground_rows]
    return out


def single_city(nation: Nation, rng: np.random.Generator) -> tuple[float, float, float]:
    """Interval of recall of one city on its own, and the truth."""
    city = rng.integers(len(nation.region), size=1)
    plan = Plan(chance=np.ones(len(nation.region)), equal=False, points=RECOMMENDED)
    arrays, outcome = make_sample(nation, city, plan, label(nation, city, plan.points, rng, readers=True))
    options = EstimateOptions(measures=("PA",), variance="cities_fixed", fpc_in_cells=True, lonely_psu="certainty")
    row = estimate_arrays(arrays, outcome, options).frame.iloc[0]
    return float(row["ci_low"]), float(row["ci_high"]), float(census(nation, city)["PA"])


def least_error(nation: Nation, points: int) -> float:
    """Standard error of F1 that no allocation of independent points over cities and strata goes below.

    Every city is in the sample and its error rates are known beforehand (Neyman): (sum a)^2 / points, with a the ground
    of a city's stratum times the standard deviation of the linearised F1 there, answers of the interpreters included.
    """
    wrong = np.array([ERR_ELSE, ERR_EDGE]) ** 2 * (3 - 2 * np.array([ERR_ELSE, ERR_EDGE]))
    yes = (nation.area_m2[:, :, 1] * (1 - wrong)).sum(axis=-1) + (nation.area_m2[:, :, 0] * wrong).sum(axis=-1)
    ground = nation.area_m2.sum(axis=(2, 3))
    tp, fp, fn = yes[:, 0].sum(), (ground - yes)[:, 0].sum(), yes[:, 1:].sum()
    both = 2 * tp + fp + fn
    f1 = 2 * tp / both
    p = yes / ground
    a = ground * np.sqrt(p * (1 - p)) * np.array([2 - f1, f1, f1]) / both
    return float(a.sum() / np.sqrt(points))


def summarise(rows: pd.DataFrame, truth: Mapping[str, float]) -> pd.DataFrame:
    table = []
    for (weights, measure), group in rows.groupby(["weights", "measure"], sort=False):
        true = truth[str(measure)]
        gap = group["estimate"] - true
        table.append(
            {
                "weights": weights, "measure": measure, "true": true, "bias": gap.mean(), "sd": gap.std(),
                "rmse": float(np.sqrt((gap**2).mean())), "mean_se": group["se"].mean(),
                "bias_in_se": gap.mean() / group["se"].mean(),
                "coverage": float((group["low"].le(true) & group["high"].ge(true)).mean()),
            }
        )  # fmt: skip
    return pd.DataFrame(table)


def make_plans(nation: Nation, rng: np.random.Generator) -> dict[str, Plan]:
    """The designs compared, all of 5,880 points but the last, which keeps the points of 28 cities done before."""
    four = np.full(len(nation.names), 4)
    half = {name: n // 2 for name, n in RECOMMENDED.items()}
    done = np.zeros(len(nation.region), dtype=bool)  # cities done on purpose: large ones, where data were at hand
    for r in range(len(nation.names)):
        here = np.flatnonzero(nation.region == r)
        done[rng.choice(here, 4, replace=False, p=nation.ground_m2[here] / nation.ground_m2[here].sum())] = True
    return {
        "4 per region, equal": Plan(chance=plan_equal(nation, 4), equal=True, points=RECOMMENDED),
        "4 per region, by size": Plan(chance=plan_by_size(nation, four, floor=0.5), equal=False, points=RECOMMENDED),
        "8 per region, by size": Plan(chance=plan_by_size(nation, 2 * four, floor=0.5), equal=False, points=half),
        "8 per region, by size, points too": Plan(
            chance=plan_by_size(nation, 2 * four, floor=0.5), equal=False, points=SPREAD, spread=True
        ),
        "28 chosen and 4 per region, by size": Plan(
            chance=plan_by_size(nation, four, floor=0.5, certain=done), equal=False, points=RECOMMENDED
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repetitions", type=int, default=1000)
    parser.add_argument("--log-sd", type=float, default=1.3, help="of the cities' shares of urban village")
    parser.add_argument("--perfect", action="store_true", help="labels are the truth")
    parser.add_argument("--seed", type=int, default=1, help="of the nation")
    parser.add_argument("--draws", type=int, default=1, help="seed of the samples")
    options = parser.parse_args()
    nation = build_nation(options.seed, log_sd=options.log_sd)
    truth, out = census(nation), {}
    print(f"log sd {options.log_sd}; truth { ({k: round(float(v), 4) for k, v in truth.items()}) }")
    print(f"no allocation of 5,880 points has a smaller error of F1 than {least_error(nation, 5880):.4f}")
    for name, plan in make_plans(nation, np.random.default_rng(options.seed)).items():
        rng, start = np.random.default_rng([options.seed, options.draws]), time.process_time()
        rows = [
            r for _ in range(options.repetitions) for r in estimate_once(nation, plan, rng, readers=not options.perfect)
        ]
        columns = ["weights", "measure", "estimate", "se", "low", "high"]
        table = summarise(pd.DataFrame(rows, columns=columns), truth)
        print(f"\n{name}: {options.repetitions} repetitions, {time.process_time() - start:.0f} s")
        print(table.round(4).to_string())
        out[name] = table.to_dict("records")
    rng = np.random.default_rng([options.seed, 2])
    inside = [low <= true <= high for low, high, true in (single_city(nation, rng) for _ in range(options.repetitions))]
    print(f"\nrecall of one city on its own: {np.mean(inside):.3f} of intervals cover")
    out["single city"] = float(np.mean(inside))
    print(json.dumps(out))


if __name__ == "__main__":
    main()
