"""Planted truth comes back within its interval, and nothing is found where nothing was planted."""

import esda
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.analysis.adjustment import Assessed, make_adjustment
from pipeline.analysis.between import measure_global, measure_local, measure_regions
from pipeline.analysis.effects import tabulate_effects, tabulate_gradients, welch_anova
from pipeline.analysis.likeness import LikenessModel
from pipeline.analysis.neighbours import make_neighbourhood
from pipeline.analysis.options import AnalysisOptions
from pipeline.analysis.shares import bootstrap_mean, city_shares, tabulate_shares
from pipeline.analysis.within import GroundPixels, describe_pattern
from regions.demo.planted import Planted, planted_cities, planted_form, planted_points

QUICK = AnalysisOptions(permutations=199, resamples=199)
SEEDS = 200
SIDE_M = 10_000.0


def allowed(level: float = 0.05, tests: int = SEEDS) -> tuple[int, int]:
    """Numbers of false positives that a test at its nominal level stays within, but for one study in 1,000."""
    low, high = stats.binom.ppf([0.0005, 0.9995], tests, level)
    return int(low), int(high)


@pytest.fixture(scope="module")
def near():
    return make_neighbourhood("knn", planted_cities(Planted(), 0), QUICK)


@pytest.fixture(scope="module")
def model(near):
    return LikenessModel(list(planted_cities(Planted(), 0)["region"]), near)


def test_likeness_without_regions_does_not_pass_for_clustering_of_regions(near, model):
    """Against permuted shares it does, twice as often as stated; against likeness alone at the nominal rate."""
    claimed = beyond = 0
    rho = []
    for seed in range(SEEDS):
        cities = planted_cities(Planted(likeness=0.4), seed)
        options = QUICK.model_copy(update={"seed": seed})
        table = measure_regions(city_shares(cities), cities["region"], near, options, model=model)
        row = table.set_index("region").loc["claim: Central + South"]
        claimed += bool(row["found"])
        beyond += bool(row["found_beyond"])
        rho.append(row["likeness"])
    low, high = allowed()
    assert low <= beyond <= high
    assert claimed > beyond
    assert np.mean(rho) == pytest.approx(0.4, abs=0.05)


def test_likelihood_of_likeness_is_that_of_a_multivariate_normal(near, model):
    """Restricted likelihood by contrasts of the means (Harville 1974), with scipy's density, at its best variance."""
    cities = planted_cities(Planted(likeness=0.5), 3)
    score = stats.norm.ppf((stats.rankdata(city_shares(cities)) - 0.5) / len(cities))
    design = (cities["region"].to_numpy()[:, None] == np.unique(cities["region"])).astype(float)
    contrasts = np.linalg.svd(design, full_matrices=True)[0][:, design.shape[1] :]

    def likelihood(rho):
        spread = np.linalg.inv(np.eye(len(score)) - rho * model.weights)
        cov = contrasts.T @ spread @ spread.T @ contrasts
        y = contrasts.T @ score
        return stats.multivariate_normal(cov=cov * (y @ np.linalg.solve(cov, y)) / len(y)).logpdf(y)

    best = model.fit(score)
    assert 0.1 < best < 0.9
    assert likelihood(best) >= max(likelihood(best - 0.025), likelihood(best + 0.025))


def test_no_clustering_is_found_at_its_nominal_rate_where_none_was_planted(near, model):
    found = {"moran": 0, "joins": 0, "claim": 0, "region": 0, "beyond": 0}
    for seed in range(SEEDS):
        cities = planted_cities(Planted(), seed)
        options = QUICK.model_copy(update={"seed": seed})
        values = city_shares(cities)
        whole = measure_global(values, near, options)
        regions = measure_regions(values, cities["region"], near, options, model=model)
        found["moran"] += whole["p"] <= 0.05
        found["joins"] += whole["high_p"] <= 0.05
        found["claim"] += bool(regions["found"].iloc[-1])
        found["region"] += bool(regions["found"].iloc[:-1].any())
        found["beyond"] += bool(regions["found_beyond"].iloc[-1])
    low, high = allowed()
    assert all(low <= n <= high for name, n in found.items() if name != "region"), found
    assert found["region"] <= high, found  # the rate of false discoveries of seven regions together


