"""The score raster, put together once from the blocks: a cloud-optimised GeoTIFF."""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from PIL import Image
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow
from rio_cogeo.cogeo import cog_validate

from pipeline.disk import disk_full, writing_to
from pipeline.files import replacing
from pipeline.inference.block_file import read_core
from pipeline.inference.blocks import BlockId, BlockPlan
from pipeline.inference.errors import ScoreFileError
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
    flat = work / ".scores.flat.tif"
    need = grid.height_px * grid.width_px * outputs
    try:
        with _writing(flat, size=need):
            counts = _write_flat(plan, files, flat, outputs=outputs, tags=tags or {})
        with replacing(out, size=need // 2) as part:
            try:
                _write_cog(flat, part, counts, outputs=outputs)
            finally:
                for leftover in out.parent.glob(f"{glob.escape(part.name)}*.tmp"):
                    leftover.unlink(missing_ok=True)  # overviews that GDAL had begun
    finally:
        flat.unlink(missing_ok=True)
    return {"predicted": int(counts[0, :NOT_PREDICTED].sum()), "not_predicted": int(counts[0, NOT_PREDICTED])}


def _write_flat(
    plan: BlockPlan, files: dict[BlockId, Path], flat: Path, *, outputs: int, tags: Mapping[str, str]
) -> NDArray[np.int64]:
    """Write the scores of all blocks into an uncompressed raster; counts of each value per band (outputs, 256)."""
    grid = plan.grid
    counts = np.zeros((outputs, 256), np.int64)
    profile = tiled_profile(
        grid, dtype="uint8", nodata=NOT_PREDICTED, count=outputs, compress="NONE", interleave="band", sparse_ok=True
    )
    with rasterio.open(flat, "w", **profile) as sink:
        for block in sorted(files):
            window, scores = read_core(plan, block, files, outputs=outputs)
            if window.is_empty:
                continue
            for band in range(outputs):
                counts[band] += count_values(scores[band])
            place = RasterioWindow(window.col_px, window.row_px, window.width_px, window.height_px)
            sink.write(scores, window=place)
        sink.scales = (1.0 / SCORE_SCALE,) * outputs
        sink.offsets = (0.0,) * outputs
        counts[:, NOT_PREDICTED] = grid.height_px * grid.width_px - counts[:, :NOT_PREDICTED].sum(axis=1)
        sink.update_tags(**tags)
        for band in range(outputs):
            sink.set_band_description(band + 1, BAND_NAMES[band])
            sink.update_tags(band + 1, **_statistics(counts[band]))
    return counts


def _write_cog(flat: Path, out: Path, counts: NDArray[np.int64], *, outputs: int) -> None:
    """Copy the raster into a cloud-optimised one, and read that back: it must be valid and hold the same counts."""
    need = flat.stat().st_size // 2
    options = cog_options(resampling="AVERAGE") | {"level": DEFLATE_LEVEL, "num_threads": "2"}
    with _writing(out, size=need):
        rasterio.shutil.copy(flat, out, **options)
        is_whole = np.array_equal(_histograms(out, outputs), counts)
    if not is_whole:
        raise disk_full(out, size=need, cause="the file holds other pixels than were written")
    is_valid, errors, _ = cog_validate(str(out), strict=True, quiet=True)
    if not is_valid:
        raise ScoreFileError(f"{out}: not a valid cloud-optimised GeoTIFF: {'; '.join(errors)}: report this")


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
                found[band] += count_values(dataset.read(band + 1, window=window))
    return found


def count_values(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How often each value stands in uint8 (H, W): int64 (256,), ten times as fast as `numpy.bincount`."""
    return np.array(Image.fromarray(np.ascontiguousarray(pixels)).histogram(), np.int64)


@contextmanager
def _writing(path: Path, *, size: int) -> Iterator[None]:
    """GDAL's errors as ours. It goes on where a disk is full; what shows later is a file that is cut off."""
    try:
        with writing_to(path, size=size):
            yield
    except (RasterioError, CPLE_BaseError) as error:
        text = str(error.__cause__ or error).splitlines()[0]
        raise disk_full(path, size=size, cause=f"writing failed ({text})") from error


def tags_of(facts: Mapping[str, object]) -> dict[str, str]:
    """Facts as tags of a GeoTIFF: upper case names with the project's prefix, JSON values."""
    return {
        f"UVMAP_{name.upper()}": value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for name, value in facts.items()
    }
