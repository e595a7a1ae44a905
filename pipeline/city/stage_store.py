"""Results of a city's stages: a folder named by the key of its inputs, finished by one rename."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.files import digest_of, recover_folder, replacing_folder, write_json

_DONE = "stage.json"


@dataclass(frozen=True)
class StageResult:
    """The result of a stage.

    Attributes:
        folder: Where its files are.
        key: Digest of all that shaped them.
        summary: What the stage says of itself, JSON-able.
        reused: Whether it had been there before.
    """

    folder: Path
    key: str
    summary: dict[str, Any]
    reused: bool


def stage_result(
    work: Path, stage: str, inputs: dict[str, Any], build: Callable[[Path], dict[str, Any]]
) -> StageResult:
    """Find the result of ``stage`` for these inputs, or build it into an empty folder.

    Args:
        work: Folder of the city's stages.
        stage: Name of the stage.
        inputs: Everything the result depends on: digests of files, settings, version of the stage's code.
        build: Writes the files into the folder that it is given, and returns the summary.
    """
    key = digest_of({"stage": stage, **inputs})
    folder = work / f"{stage}-{key[:16]}"
    done = folder / _DONE
    recover_folder(folder)
    if done.exists():
        known = json.loads(done.read_text(encoding="utf-8"))
        if known["key"] == key:
            return StageResult(folder, key, known["summary"], reused=True)
    with replacing_folder(folder) as temporary:
        summary = build(temporary)
        write_json(temporary / _DONE, {"key": key, "inputs": inputs, "summary": summary})
    for old in work.glob(f"{stage}-*"):
        if old != folder:
            shutil.rmtree(old, ignore_errors=True)
    return StageResult(folder, key, summary, reused=False)