def test_morans_i_and_joins_are_those_of_esda(near):
    values = city_shares(planted_cities(Planted(likeness=0.3), 4))
    got = measure_global(values, near, AnalysisOptions(permutations=4999))
    moran = esda.Moran(values, near.weights, permutations=0)
    high = (values > np.quantile(values, 0.75)).astype(int)
    joins = esda.Join_Counts(high, near.weights, permutations=0)
    assert (got["moran_i"], got["expected"], got["high_joins"]) == pytest.approx((moran.I, moran.EI, joins.bb))
    assert got["z"] == pytest.approx(moran.z_rand, rel=0.05)
    assert got["p"] == pytest.approx(moran.p_rand, abs=0.01)


def test_local_statistics_are_their_formulas_and_their_p_values_those_of_plain_permutations(near):
    """Gi* of Ord & Getis (1995, eq. 5), local Moran of Anselin (1995); conditional permutations, false discoveries."""
    cities = planted_cities(Planted(region_factor={"South": 3.0}, likeness=0.3), 5)
    x = city_shares(cities)
    n = len(x)
    options = QUICK.model_copy(update={"permutations": 1999})
    got = measure_local(cities, x, near, options)
    binary = near.weights.sparse.toarray() > 0
    star = (binary | np.eye(n, dtype=bool)) / 7
    spread = x.std() * np.sqrt((n * np.square(star).sum(axis=1) - 1) / (n - 1))
    assert got["gi_z"].to_numpy() == pytest.approx((star @ x - x.mean()) / spread, rel=1e-6)
    z = (x - x.mean()) / x.std()
    assert got["moran_i"].to_numpy() == pytest.approx((n - 1) / n * z * (binary @ z / 6), rel=1e-6)
    rng = np.random.default_rng(1)
    for k in np.argsort(-np.abs(got["gi_z"].to_numpy()))[[0, 40, 150, 300]]:
        others = np.delete(x, k)
        simulated = np.array([rng.choice(others, 6, replace=False).mean() for _ in range(4000)])
        own = x[binary[k]].mean()
        p = min(1.0, 2 * min((simulated >= own).mean(), (simulated <= own).mean()))
        assert got["gi_p"].iloc[k] == pytest.approx(p, abs=0.05)
    adjusted = stats.false_discovery_control(got["gi_p"], method="bh")
    assert list(got["gi_found"]) == list(adjusted <= options.fdr)


def test_planted_clustering_in_central_and_south_china_is_found(near, model):
    hits = 0
    for seed in range(20):
        cities = planted_cities(Planted(region_factor={"Central": 2.5, "South": 2.5}, likeness=0.4), seed)
        options = QUICK.model_copy(update={"seed": seed})
        whole = measure_global(city_shares(cities), near, options)
        table = measure_regions(city_shares(cities), cities["region"], near, options, model=model).set_index("region")
        assert whole["p"] <= 0.05
        hits += bool(table.loc["claim: Central + South", ["found", "found_beyond"]].all())
    assert hits == 20


def test_clustering_elsewhere_does_not_support_the_claim(near):
    found = 0
    for seed in range(20):
        cities = planted_cities(Planted(region_factor={"Northeast": 4.0, "North": 4.0}), seed)
        options = QUICK.model_copy(update={"seed": seed})
        table = measure_regions(city_shares(cities), cities["region"], near, options).set_index("region")
        found += bool(table.loc["claim: Central + South", "found"])
        assert table.loc["Northeast", "found"]
    assert found == 0


def test_hot_spots_lie_where_they_were_planted(near):
    cities = planted_cities(Planted(region_factor={"South": 6.0}), 3)
    options = QUICK.model_copy(update={"permutations": 4999})
    local = measure_local(cities, city_shares(cities), near, options)
    hot = local[local["kind"] == "hot spot"]
    assert len(hot) >= 5
    assert (hot["region"] == "South").mean() >= 0.8
    assert (local.loc[local["region"] == "Northwest", "kind"] != "hot spot").all()


def test_local_false_discoveries_stay_below_their_rate(near):
    """The share of studies with any hot or cold spot where none is there is at most the rate of false discoveries."""
    options = QUICK.model_copy(update={"permutations": 2999})
    some = 0
    for seed in range(20):
        cities = planted_cities(Planted(log_sd=0.3), 1000 + seed)
        local = measure_local(cities, city_shares(cities), near, options.model_copy(update={"seed": seed}))
        some += bool(local["gi_found"].any())
    assert some <= stats.binom.ppf(0.9995, 20, 0.05)


