"""The page of a training shows the bins before and after the calibration."""

import numpy as np

from models.segmentation.calibration import CalibrationSample, calibrate
from pipeline.learning.reliability_page import write_reliability_page


def test_the_page_shows_both_and_needs_no_network(tmp_path):
    rng = np.random.default_rng(0)
    margin = rng.normal(0, 4, 4_000)
    labels = (rng.uniform(size=4_000) < 1 / (1 + np.exp(-margin / 3 - 1))).astype(np.int64)
    logits = np.stack([np.zeros(4_000), margin], 1).astype(np.float32)
    outcome = calibrate(CalibrationSample(logits=logits, labels=labels, place=np.zeros(4_000, np.int64)))
    path = tmp_path / "reliability.html"
    write_reliability_page(outcome, path)
    text = path.read_text(encoding="utf-8")
    figures = outcome.figures
    assert f"{figures['ece_before']:.3f} before, {figures['ece']:.3f} after" in text
    assert "before calibration" in text and "pixels, scores" in text
    assert 'src="http' not in text
    first = path.read_bytes()
    write_reliability_page(outcome, path)
    assert path.read_bytes() == first
    assert [p.name for p in tmp_path.iterdir()] == ["reliability.html"]
