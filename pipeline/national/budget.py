"""What a nation takes: hours of every stage, disk, and money, from tiles, areas and measured rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.city.plan import CityPlan


@dataclass(frozen=True)
class StageRate:
    """CPU seconds of a stage: so many per city, and so many per km²; those of the model's own calls are left out.

    Attributes:
        city_s: Per city: opening files, writing small ones.
        km2_s: Per km² of the area asked for, at about 1 m.
    """

    city_s: float
    km2_s: float


RATES: Mapping[str, StageRate] = {
    "graph": StageRate(0.5, 0.10),
    "adapt": StageRate(0.5, 0.05),
    "scores": StageRate(0.5, 0.08),
    "polygons": StageRate(0.5, 0.06),
    "refinement": StageRate(0.3, 0.05),
    "product": StageRate(1.5, 0.15),
}
"""Where no run has been measured: from docs/performance.md (cities of 16 to 900 km², two cores), rounded up."""

WORK_BYTES_PER_PX = 2.5
"""Work folder of a city while it runs: blocks of scores, the flat raster, polygons."""
PRODUCT_BYTES_PER_PX = 0.25
"""Score raster, mask, density grid, tables and page of a product."""


@dataclass(frozen=True)
class Machines:
    """What a nation runs on.

    Attributes:
        cores: CPU cores for stages without a model.
        gpus: Accelerators; 0 where the model runs on the cores.
        core_price: Price of a core for an hour.
        gpu_price: Price of an accelerator for an hour, with its share of the machine.
    """

    cores: int = 2
    gpus: int = 0
    core_price: float = 0.0
    gpu_price: float = 0.0


@dataclass(frozen=True)
class Budget:
    """What the ready cities of a campaign take.

    Attributes:
        cities: Cities counted.
        area_km2: Their areas.
        tiles: Tiles of the model, times the views of each.
        stage_cpu_h: CPU hours of each stage, the model left out.
        model_h: Hours of the model on one device; None where its speed is not known.
        elapsed_h: Hours on the clock: CPU stages overlap those on accelerators, and the largest city comes last.
        read_bytes: Sources.
        store_bytes: Products.
        work_bytes: Work folders, if none is deleted on the way.
        cost: Elapsed hours times all prices.
    """

    cities: int
    area_km2: float
    tiles: int
    stage_cpu_h: dict[str, float]
    model_h: float | None
    elapsed_h: float | None
    read_bytes: int
    store_bytes: int
    work_bytes: int
    cost: float | None


def budget(
    plans: Iterable[CityPlan],
    *,
    machines: Machines,
    tiles_per_s: float | None,
    views: int = 1,
    rates: Mapping[str, StageRate] = RATES,
) -> Budget:
    """Add up the plans of cities.

    Worked example: two cities of 100 km² and 5,000 tiles each at 1,000 tiles/s on one GPU take 10 s of it; CPU stages
    of 0.49 s per km² and 3.8 s per city take 106 CPU-s, 53 s on two cores. CPU and GPU overlap, so the run takes 53 s
    and, at its end, the GPU's half of the last city: 5 s more.

    Args:
        plans: Of the cities that are ready.
        machines: What they run on.
        tiles_per_s: Of one device, as measured; None where not known.
        views: Times that every tile is looked at (`GridConfig.symmetries`).
        rates: CPU seconds of each stage.
    """
    known = list(plans)
    area = sum(p.area_km2 for p in known)
    tiles = sum(p.tiles for p in known) * views
    stages = {name: (len(known) * r.city_s + area * r.km2_s) / 3600 for name, r in rates.items()}
    cpu_h = sum(stages.values())
    model_h = elapsed = None
    if tiles_per_s:
        model_h = tiles / tiles_per_s / 3600
        last_h = max((p.tiles * views for p in known), default=0) / tiles_per_s / 3600
        if machines.gpus:
            elapsed = max(model_h / machines.gpus, cpu_h / machines.cores) + (last_h if known else 0.0)
        else:
            elapsed = model_h + cpu_h / machines.cores  # the speed of the model was measured on all cores
    pixels = sum(p.pixels for p in known)
    hourly = machines.gpus * machines.gpu_price + machines.cores * machines.core_price
    return Budget(
        cities=len(known),
        area_km2=area,
        tiles=tiles,
        stage_cpu_h=stages,
        model_h=model_h,
        elapsed_h=elapsed,
        read_bytes=sum(p.read_bytes for p in known),
        store_bytes=round(pixels * PRODUCT_BYTES_PER_PX),
        work_bytes=round(pixels * WORK_BYTES_PER_PX),
        cost=None if elapsed is None else elapsed * hourly,
    )


def measured_rates(cities: Iterable[tuple[float, Mapping[str, float]]]) -> dict[str, StageRate]:
    """Rates of the stages of a run: least squares of seconds over areas, neither part below 0.

    Args:
        cities: Area in km² and seconds by stage of every finished city; a stage that found its result is left out.

    Returns:
        Rates of the stages that ran in any city.
    """
    seen: dict[str, list[tuple[float, float]]] = {}
    for area, stages in cities:
        for name, seconds in stages.items():
            seen.setdefault(name, []).append((area, seconds))
    return {name: _line(points) for name, points in seen.items()}


def _line(points: list[tuple[float, float]]) -> StageRate:
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread > 0 else 0.0
    slope = min(max(slope, 0.0), mean_y / mean_x if mean_x > 0 else 0.0)
    return StageRate(city_s=max(mean_y - slope * mean_x, 0.0), km2_s=slope)
