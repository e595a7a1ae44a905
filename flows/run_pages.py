"""The plan and the account of a run as pages."""

from typing import Any

from flows.figures import failures, figures_of, slowest
from flows.record import RunRecord


def plan_page(record: RunRecord) -> str:
    """The plan as a page: the figures of every city that has data, and the list of those that have none."""
    planned = {code: c.plan for code, c in record.cities.items() if c.plan}
    columns = list(dict.fromkeys(k for p in planned.values() for k, v in p.items() if isinstance(v, int | float | str)))
    lines = [f"# Plan of {record.flow}, campaign {record.campaign} {record.version}", "", record.headline(), ""]
    if planned:
        lines += [f"| city | {' | '.join(columns)} |", "|" + "---|" * (len(columns) + 1)]
        lines += [f"| {code} | {' | '.join(_cell(p.get(k)) for k in columns)} |" for code, p in planned.items()]
    missing = record.of_state("missing")
    if missing:
        lines += ["", f"No data under `{record.data_root}` for {len(missing)} cities:", "", ", ".join(missing)]
    return "\n".join(lines) + "\n"


def _cell(value: Any) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else "" if value is None else str(value)


def account(record: RunRecord) -> str:
    """The run as a page: what was done how fast, what was slowest, why cities failed, then city by city."""
    figures = figures_of(record)
    lines = [f"{figures.line()}; {figures.cpu_s:.0f} CPU-s, peak {figures.peak_bytes / 1e6:.0f} MB", ""]
    rows = slowest(record)
    if rows:
        lines += ["| slowest | stage | seconds |", "|---|---|---|"]
        lines += [f"| {code} | {stage} | {seconds:.1f} |" for code, stage, seconds in rows] + [""]
    reasons = failures(record)
    if reasons:
        lines += ["| failed | why |", "|---|---|"]
        lines += [f"| {len(c)}: {', '.join(c[:10])} | {r.replace('|', ' ')} |" for r, c in reasons.items()] + [""]
    return record.markdown().replace("\n", "\n\n" + "\n".join(lines), 1)
