"""Pairs from a demo city's own sources, and `uvmap pretrain` on them."""

import numpy as np
import pytest

from models.pretraining.pairs import PairSet
from pipeline.learning.pairs import write_pairs
from regions.raster.grid import Tiling
from tests.support.command_line import json_of

pytestmark = pytest.mark.xdist_group("city")  # one demo city for all


def test_pairs_hold_what_the_city_shows(job, tmp_path):
    count = write_pairs([job.ground], tmp_path / "pairs", stride_px=224)
    pairs = PairSet(tmp_path / "pairs")
    assert len(pairs) == count > 9
    with job.ground.open() as city:
        grid, tiling = city.extent.grid, Tiling(224, 224)
        kept = 0
        for tile in tiling.tiles_touching(grid, grid.window):
            window = tiling.window(grid, tile)
            pixels, valid = city.imagery.read(window)
            if valid.mean() < 0.75:
                continue
            image, graph = pairs[kept]
            np.testing.assert_array_equal(image, pixels)
            expected = city.city_map.tile_graphs(np.array([grid.window_bounds_m(window)]))
            for node_type in ("point", "line", "polygon"):
                np.testing.assert_array_equal(graph.position[node_type], expected.position[node_type])
            kept += 1
    assert kept == count


def test_command(job, tmp_path):
    root = job.ground.sources.imagery[0].parents[2]
    figures = json_of("pretrain", "990001", "--data-root", root, "--out", tmp_path / "p", "--epochs", "2", "--json")
    assert figures["steps"] > 0
    assert figures["loss_after"] < figures["loss_before"]