def test_planted_regional_shares_come_back_within_the_assessments_interval():
    """The map misses a fifth and invents a tenth; an unbiased assessment with known errors puts it right."""
    planted = Planted(region_factor={"South": 3.0})
    covered = total = 0
    for seed in range(12):
        truth = planted_cities(planted, seed)
        rng = np.random.default_rng([seed, 9])
        mapped = truth.assign(uv_m2=truth["uv_m2"] * 0.88 * np.exp(0.1 * rng.standard_normal(len(truth))))
        km2 = truth.groupby("region")["uv_m2"].sum() / 1e6
        se = 0.06 * km2
        estimated = km2 + se * rng.standard_normal(len(km2))
        whole, whole_se = estimated.sum(), np.sqrt(np.square(se).sum())
        areas = pd.DataFrame(
            {
                "value": ["all", *km2.index],
                "estimated_km2": [whole, *estimated],
                "low_km2": [whole - 1.96 * whole_se, *(estimated - 1.96 * se)],
                "high_km2": [whole + 1.96 * whole_se, *(estimated + 1.96 * se)],
            }
        )
        table = tabulate_shares(mapped, QUICK, make_adjustment(mapped, Assessed(areas))).set_index(["level", "name"])
        for name in ("nation", *km2.index):
            level = "nation" if name == "nation" else "region"
            mine = truth if name == "nation" else truth[truth["region"] == name]
            share = mine["uv_m2"].sum() / mine["ground_m2"].sum()
            row = table.loc[(level, name)]
            covered += bool(row["adjusted_low"] <= share <= row["adjusted_high"])
            total += 1
            if name == "nation":
                assert row["share_area"] < share  # the map alone is too low
    assert stats.binom.ppf(0.0005, total, 0.95) <= covered <= stats.binom.ppf(0.9995, total, 0.95)


def test_the_mean_of_city_shares_is_covered_by_its_interval():
    options = AnalysisOptions(resamples=499)
    truth = np.mean([city_shares(planted_cities(Planted(), 5000 + s)).mean() for s in range(400)])
    rng = np.random.default_rng(0)
    for cities, least in ((80, 0.9), (12, 0.84)):  # skewed shares of few cities: a little short, not far off
        covered = 0
        for seed in range(SEEDS):
            drawn = rng.choice(city_shares(planted_cities(Planted(), seed)), cities, replace=False)
            low, high = bootstrap_mean(drawn, options)
            covered += bool(low <= truth <= high)
        assert covered >= least * SEEDS
    assert np.isnan(bootstrap_mean(np.array([0.1, 0.2, 0.3, 0.4]), options)).all()


def test_villages_that_lie_together_are_told_from_those_that_do_not():
    options = AnalysisOptions(simulations=39, simulated_points=0)
    x, y = np.meshgrid(np.arange(25.0, SIDE_M, 50), np.arange(25.0, SIDE_M, 50))
    ground = GroundPixels(np.stack([x.ravel(), y.ravel()], axis=1), 50.0)
    found = nearest = 0
    for seed in range(SEEDS):
        points = planted_points(Planted(), seed, count=60, side_m=SIDE_M)
        row = describe_pattern(points, ground, options, key=str(seed), centre=None)
        found += row["clustered_p"] <= 0.05
        nearest += row["nearest_p"] <= 0.05
    low, high = allowed()
    assert low <= found <= high
    assert low <= nearest <= high
    for seed in range(10):
        points = planted_points(Planted(clusters=8), seed, count=60, side_m=SIDE_M)
        row = describe_pattern(points, ground, options, key=str(seed), centre=(0.0, 0.0))
        assert row["clustered_p"] <= 0.05
        assert row["g_500"] > row["g_500_high"]
        assert row["nearest_ratio"] < 1
        assert row["centre_ratio"] > 0


