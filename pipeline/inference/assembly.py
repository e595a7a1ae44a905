"""The score raster, put together once from the blocks: a cloud-optimised GeoTIFF."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow
from rio_cogeo.cogeo import cog_validate

from pipeline.inference.block_file import core_scores
from pipeline.inference.blocks import BlockId, BlockPlan
from pipeline.inference.errors import ScoreFileError
from pipeline.ledger import disk_full, writing_to
from regions.raster.profiles import cog_options, tiled_profile
from regions.raster.scores import NOT_PREDICTED, SCORE_SCALE

ASSEMBLY_VERSION = 2
DEFLATE_LEVEL = 3
"""Level 6 takes 2.5 times as long for files that are a tenth smaller."""
BAND_NAMES = ("probability of urban village", "disagreement (standard deviation of the probability)")


def assemble(
    plan: BlockPlan,
    files: dict[BlockId, Path],
    out: Path,
    *,
    work: Path,
    outputs: int = 1,
    tags: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Write the score raster of a grid from the files of its blocks.

    Args:
        plan: How the city was cut.
        files: Files of the blocks that hold scores; all else is not predicted.
        out: The raster to write; moved to its place when it is complete and valid.
        work: Folder for the uncompressed raster that is written on the way (1 byte per pixel and output).
        outputs: Bands.
        tags: Metadata of the file.

    Returns:
        Counts of pixels: "predicted" and "not_predicted".

    Raises:
        ScoreFileError: the raster cannot be written, or is not a valid cloud-optimised GeoTIFF.
        DiskFullError: no space left.
    """
    grid = plan.grid
    flat, part = work / ".scores.flat.tif", out.with_name(f".{out.name}.part")
    counts = np.zeros((outputs, 256), np.int64)
    profile = tiled_profile(
        grid, dtype="uint8", nodata=NOT_PREDICTED, count=outputs, compress="NONE", interleave="band", sparse_ok=True
    )
    options = cog_options(resampling="AVERAGE") | {"level": DEFLATE_LEVEL, "num_threads": "2"}
    need = grid.height_px * grid.width_px * outputs
    try:
        with writing_to(out, size=need):
            out.parent.mkdir(parents=True, exist_ok=True)
        with _writing(flat, size=need), rasterio.open(flat, "w", **profile) as sink:
            for block in sorted(files):
                window, scores = core_scores(plan, block, files, outputs=outputs)
                if window.is_empty:
                    continue
                for band in range(outputs):
                    counts[band] += np.bincount(scores[band].ravel(), minlength=256)
                place = RasterioWindow(window.col_px, window.row_px, window.width_px, window.height_px)
                sink.write(scores, window=place)
            sink.scales = (1.0 / SCORE_SCALE,) * outputs
            sink.offsets = (0.0,) * outputs
            counts[:, NOT_PREDICTED] = grid.height_px * grid.width_px - counts[:, :NOT_PREDICTED].sum(axis=1)
            sink.update_tags(**(tags or {}))
            for band in range(outputs):
                sink.set_band_description(band + 1, BAND_NAMES[band])
                sink.update_tags(band + 1, **_statistics(counts[band]))
        with _writing(part, size=need // 2):
            rasterio.shutil.copy(flat, part, **options)
        with _writing(part, size=need // 2):
            is_whole = np.array_equal(_histograms(part, outputs), counts)
        if not is_whole:
            raise disk_full(part, size=need // 2, cause="the file holds other pixels than were written")
        is_valid, errors, _ = cog_validate(str(part), strict=True, quiet=True)
        if not is_valid:
            raise ScoreFileError(f"{out}: not a valid cloud-optimised GeoTIFF: {'; '.join(errors)}: report this")
        os.replace(part, out)  # noqa: PTH105 -- the call whose atomicity is meant
    finally:
        for leftover in (flat, part, *out.parent.glob(f"{part.name}*.tmp")):
            leftover.unlink(missing_ok=True)
    return {"predicted": int(counts[0, :NOT_PREDICTED].sum()), "not_predicted": int(counts[0, NOT_PREDICTED])}


def _statistics(counts: NDArray[np.int64]) -> dict[str, str]:
    """GDAL's statistics of a band from its histogram (256,), in stored values; empty where nothing is predicted."""
    seen = counts[:NOT_PREDICTED]
    n = int(seen.sum())
    if n == 0:
        return {}
    values = np.arange(NOT_PREDICTED)
    mean = float((seen * values).sum() / n)
    deviation = float(np.sqrt((seen * (values - mean) ** 2).sum() / n))
    there = np.flatnonzero(seen)
    return {
        "STATISTICS_MINIMUM": str(int(there[0])),
        "STATISTICS_MAXIMUM": str(int(there[-1])),
        "STATISTICS_MEAN": repr(mean),
        "STATISTICS_STDDEV": repr(deviation),
        "STATISTICS_VALID_PERCENT": f"{100.0 * n / int(counts.sum()):.4g}",
    }


def _histograms(path: Path, outputs: int) -> NDArray[np.int64]:
    """Counts of each value per band, read back from the file: (outputs, 256)."""
    found = np.zeros((outputs, 256), np.int64)
    with rasterio.open(path) as dataset:
        for _, window in dataset.block_windows(1):
            for band in range(outputs):
                found[band] += np.bincount(dataset.read(band + 1, window=window).ravel(), minlength=256)
    return found


@contextmanager
def _writing(path: Path, *, size: int) -> Iterator[None]:
    """GDAL's errors as ours. It goes on where a disk is full; what shows later is a file that is cut off."""
    try:
        with writing_to(path, size=size):
            yield
    except (RasterioError, CPLE_BaseError) as error:
        text = str(error.__cause__ or error).splitlines()[0]
        raise disk_full(path, size=size, cause=f"writing failed ({text})") from error


def read_tags(path: Path) -> dict[str, str]:
    """The metadata of a score raster that this project wrote (tags that start with UVMAP_)."""
    with rasterio.open(path) as dataset:
        return {k: v for k, v in dataset.tags().items() if k.startswith("UVMAP_")}


def tags_of(facts: Mapping[str, object]) -> dict[str, str]:
    """Facts as tags of a GeoTIFF: upper case names with the project's prefix, JSON values."""
    return {
        f"UVMAP_{name.upper()}": value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for name, value in facts.items()
    }
