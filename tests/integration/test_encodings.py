"""Encodings of a city against the encoder called tile by tile."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
from typer.testing import CliRunner

from flows.cli import build_app
from models.checkpoints import CheckpointError, ModelCard, load_checkpoint, save_checkpoint
from models.geolink.text import HashedTagEncoder, TagTable, TagTextError
from models.tasks.encodings import TileEncoder
from pipeline.learning.encodings import EncodingError, cell_grid, encode_city
from regions.raster.grid import Grid, Tiling

pytestmark = pytest.mark.xdist_group("city")  # one demo city for all


@pytest.mark.parametrize("image_only", [True, False])
def test_cells_are_those_of_their_tiles(job, tmp_path, image_only):
    summary = encode_city(job.ground, job.checkpoint, tmp_path / "f.tif", image_only=image_only)
    with rasterio.open(tmp_path / "f.tif") as raster:
        values, transform = raster.read(), raster.transform
    assert summary["encoded"] + summary["blank"] == summary["cells"]
    with job.ground.open() as city:
        grid, tiling = city.extent.grid, Tiling(224, 224)
        encoder = TileEncoder.load(job.checkpoint, city.city_map.tag_sets)
        tile = tiling.tiles_touching(grid, grid.window)[8]
        box = np.array([grid.window_bounds_m(tiling.window(grid, tile))])
        pixels, _ = city.imagery.read(tiling.window(grid, tile))
        graphs = None if image_only else city.city_map.tile_graphs(box)
        expected = encoder.encode_tiles(pixels[None, :3], graphs)[0]
        reach = cell_grid(grid, 16)
    col, row = (round(v) for v in ~transform @ (box[0, 0], box[0, 3]))
    rows = slice(max(row, 0), min(row + 14, reach.height_px))
    cols = slice(max(col, 0), min(col + 14, reach.width_px))
    found = values[:, rows, cols]
    wanted = expected[:, rows.start - row : rows.stop - row, cols.start - col : cols.stop - col]
    known = np.isfinite(found)
    assert known.mean() > 0.9
    np.testing.assert_array_equal(found[known], wanted[known])


def test_the_map_counts(job, tmp_path):
    encode_city(job.ground, job.checkpoint, tmp_path / "a.tif", image_only=True)
    encode_city(job.ground, job.checkpoint, tmp_path / "b.tif", image_only=False)
    with rasterio.open(tmp_path / "a.tif") as one, rasterio.open(tmp_path / "b.tif") as two:
        assert np.nanmax(np.abs(one.read(1) - two.read(1))) > 0


def test_a_model_without_tag_vectors_reads_no_map(job, tmp_path):
    read = load_checkpoint(job.checkpoint)
    unknown = replace(read.config, tag_encoder=None)
    save_checkpoint(tmp_path / "model", weights=read.weights, config=unknown, card=ModelCard(title="no tags"))
    with pytest.raises(EncodingError, match="--image-only"):
        encode_city(job.ground, tmp_path / "model", tmp_path / "f.tif")
    assert not (tmp_path / "f.tif").exists()
    assert encode_city(job.ground, tmp_path / "model", tmp_path / "f.tif", image_only=True)["encoded"] > 0


def test_the_tag_text_encoder_of_the_training_is_given_by_option(job, tmp_path):
    width = load_checkpoint(job.checkpoint).config.tag_encoder.width
    with job.ground.open() as city:
        tags = [tag for tag_set in city.city_map.tag_sets for tag in tag_set.items()]
    table = TagTable.build(tags, HashedTagEncoder(width=width))
    table.save(tmp_path / "tags")
    replace(table, encoder_digest="00").save(tmp_path / "other")
    root = job.checkpoint.parent

    def encode(out, *options):
        args = (
            "encode",
            "990001",
            "--data-root",
            root,
            "--checkpoint",
            job.checkpoint,
            "--out",
            out,
            "--json",
            *options,
        )
        result = CliRunner().invoke(build_app(), [*map(str, args)], catch_exceptions=False)
        assert result.exit_code == 0, result.output

    encode(tmp_path / "a.tif")
    encode(tmp_path / "b.tif", "--text-encoder", "table", "--text-weights", tmp_path / "tags")
    with rasterio.open(tmp_path / "a.tif") as one, rasterio.open(tmp_path / "b.tif") as two:
        np.testing.assert_array_equal(one.read(), two.read())
    with pytest.raises(CheckpointError, match="was trained with tag text encoder"):
        encode(tmp_path / "c.tif", "--text-encoder", "table", "--text-weights", tmp_path / "other")
    with pytest.raises(TagTextError, match="--text-weights"):
        encode(tmp_path / "c.tif", "--text-encoder", "clip")


def test_cell_grid_covers_the_grid():
    for first in (-33, -16, -1, 0, 5, 16):
        grid = Grid("EPSG:32649", 0.5, first, 2 * first, 37, 50)
        cells = cell_grid(grid, 16)
        left, bottom, right, top = cells.bounds_m
        inner = grid.bounds_m
        assert left <= inner[0] < left + 8
        assert right - 8 < inner[2] <= right
        assert bottom <= inner[1] < bottom + 8
        assert top - 8 < inner[3] <= top
