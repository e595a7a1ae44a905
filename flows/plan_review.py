"""What was planned against what a run took, by city, from the run's record."""

from typing import Any

from flows.console import table
from flows.record import find_run


def review(run: str) -> dict[str, Any]:
    """Plan and account of every city of a run.

    Args:
        run: Id, start of an id, or name.

    Returns:
        ``run``, ``cities`` (adcode, name, state, area_km2, tiles, planned_s and took_s of the model's stage, all_s of
        all stages, ratio), ``total`` and ``rates``: seconds per city and per km² of every stage, for the next plan.

    Raises:
        RunError: no such run.
    """
    from dataclasses import asdict

    from pipeline.national.budget import measured_rates

    record = find_run(run)
    rows: list[dict[str, Any]] = []
    for code, city in record.cities.items():
        plan = city.plan or {}
        stages = {name: entry.seconds for name, entry in city.stages.items()}
        planned, took = plan.get("seconds"), stages.get("scores")
        rows.append(
            {
                "adcode": code,
                "name": city.name,
                "state": city.state,
                "area_km2": plan.get("area_km2"),
                "tiles": plan.get("tiles"),
                "planned_s": planned,
                "took_s": took,
                "all_s": sum(stages.values()),
                "ratio": took / planned if took is not None and planned else None,
                "stages": stages,
            }
        )
    both = [r for r in rows if r["planned_s"] and r["took_s"] is not None]
    done = [r for r in rows if r["state"] == "done" and r["area_km2"]]
    planned_s, took_s = sum(r["planned_s"] for r in both), sum(r["took_s"] for r in both)
    rates = measured_rates((r["area_km2"], r["stages"]) for r in done)
    return {
        "run": record.run,
        "campaign": record.campaign,
        "cities": rows,
        "total": {
            "cities": len(rows),
            "done": sum(r["state"] == "done" for r in rows),
            "planned_s": planned_s,
            "took_s": took_s,
            "all_s": sum(r["all_s"] for r in rows),
            "ratio": took_s / planned_s if planned_s else None,
        },
        "rates": {name: asdict(rate) for name, rate in rates.items()},
    }


def review_text(found: dict[str, Any]) -> str:
    """The review as a table."""
    columns = {
        "adcode": "adcode", "name": "city", "state": "state", "area_km2": "km2", "tiles": "tiles",
        "planned_s": "planned s", "took_s": "scores s", "ratio": "ratio", "all_s": "all stages s",
    }  # fmt: skip
    rates = [{"stage": name, **rate} for name, rate in found["rates"].items()]
    total = found["total"]
    head = f"run {found['run']} of campaign {found['campaign']}: {total['done']} of {total['cities']} cities done"
    ratio = "" if total["ratio"] is None else f", {total['ratio']:.2f} times the plan"
    text = f"{head}\n{table(found['cities'], columns)}\nscores took {total['took_s']:.0f} s{ratio}"
    if rates:
        columns = {"stage": "stage", "city_s": "s per city", "km2_s": "s per km2"}
        text += f"\n{table(rates, columns)}"
    return text