def test_villages_with_an_extent_are_found_to_cluster_at_distances_beyond_it():
    """Half-kilometre lattice places, taken in two crowds or all over: no pairs below 400 m in either."""
    options = AnalysisOptions(simulations=99, simulated_points=0)
    x, y = np.meshgrid(np.arange(25.0, SIDE_M, 50), np.arange(25.0, SIDE_M, 50))
    ground = GroundPixels(np.stack([x.ravel(), y.ravel()], axis=1), 50.0)
    places = np.stack(np.meshgrid(np.arange(250.0, SIDE_M, 500), np.arange(250.0, SIDE_M, 500)), axis=-1).reshape(-1, 2)
    crowded = scattered = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        middles = rng.uniform(2000, 8000, (2, 2))
        far = np.hypot(*(places[:, None] - middles).transpose(2, 0, 1)).min(axis=1)
        jitter = rng.uniform(-50, 50, (60, 2))
        row = describe_pattern(places[np.argsort(far)[:60]] + jitter, ground, options, key=str(seed), centre=None)
        crowded += row["clustered_p"] <= 0.05
        assert row["g_250"] == 0
        row = describe_pattern(rng.permutation(places)[:60] + jitter, ground, options, key=str(seed), centre=None)
        scattered += row["clustered_p"] <= 0.05
    assert crowded == 20
    assert scattered <= stats.binom.ppf(0.9995, 20, 0.05)


def test_pair_correlation_of_a_thomas_process_equals_its_formula():
    """g(r) = 1 + exp(-r^2 / 4 s^2) / (4 pi k s^2), k parents per m2 (Diggle 2013, 6.3.2), on the mean of patterns."""
    options = AnalysisOptions(radii_m=(200, 400, 800, 1600), simulations=19, simulated_points=0)
    x, y = np.meshgrid(np.arange(50.0, SIDE_M, 100), np.arange(50.0, SIDE_M, 100))
    ground = GroundPixels(np.stack([x.ravel(), y.ravel()], axis=1), 100.0)
    spread = 300.0
    planted = Planted(clusters=30, spread_m=spread)
    rows = [
        describe_pattern(planted_points(planted, s, count=300, side_m=SIDE_M), ground, options, key=str(s), centre=None)
        for s in range(30)
    ]
    ends = np.array([0.0, *options.radii_m])
    # number of pairs in a ring: integral of 2 pi r g(r)
    extra = 4 * spread**2 * (np.exp(-(ends[:-1] ** 2) / 4 / spread**2) - np.exp(-(ends[1:] ** 2) / 4 / spread**2))
    extra = extra * np.pi / (4 * np.pi * (30 / SIDE_M**2) * spread**2)
    expected = 1 + extra / (np.pi * (ends[1:] ** 2 - ends[:-1] ** 2))
    got = np.array([np.mean([r[f"g_{e:g}"] for r in rows]) for e in options.radii_m])
    assert got == pytest.approx(expected, rel=0.12)


def test_planted_form_comes_back_within_its_interval_and_nothing_where_none_was_planted():
    options = AnalysisOptions()
    false = gradient = covered = 0
    planted = Planted(form_gap={"coverage": 0.2, "height_mean_m": -8.0}, form_gradient=2.0)
    for seed in range(100):
        null = planted_form(Planted(), seed)
        nation = tabulate_effects(null, options).set_index(["measure", "name"])
        false += nation.loc[("height_mean_m", "nation"), "p"] <= 0.05
        gradient += tabulate_gradients(null).set_index("measure").loc["height_mean_m", "p"] <= 0.05
        found = tabulate_effects(planted_form(planted, seed), options).set_index(["measure", "name"])
        row = found.loc[("coverage", "nation")]
        covered += bool(row["low"] <= 0.2 <= row["high"])
        south = found.loc[("height_mean_m", "South")]
        assert south["difference"] == pytest.approx(-4.0, abs=4.5 * (south["high"] - south["low"]) / 3.9)
    low, high = allowed(tests=100)
    assert low <= false <= high
    assert low <= gradient <= high
    assert 100 - high <= covered <= 100 - low
    table = tabulate_gradients(planted_form(planted, 1)).set_index("measure")
    assert table.loc["height_mean_m", "p"] < 1e-3
    assert table.loc["height_mean_m", "largest"] == "South"


def test_welchs_analysis_of_variance_equals_the_t_test_of_two_groups():
    rng = np.random.default_rng(5)
    a, b = rng.normal(0, 1, 12), rng.normal(0.5, 3, 30)
    f, df, within, p = welch_anova([a, b])
    t = stats.ttest_ind(a, b, equal_var=False)
    assert (f, df, within, p) == pytest.approx((t.statistic**2, 1, t.df, t.pvalue))
