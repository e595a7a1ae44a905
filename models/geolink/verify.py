"""Check a checkpoint against outputs of the released code: ``python -m models.geolink.verify --help``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.errors import ModelsError
from models.geolink.cases import (
    CaseError,
    Difference,
    compare_pretraining,
    compare_tile,
    difference,
    normalised_image,
    read_case,
)
from models.geolink.encoder import GeoLinkEncoder
from models.geolink.image_encoder import ImageEncoder
from models.geolink.official import (
    OfficialFile,
    load_official,
    load_official_encoder,
    load_official_image_encoder,
    read_official,
)
from models.geolink.pretraining import GeoLinkPretraining

TOLERANCE = 1e-5


def main(argv: Sequence[str] | None = None) -> int:
    """Print the figure of every array; the last line is one JSON object.

    Returns:
        0 where every array is within the tolerance, 1 where one is not, 2 where a file cannot be used.
    """
    parser = argparse.ArgumentParser(
        prog="python -m models.geolink.verify",
        description="Compare our model under an official checkpoint with arrays of the released code: the largest "
        "difference over the array's largest absolute value.",
    )
    parser.add_argument("cases", nargs="+", type=Path, metavar="CASE.npz")
    parser.add_argument("--checkpoint", required=True, type=Path, help="official .pth file")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="default: %(default)s")
    options = parser.parse_args(argv)
    try:
        found = verify(options.checkpoint, options.cases)
    except ModelsError as error:
        sys.stderr.write(f"{error}\n")
        sys.stdout.write(json.dumps({"ok": False, "error": str(error)}, ensure_ascii=False) + "\n")
        return 2
    wrong = [(case, d) for case, ds in found.items() for d in ds if not d.relative <= options.tolerance]
    for case, differences in found.items():
        for d in differences:
            verdict = "ok" if d.relative <= options.tolerance else f"ABOVE THE TOLERANCE {d.note}".rstrip()
            sys.stdout.write(f"{case:32s} {d.array:24s} {d.relative:10.3g}  {verdict}\n")
    every = [d.relative for ds in found.values() for d in ds]
    summary = {
        "ok": not wrong,
        "tolerance": options.tolerance,
        "arrays": len(every),
        "largest": _number(max(every)),
        "above": [f"{case}:{d.array}" for case, d in wrong],
        "cases": {case: {d.array: _number(d.relative) for d in ds} for case, ds in found.items()},
    }
    sys.stdout.write(json.dumps(summary, ensure_ascii=False) + "\n")
    return 1 if wrong else 0


def verify(checkpoint: Path, cases: Sequence[Path]) -> dict[str, list[Difference]]:
    """Compare every array of every case, in float32 on the CPU; keys are the cases' paths.

    Raises:
        OfficialCheckpointError: the checkpoint cannot be used.
        CaseError: a case cannot be read, does not fit, or holds nothing to compare.
    """
    models = _Models(read_official(checkpoint))
    read = {path: read_case(path) for path in cases}
    out = {}
    for path, arrays in read.items():
        with torch.inference_mode():
            found = _compare(models, path, arrays, read)
        if not found:
            raise CaseError(f"{path}: holds no array of the released code's outputs, only {', '.join(arrays)}")
        out[str(path)] = found
    return out


class _Models:
    """The models of one file, each made when first needed."""

    def __init__(self, file: OfficialFile) -> None:
        self.file = file

    @cached_property
    def full(self) -> GeoLinkPretraining:
        return load_official(self.file)

    @cached_property
    def encoder(self) -> GeoLinkEncoder:
        return load_official_encoder(self.file)

    @cached_property
    def image(self) -> ImageEncoder:
        return load_official_image_encoder(self.file)


def _compare(
    models: _Models,
    path: Path,
    arrays: Mapping[str, NDArray[Any]],
    read: Mapping[Path, Mapping[str, NDArray[Any]]],
) -> list[Difference]:
    if "image_uint8" in arrays:
        return compare_tile(path, arrays, models.encoder)
    if "tokens" in arrays:
        tiles = named_tiles(path, arrays, read)
        images = torch.cat([normalised_image(path, {"image_uint8": tiles[str(n)]}) for n in arrays["tiles"]])
        return [difference("tokens", models.image(images)[2].numpy(), arrays["tokens"])]
    tiles = named_tiles(path, arrays, read) if "ids_restore" in arrays else {}
    return compare_pretraining(path, arrays, models.full, tiles)


def named_tiles(
    path: Path, arrays: Mapping[str, NDArray[Any]], read: Mapping[Path, Mapping[str, NDArray[Any]]]
) -> dict[str, NDArray[np.uint8]]:
    """The images of the tiles a case names: from the cases given, else from files beside it.

    Raises:
        CaseError: the case names none, or one that is not found.
    """
    if "tiles" not in arrays:
        raise CaseError(f"{path}: names no tiles, so its images are unknown")
    given = {p.stem: case for p, case in read.items()}
    out = {}
    for name in map(str, arrays["tiles"]):
        case = given[name] if name in given else read_case(path.parent / f"{name}.npz")
        if "image_uint8" not in case:
            raise CaseError(f"{path}: names tile {name}, whose case holds no image_uint8")
        out[name] = case["image_uint8"]
    return out


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None


if __name__ == "__main__":
    sys.exit(main())
