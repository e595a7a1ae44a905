"""The file of scores: its form, what is read for it, what it says where nothing is predicted, and what is refused."""

import json
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import shapely
from rio_cogeo.cogeo import cog_validate

from pipeline.imagery import ArrayImagery
from pipeline.inference import AreaError, ModelMismatchError, ModelOutputError, predict_scores
from regions.raster.grid import Tiling, Window
from tests.support.score_reference import ContextModel, read, reference, scene


def test_second_band_and_the_form_of_the_file(tmp_path):
    imagery = scene(1100, 1300)
    model = ContextModel(outputs=2)
    result = predict_scores(
        imagery, model, None, grid=imagery.grid, tiling=Tiling(32, 24), out=tmp_path / "s.tif", work=tmp_path / "w"
    )
    valid, errors, warnings = cog_validate(str(result.path), strict=True, quiet=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(result.path) as dataset:
        assert dataset.count == 2
        assert dataset.dtypes == ("uint8", "uint8")
        assert dataset.nodata == 255
        assert dataset.scales == (1 / 250, 1 / 250)
        assert dataset.overviews(1) == [2, 4]
        assert dataset.crs.to_epsg() == 32650
        assert tuple(dataset.transform)[:6] == imagery.grid.transform
        score, doubt = dataset.read(masked=True)
        stats = dataset.tags(1)
        assert float(stats["STATISTICS_MEAN"]) == pytest.approx(score.mean())
        assert float(stats["STATISTICS_STDDEV"]) == pytest.approx(score.std())
        assert (int(stats["STATISTICS_MINIMUM"]), int(stats["STATISTICS_MAXIMUM"])) == (score.min(), score.max())
        assert dataset.descriptions[1].startswith("disagreement")
    assert abs(doubt - score / 2).max() <= 1
    assert json.loads((tmp_path / "w/progress.jsonl").read_text().splitlines()[-1])["seconds_left"] == 0
    np.testing.assert_array_equal(read(result.path), reference(imagery, model, imagery.grid, Tiling(32, 24)))


def test_nothing_to_predict_is_not_negative(tmp_path):
    imagery = scene(90, 90, holes=False)
    imagery = ArrayImagery(np.zeros((3, 90, 90), np.uint8), imagery.grid, valid=np.zeros((90, 90), bool))
    result = predict_scores(
        imagery,
        ContextModel(),
        None,
        grid=imagery.grid,
        tiling=Tiling(32, 24),
        out=tmp_path / "s.tif",
        work=tmp_path / "w",
    )
    assert (read(result.path) == 255).all()
    assert (result.predicted_px, result.not_predicted_px) == (0, 8100)
    assert result.tiles == 0


def test_blocks_outside_the_area_are_not_read(tmp_path):
    imagery = scene(400, 400, holes=False)
    left, _, _, top = imagery.grid.bounds_m
    reads: list[Window] = []

    class Watched(ArrayImagery):
        def read(self, window):
            reads.append(window)
            return super().read(window)

        def stamp(self, window):
            return "s"

        def may_have_data(self, window):
            return True

    watched = Watched(imagery.read(imagery.grid.window)[0], imagery.grid)
    aoi = shapely.box(left + 20, top - 400, left + 400, top - 20)
    states = []
    result = predict_scores(
        watched, ContextModel(), None, grid=imagery.grid, tiling=Tiling(32, 24), out=tmp_path / "s.tif",
        work=tmp_path / "w", aoi=aoi, block_px=80, progress=states.append,
    )  # fmt: skip
    assert max(w.stop_row_px for w in reads) <= 40 + 32
    assert max(w.stop_col_px for w in reads) <= 40 + 32
    assert result.blocks_done + result.blocks_skipped == result.blocks_total == len(states)
    assert result.blocks_done <= 4
    assert states[-1].km2_done == pytest.approx(states[-1].km2_total) == pytest.approx(16.0)
    assert (states[-1].blocks_skipped, states[-1].seconds_left) == (result.blocks_skipped, 0)


def test_errors_name_both_sides(tmp_path):
    imagery = scene(50, 50)
    how = {"grid": imagery.grid, "tiling": Tiling(32, 24), "out": tmp_path / "s.tif", "work": tmp_path / "w"}
    with pytest.raises(ModelMismatchError, match="tiles of 16 px, the tiling gives 32 px"):
        predict_scores(imagery, ContextModel(tile_px=16), None, **how)
    with pytest.raises(ModelMismatchError, match="takes 5 bands, the imagery is opened with 3"):
        predict_scores(imagery, ContextModel(bands=5), None, **how)
    with pytest.raises(ModelMismatchError, match="open it with grid="):
        predict_scores(imagery, ContextModel(), None, **how | {"grid": replace(imagery.grid, width_px=49)})
    with pytest.raises(AreaError, match="does not meet the grid"):
        predict_scores(imagery, ContextModel(), None, **how, aoi=shapely.box(0, 0, 1, 1))
    with pytest.raises(AreaError, match="is empty"):
        predict_scores(imagery, ContextModel(), None, **how, aoi=shapely.Polygon())


@pytest.mark.parametrize("bad", [np.nan, 1.5, -0.2])
def test_a_model_that_gives_no_probabilities(tmp_path, bad):
    class Broken(ContextModel):
        def predict(self, images, graphs):
            answer = super().predict(images, graphs)
            answer[0, 3, 3] = bad
            return answer

    imagery = scene(50, 50)
    with pytest.raises(ModelOutputError, match="expected probabilities"):
        predict_scores(
            imagery,
            Broken(),
            None,
            grid=imagery.grid,
            tiling=Tiling(32, 24),
            out=tmp_path / "s.tif",
            work=tmp_path / "w",
        )
    assert not (tmp_path / "s.tif").exists()


def test_no_thread_reads_on_after_a_failure(tmp_path):
    """Whoever asked closes the imagery then: a file that is closed while GDAL reads it takes the process down."""

    reading: list[Window] = []

    class Slow(ArrayImagery):
        def read(self, window):
            reading.append(window)
            time.sleep(0.05)
            found = super().read(window)
            reading.remove(window)
            return found

    class Full(ContextModel):
        def predict(self, images, graphs):
            raise MemoryError("no memory is left")

    imagery = scene(200, 200, holes=False)
    slow = Slow(imagery.read(imagery.grid.window)[0], imagery.grid)
    with pytest.raises(MemoryError, match="no memory is left") as failure:  # held: its frames hold what they held
        predict_scores(
            slow, Full(), None, grid=slow.grid, tiling=Tiling(32, 24), out=tmp_path / "s.tif", work=tmp_path / "w",
            block_px=32, readers=4,
        )  # fmt: skip
    assert not reading
    assert not [t.name for t in threading.enumerate() if t.name.startswith(("block-reader", "packer", "writer"))]
    assert failure.tb is not None
