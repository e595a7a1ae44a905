"""A release against the last one: ids kept, new and gone, and areas, city by city, by ids alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.release.facts import made_with
from pipeline.release.layout import VILLAGES
from pipeline.release.record import Change, ReleaseRecord


def count_changes(old: Path, new: Path) -> tuple[Change, ...]:
    """What became of each city's ids and area; cities of either release, in order of adcode.

    What became of the outlines (grown, split, merged) is `uvmap release diff`'s to say: it compares the ground.

    Args:
        old: Folder of the last release.
        new: Folder of this one; its villages are written.
    """
    columns = ["uv_id", "adcode", "area_m2"]
    before, after = (pq.read_table(folder / VILLAGES, columns=columns) for folder in (old, new))
    before, after = (t.append_column("other", pc.is_in(t["uv_id"], value_set=o["uv_id"].combine_chunks()))
                     for t, o in ((before, after), (after, before)))  # fmt: skip
    sums = [_sums(before), _sums(after)]
    changes = []
    for adcode in sorted(set(sums[0]) | set(sums[1])):
        (old_rows, old_kept, old_area), (rows, kept, area) = (s.get(adcode, (0, 0, 0.0)) for s in sums)
        changes.append(
            Change(
                adcode=adcode,
                kept=kept,
                new=rows - kept,
                gone=old_rows - old_kept,
                area_old_m2=old_area,
                area_new_m2=area,
            )
        )
    return tuple(changes)


def changelog(record: ReleaseRecord) -> str:
    """CHANGELOG.md: this version against the last, then what the last release's own file says."""
    lines = ["# Changes", "", f"## {record.version}" + (f" ({record.date})" if record.date else ""), ""]
    if record.previous is None:
        lines += [(f"First release: {record.villages} villages in {len(record.cities)} cities, "
                  f"{record.uv_area_m2 / 1e6:.2f} km2.")]  # fmt: skip
    else:
        kept, new, gone = (sum(getattr(c, k) for c in record.changes) for k in ("kept", "new", "gone"))
        old_m2, new_m2 = (sum(getattr(c, k) for c in record.changes) for k in ("area_old_m2", "area_new_m2"))
        lines += [
            (
                f"Against {record.previous}: {kept} villages keep their id, {new} are new, {gone} are gone; "
                f"{old_m2 / 1e6:.2f} km2 became {new_m2 / 1e6:.2f} km2 ({(new_m2 - old_m2) / 1e6:+.2f})."
            ),
            "",
            *_differences(record),
            "| city | kept | new | gone | km2 before | km2 now |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        names = {c.adcode: c.name_en for c in record.cities}
        lines += [
            f"| {c.adcode} {names.get(c.adcode, 'not in this release')} | {c.kept} | {c.new} | {c.gone} | "
            f"{c.area_old_m2 / 1e6:.3f} | {c.area_new_m2 / 1e6:.3f} |"
            for c in record.changes
            if c.new or c.gone or c.area_old_m2 != c.area_new_m2
        ]
    older = record.history.partition("\n## ")[2]
    return "\n".join(lines) + "\n" + (f"\n## {older}" if older else "")


def _differences(record: ReleaseRecord) -> list[str]:
    """What this release was made with that the last one was not, and the other way round."""
    if not record.before:
        return []
    now = made_with(record)
    said = {"models": "weights", "definitions": "settings that decide what is a village", "cities": "cities"}
    lines = []
    for key, word in said.items():
        old, new = set(record.before.get(key, [])), set(now[key])
        if old != new:
            parts = [f"{label} {', '.join(sorted(some))}" for label, some in (("new:", new - old), ("gone:", old - new))
                     if some]  # fmt: skip
            lines.append(f"- {word}: {'; '.join(parts)}")
    if set(record.before.get("definitions", [])) == set(now["definitions"]):
        lines.append("- the settings that decide what is a village are those of the last release")
    return [*lines, ""]


def _sums(table: pa.Table) -> dict[str, tuple[int, int, float]]:
    """By adcode: rows, rows that the other release has too, area in m2."""
    codes = table["adcode"].combine_chunks().dictionary_encode()
    index = codes.indices.to_numpy()
    names = codes.dictionary.to_pylist()
    rows = np.bincount(index, minlength=len(names))
    kept = np.bincount(index, weights=table["other"].to_numpy(), minlength=len(names))
    area = np.bincount(index, weights=table["area_m2"].to_numpy(), minlength=len(names))
    return {n: (int(r), int(k), float(a)) for n, r, k, a in zip(names, rows, kept, area, strict=True)}
