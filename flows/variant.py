"""A city mapped anew beside its product: its own folders, what is done already taken over, and the difference."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.errors import RunError
from pipeline.files import digest_of, replacing_folder, source_files
from regions.campaign import Campaign
from regions.registry import City

FOLDER = "regenerated"
"""Beside the products of the campaign."""
_NOT_SHARED = frozenset({"lock", "finished.json"})


@dataclass(frozen=True)
class Overrides:
    """What an analyst sets in place of the campaign's.

    Attributes:
        polygons: Thresholds and other fields of `regions.settings.PolygonConfig`.
        imagery: Scenes in place of those in the city's folder.
        checkpoint: Another model.
    """

    polygons: Mapping[str, Any] | None = None
    imagery: Sequence[Path] = ()
    checkpoint: Path | None = None

    def __bool__(self) -> bool:
        """Whether anything is set."""
        return bool(self.polygons or self.imagery or self.checkpoint)

    @property
    def only_checkpoint(self) -> bool:
        """Whether another model is all that is set."""
        return self.checkpoint is not None and not self.polygons and not self.imagery

    @property
    def name(self) -> str:
        """A short name that is the same for the same overrides."""
        said = {
            "polygons": dict(self.polygons or {}),
            "imagery": [str(p) for p in self.imagery],
            "checkpoint": None if self.checkpoint is None else str(self.checkpoint),
        }
        return f"v-{digest_of(said)[:8]}"


def beside(campaign: Campaign, city: City, overrides: Overrides, *, name: str | None = None) -> Campaign:
    """The campaign as it maps this one city into ``out_root/regenerated/NAME``, villages keeping their ids.

    The results of stages that are there are taken over as links, so what the overrides do not touch is not done again.

    Raises:
        RunError: a scene is not there, or the name is none.
    """
    name = name or overrides.name
    if name.startswith(".") or Path(name).name != name:
        raise RunError(f"name '{name}': a plain name for a folder, please")
    root = campaign.out_root / FOLDER / name
    old = campaign.product_folder(city.adcode)
    changes: dict[str, Any] = {"out_root": root, "previous_root": campaign.out_root if old.is_dir() else None}
    if overrides.checkpoint is not None:
        changes["checkpoint"] = overrides.checkpoint
    if overrides.polygons:
        changes["polygons"] = {**campaign.polygons.model_dump(), **overrides.polygons}
    if overrides.imagery:
        changes["data_root"] = root / ".data"
        _lay_out(root / ".data" / city.adcode, campaign.data_folder(city.adcode), overrides.imagery)
    _take_over(campaign.out_root / ".work" / city.adcode, root / ".work" / city.adcode)
    return Campaign.model_validate({**campaign.model_dump(), **changes})


def _lay_out(folder: Path, original: Path, imagery: Sequence[Path]) -> None:
    """The city's folder in links, with other scenes."""
    for scene in imagery:
        if not scene.exists():
            raise RunError(f"{scene}: no such scene")
    with replacing_folder(folder) as made:
        for path in sorted(p for p in original.rglob("*") if p.is_file() and p.parent != original / "imagery"):
            link = made / path.relative_to(original)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)
        (made / "imagery").mkdir()
        for file in (f for scene in imagery for f in source_files(scene)):
            (made / "imagery" / file.name).symlink_to(file)


def _take_over(work: Path, target: Path) -> None:
    """Link the results of stages; nothing in them is changed in place, so the campaign's own stay as they are."""
    if target.exists() or not work.is_dir():
        return
    with replacing_folder(target) as made:
        shutil.copytree(
            work,
            made,
            copy_function=_link,
            dirs_exist_ok=True,
            ignore=lambda _, names: [n for n in names if n in _NOT_SHARED or n.startswith(".")],
        )


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)
