"""Hours and cost of a nation, and rates learnt from a run."""

import pytest

from pipeline.city.plan import CityPlan
from pipeline.national.budget import Machines, StageRate, budget, measured_rates


def city(area_km2, tiles):
    return CityPlan("990101", area_km2, round(area_km2 * 1e6), tiles, 1, 10, 10, None)


def test_the_worked_example():
    two = [city(100.0, 5000), city(100.0, 5000)]
    machines = Machines(cores=2, gpus=1, core_price=0.1, gpu_price=2.0)
    found = budget(two, machines=machines, tiles_per_s=1000.0)
    assert sum(found.stage_cpu_h.values()) * 3600 == pytest.approx(105.6)
    assert found.model_h * 3600 == pytest.approx(10.0)
    assert found.elapsed_h * 3600 == pytest.approx(52.8 + 5.0)
    assert found.cost == pytest.approx(found.elapsed_h * 2.2)
    assert budget(two, machines=machines, tiles_per_s=1000.0, views=4).tiles == 40_000
    unknown = budget(two, machines=machines, tiles_per_s=None)
    assert unknown.elapsed_h is None
    assert unknown.cost is None
    on_cores = budget(two, machines=Machines(cores=2), tiles_per_s=10.0)
    assert on_cores.elapsed_h * 3600 == pytest.approx(1000 + 52.8)
    assert budget([], machines=machines, tiles_per_s=10.0).elapsed_h == 0


def test_rates_of_a_run_are_found_again():
    areas = [1.0, 5.0, 80.0, 200.0]
    seconds = [(a, {"graph": 2.0 + 0.3 * a, "scores": 4.0}) for a in areas]
    assert measured_rates(seconds)["graph"].city_s == pytest.approx(2.0)
    assert measured_rates(seconds)["graph"].km2_s == pytest.approx(0.3)
    assert measured_rates(seconds)["scores"] == StageRate(4.0, 0.0)
    assert measured_rates([(3.0, {"graph": 2.0})])["graph"] == StageRate(2.0, 0.0)
    falling = measured_rates([(1.0, {"graph": 9.0}), (9.0, {"graph": 1.0})])["graph"]
    assert falling.km2_s == 0.0
    assert falling.city_s == pytest.approx(5.0)
