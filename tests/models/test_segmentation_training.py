from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from models.calibration import Calibration
from models.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from models.geolink.config import GeoLinkConfig
from models.geolink.graph import EDGE_TYPES, GEOMETRY_COLUMNS, NODE_TYPES, POSITION_POINTS, RELATIONS, TileGraphs
from models.geolink.text import HashedTagEncoder
from models.segmentation.config import SIZES, SegmentationConfig
from models.segmentation.decoder import LightUPerNet
from models.segmentation.loss import DiceCrossEntropy, LossConfig, near_another_class
from models.segmentation.metrics import FigureKeeper
from models.segmentation.model import GeoLinkSegmenter
from models.segmentation.predictor import PredictionError, SegmentationPredictor
from models.segmentation.trainer import CHECKPOINT_NAME, train_segmenter
from models.tiles.samples import IGNORE, SampleSet
from models.tiles.sharded import ShardedSamples
from models.tiles.shards import SampleError
from models.training import RESUME_NAME, TrainingConfig, TrainingError

SIDE = 32
CONFIG = SegmentationConfig(
    encoder=GeoLinkConfig.tiny(
        image_px=SIDE,
        patch_px=8,
        width=16,
        depth=2,
        heads=2,
        output_layers=(0, 1),
        stem_widths=(8, 8),
        osm_width=16,
        fusion_width=16,
        semantic_width=16,
    ),
    decoder_channels=16,
    detail_channels=8,
    dropout=0.0,
)
TRAINING = TrainingConfig(batch_size=4, epochs=3, learning_rate=5e-3, accelerator="cpu", validate_every=1)


def _graphs(rng: np.random.Generator, counts: list[int]) -> TileGraphs:
    tiles = {t: np.repeat(np.arange(len(counts)), counts) for t in NODE_TYPES}
    empty = TileGraphs.empty(len(counts))
    index, attr = dict(empty.edge_index), dict(empty.edge_attr)
    n = sum(counts)
    for t in NODE_TYPES:  # every node a loop on itself
        index[t, t] = np.stack([np.arange(n), np.arange(n)])
        attr[t, t] = np.zeros((n, attr[t, t].shape[1]), np.float32)
        attr[t, t][:, 0] = 1
    assert set(index) == set(EDGE_TYPES) and RELATIONS["line", "line"][0] == "self"
    return TileGraphs(
        len(counts),
        tiles,
        {t: rng.integers(0, 3, n) for t in NODE_TYPES},
        {t: rng.uniform(0, 1, (n, 2 * POSITION_POINTS[t])).astype(np.float32) for t in NODE_TYPES},
        {t: rng.uniform(0, 1, (n, len(GEOMETRY_COLUMNS))).astype(np.float32) for t in NODE_TYPES},
        index,
        attr,
    )


def _samples(seed: int = 0, n: int = 12) -> SampleSet:
    """Noisy ground with a bright rectangle, which is the class; some tiles are mapped."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 90, (n, 3, SIDE, SIDE)).astype(np.uint8)
    labels = np.zeros((n, SIDE, SIDE), np.uint8)
    for k in range(n):
        y, x = rng.integers(0, SIDE // 2, 2)
        images[k, :, y : y + 14, x : x + 14] += 130
        labels[k, y : y + 14, x : x + 14] = 1
    labels[:, :2] = IGNORE
    graphs = _graphs(rng, [int(v) for v in rng.integers(0, 4, n)])
    return SampleSet(images=images, labels=labels, graphs=graphs, tag_sets=[{"building": "yes"}, {}, {"shop": "x"}])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    out = tmp_path_factory.mktemp("trained")
    result = train_segmenter(
        _samples(),
        replace(_samples(1, 5), places=("elsewhere",)),
        CONFIG,
        out=out,
        training=TRAINING.model_copy(update={"epochs": 12}),
        progress=False,
    )
    return out, result


def test_training_learns_and_says_so(trained):
    out, result = trained
    assert result.figures["iou"] > 0.5
    assert result.steps == 36
    card = (result.checkpoint / "card.md").read_text()
    assert f"iou: {result.figures['iou']:.4g}" in card and result.digest in card
    log = (out / "log" / "part-0" / "metrics.csv").read_text().splitlines()
    assert {"loss", "dice", "cross_entropy", "iou", "f1", "precision", "recall"} <= set(log[0].split(","))
    assert not (out / RESUME_NAME).exists()
    config = load_checkpoint(result.checkpoint).config
    fitted = config.calibration
    assert fitted.temperature == pytest.approx(result.figures["temperature"])
    assert fitted.bias == (0.0, pytest.approx(result.figures["bias"])) and fitted.is_fitted
    assert result.figures["ece"] < result.figures["ece_before"]
    assert "| score | pixels before |" in card
    assert SegmentationConfig.model_validate(config.model) == CONFIG


def test_equal_seeds_give_equal_bytes_and_others_do_not(tmp_path):
    digests = [
        train_segmenter(
            _samples(), None, CONFIG, out=tmp_path / f"{k}", training=TRAINING, seed=seed, progress=False
        ).digest
        for k, seed in enumerate((4, 4, 5))
    ]
    assert digests[0] == digests[1] != digests[2]


@pytest.mark.parametrize("dies_at", [1, 2])
def test_a_killed_training_goes_on_to_the_same_weights(tmp_path, monkeypatch, dies_at):
    whole = train_segmenter(_samples(), _samples(1, 5), CONFIG, out=tmp_path / "a", training=TRAINING, progress=False)
    original = GeoLinkSegmenter.forward
    calls = {"n": 0}

    def dying(self, *args):
        calls["n"] += self.training
        if calls["n"] > 3 * dies_at + 1:
            raise RuntimeError("killed")
        return original(self, *args)

    run = {"out": tmp_path / "b", "training": TRAINING, "progress": False}
    monkeypatch.setattr(GeoLinkSegmenter, "forward", dying)
    with pytest.raises(RuntimeError, match="killed"):
        train_segmenter(_samples(), _samples(1, 5), CONFIG, **run)
    monkeypatch.setattr(GeoLinkSegmenter, "forward", original)
    assert (tmp_path / "b" / RESUME_NAME).exists()
    steps = {"n": 0}

    def counting(self, *args):
        steps["n"] += self.training
        return original(self, *args)

    monkeypatch.setattr(GeoLinkSegmenter, "forward", counting)
    resumed = train_segmenter(_samples(), _samples(1, 5), CONFIG, **run)
    assert steps["n"] == 9 - 3 * dies_at
    assert resumed.digest == whole.digest


def test_tiles_on_disk_give_the_same_weights(tmp_path):
    kept = []
    for name, samples in (("train", _samples()), ("validation", _samples(1, 5))):
        samples.save(tmp_path / name, shard_tiles=5)
        kept.append(ShardedSamples.open(tmp_path / name))
    averaged = TRAINING.model_copy(update={"ema": 0.9, "workers": 1})
    one = train_segmenter(_samples(), _samples(1, 5), CONFIG, out=tmp_path / "a", training=averaged, progress=False)
    two = train_segmenter(*kept, CONFIG, out=tmp_path / "b", training=averaged, progress=False)
    assert (one.digest, one.figures) == (two.digest, two.figures)


def test_other_samples_do_not_continue_an_old_run(tmp_path, monkeypatch):
    original = GeoLinkSegmenter.forward
    calls = {"n": 0}

    def dying(self, *args):
        calls["n"] += self.training
        if calls["n"] == 5:
            raise RuntimeError("killed")
        return original(self, *args)

    monkeypatch.setattr(GeoLinkSegmenter, "forward", dying)
    with pytest.raises(RuntimeError):
        train_segmenter(_samples(0), None, CONFIG, out=tmp_path, training=TRAINING, progress=False)
    other = train_segmenter(_samples(7), None, CONFIG, out=tmp_path, training=TRAINING, progress=False)
    fresh = train_segmenter(_samples(7), None, CONFIG, out=tmp_path / "f", training=TRAINING, progress=False)
    assert other.digest == fresh.digest


def test_a_time_limit_ends_the_run(tmp_path):
    config = TRAINING.model_copy(update={"epochs": 500, "max_seconds": 0.5})
    result = train_segmenter(_samples(), None, CONFIG, out=tmp_path, training=config, progress=False)
    assert 0 < result.steps < 1500


def test_early_stopping_and_the_best_weights(tmp_path):
    config = TRAINING.model_copy(update={"epochs": 30, "patience": 1, "keep": "best", "learning_rate": 2e-2})
    result = train_segmenter(_samples(), _samples(1, 5), CONFIG, out=tmp_path, training=config, progress=False)
    log = (tmp_path / "log" / "part-0" / "metrics.csv").read_text().splitlines()
    column = log[0].split(",").index("iou")
    best = max(float(v) for line in log[1:] if (v := line.split(",")[column]))
    assert result.figures["iou_before"] == result.figures["iou"] == pytest.approx(best, abs=1e-6)
    assert load_checkpoint(result.checkpoint).config.calibration.bias == ()  # of the ground that was learnt from
    assert result.steps < 90


def test_a_pretrained_encoder_is_the_start(tmp_path, trained):
    _, result = trained
    still = TRAINING.model_copy(update={"epochs": 1, "encoder_rate": 0.0})
    fine = train_segmenter(
        _samples(2), None, CONFIG, out=tmp_path, training=still, pretrained=result.checkpoint, seed=9, progress=False
    )
    before, after = load_checkpoint(result.checkpoint).weights, load_checkpoint(fine.checkpoint).weights
    assert all(torch.equal(before[k], after[k]) for k in before if k.startswith("encoder."))
    assert any(not torch.equal(before[k], after[k]) for k in before if k.startswith("decoder."))
    wide = CONFIG.model_copy(update={"encoder": CONFIG.encoder.with_(width=32)})
    with pytest.raises(CheckpointError, match="encoder with width 16, the model needs 32"):
        train_segmenter(_samples(), None, wide, out=tmp_path / "w", training=still, pretrained=result.checkpoint)


def test_the_model_takes_the_width_of_its_text_encoder(tmp_path):
    once = TRAINING.model_copy(update={"epochs": 1})
    text = HashedTagEncoder(width=24)
    result = train_segmenter(_samples(), None, CONFIG, out=tmp_path, training=once, text_encoder=text, progress=False)
    config = load_checkpoint(result.checkpoint).config
    assert config.tag_encoder.digest == text.digest
    assert SegmentationConfig.model_validate(config.model).encoder == CONFIG.encoder.with_(semantic_width=24)
    tags = _samples().tag_sets
    SegmentationPredictor.load(result.checkpoint, tags, device="cpu", text_encoder=text)
    with pytest.raises(CheckpointError, match="give the former by --text-encoder"):
        SegmentationPredictor.load(result.checkpoint, tags, device="cpu", text_encoder=HashedTagEncoder(width=16))


def test_samples_that_do_not_fit_are_refused(tmp_path):
    samples = _samples()
    with pytest.raises(SampleError, match="label 2, the model knows 2 classes"):
        train_segmenter(
            replace(samples, labels=np.where(samples.labels == 1, np.uint8(2), samples.labels)),
            None,
            CONFIG,
            out=tmp_path,
        )
    with pytest.raises(SampleError, match="no labelled pixel"):
        train_segmenter(replace(samples, labels=np.full_like(samples.labels, IGNORE)), None, CONFIG, out=tmp_path)
    odd = SampleSet.image_only(np.zeros((2, 3, 36, 36), np.uint8), np.zeros((2, 36, 36), np.uint8))
    with pytest.raises(SampleError, match="tiles are 36 px, the model needs a multiple of 8 px"):
        train_segmenter(odd, None, CONFIG, out=tmp_path)
    with pytest.raises(SampleError, match="3 class names for a model of 2 classes"):
        train_segmenter(samples, None, CONFIG, out=tmp_path, classes=("a", "b", "c"))


def test_a_loss_that_is_not_finite_is_an_error(tmp_path):
    broken = TRAINING.model_copy(update={"learning_rate": 1e30, "clip": 1e30})
    with pytest.raises(TrainingError, match="the loss is not finite"):
        train_segmenter(_samples(), None, CONFIG, out=tmp_path, training=broken, progress=False)


@pytest.fixture(scope="module")
def predictor(trained):
    return SegmentationPredictor.load(trained[1].checkpoint, _samples().tag_sets, device="cpu", batch_size=4)


@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_a_tile_gives_equal_bits_in_any_batch(predictor, data):
    samples = _samples(11, 10)
    tiles = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=4))
    batch = samples.select(tiles)
    together = predictor.predict(batch.images, batch.graphs)
    for k, tile in enumerate(tiles):
        one = samples.select([tile])
        alone = predictor.predict(one.images, one.graphs)
        np.testing.assert_array_equal(together[k], alone[0])
    assert together.dtype == np.float32 and together.min() >= 0 and together.max() <= 1


def test_no_map_is_the_image_only_answer(predictor):
    samples = _samples(12, 4)
    blank = predictor.predict(samples.images, TileGraphs.empty(4))
    np.testing.assert_array_equal(blank, predictor.predict(samples.images, None))
    mixed = TileGraphs.concat([samples.select([0, 1, 2]).graphs, TileGraphs.empty(1)])
    np.testing.assert_array_equal(predictor.predict(samples.images, mixed)[3], blank[3])


def test_the_map_matters(predictor):
    samples = _samples(13, 4)
    full = _graphs(np.random.default_rng(0), [3, 3, 3, 3])
    assert (predictor.predict(samples.images, full) != predictor.predict(samples.images, None)).any()


def test_the_figures_are_those_of_the_calibrated_map(trained):
    _, result = trained
    samples = _samples(1, 5)
    scores = SegmentationPredictor.load(result.checkpoint, samples.tag_sets, device="cpu").predict(
        samples.images, samples.graphs
    )
    known, mapped, true = samples.labels != IGNORE, scores > 0.5, samples.labels == 1
    iou = (mapped & true).sum() / ((mapped | true) & known).sum()
    assert result.figures["iou"] == pytest.approx(iou, abs=1e-4)


def test_the_calibration_is_applied(trained):
    _, result = trained
    read = load_checkpoint(result.checkpoint)
    tiles = _samples(14, 2).images
    p = [
        SegmentationPredictor.load(replace(read, config=replace(read.config, calibration=c)), device="cpu").predict(
            tiles, None
        )
        for c in (Calibration(), Calibration(temperature=2.0), Calibration(temperature=2.0, bias=(0.0, -1.5)))
    ]
    odds = [np.log(q.astype(np.float64) / (1 - q)) for q in p]
    sure = np.abs(odds[0]) < 8
    np.testing.assert_allclose(odds[0][sure], 2 * odds[1][sure], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(odds[1][sure] - 1.5, odds[2][sure], rtol=1e-3, atol=1e-3)


def test_what_does_not_fit_the_predictor_is_refused(trained, predictor, tmp_path):
    _, result = trained
    tiles = _samples(0, 5).images
    with pytest.raises(PredictionError, match="5 tiles in a batch of at most 4"):
        predictor.predict(tiles, None)
    with pytest.raises(PredictionError, match=r"tiles are torch.uint8 \(2, 3, 16, 32\)"):
        predictor.predict(tiles[:2, :, :16], None)
    with pytest.raises(PredictionError, match="2 tiles come with graphs of 3"):
        predictor.predict(tiles[:2], TileGraphs.empty(3))
    with pytest.raises(PredictionError, match="device 'warp' cannot be used"):
        SegmentationPredictor.load(result.checkpoint, device="warp")
    read = load_checkpoint(result.checkpoint)
    other = replace(read.config, tag_encoder=replace(read.config.tag_encoder, digest="00"))
    with pytest.raises(CheckpointError, match="was trained with tag text encoder"):
        SegmentationPredictor.load(replace(read, config=other), [{"a": "b"}], device="cpu")
    model = {**read.config.model, "decoder_channels": 32}
    with pytest.raises(CheckpointError, match=r"model\.safetensors does not fit the configured model"):
        SegmentationPredictor.load(replace(read, config=replace(read.config, model=model)), device="cpu")
    bad = replace(read.config, model={**read.config.model, "sharpness": 1})
    with pytest.raises(CheckpointError, match="model: field 'sharpness'"):
        SegmentationPredictor.load(replace(read, config=bad), device="cpu")
    save_checkpoint(tmp_path / "c", weights=read.weights, config=replace(read.config, kind="change"), card=_card())
    with pytest.raises(CheckpointError, match="needed is 'segmentation'"):
        SegmentationPredictor.load(tmp_path / "c", device="cpu")


def _card():
    from models.checkpoints import ModelCard

    return ModelCard(title="x")


def test_digest_follows_what_decides_the_answer(trained):
    _, result = trained
    make = SegmentationPredictor.load
    same = {make(result.checkpoint, device="cpu", batch_size=b).digest for b in (4, 4, 8)}
    assert len(same) == 2
    assert (result.checkpoint.parent / CHECKPOINT_NAME) == result.checkpoint


def test_dice_is_that_of_the_formula():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 2, 6, 6), torch.randint(0, 2, (2, 6, 6), dtype=torch.uint8)
    labels[0, :3] = IGNORE
    got = DiceCrossEntropy(2)(logits, labels)
    p, known = logits.softmax(1)[:, 1], labels != IGNORE
    y = (labels == 1) & known
    dice = 1 - 2 * (p * y).sum() / ((p * known).sum() + y.sum())
    torch.testing.assert_close(got["dice"], dice)
    flat = logits.permute(0, 2, 3, 1)[known]
    torch.testing.assert_close(got["cross_entropy"], functional.cross_entropy(flat, labels[known].long()))
    blank = DiceCrossEntropy(2)(logits, torch.full_like(labels, IGNORE))
    assert all(float(v) == 0 for v in blank.values())


@given(seed=st.integers(0, 10_000), band=st.integers(1, 4), classes=st.integers(2, 4))
@settings(max_examples=25, deadline=None)
def test_the_band_is_that_of_its_definition(seed, band, classes):
    rng = np.random.default_rng(seed)
    coarse = rng.choice(np.array([*range(classes), IGNORE], np.uint8), (2, 4, 4))
    labels = np.kron(coarse, np.ones((1, 4, 4), np.uint8))
    want = np.zeros(labels.shape, bool)
    for k, row, col in np.ndindex(*labels.shape):
        around = labels[k, max(0, row - band) : row + band + 1, max(0, col - band) : col + band + 1]
        own = labels[k, row, col]
        want[k, row, col] = own != IGNORE and ((around != own) & (around != IGNORE)).any()
    np.testing.assert_array_equal(near_another_class(torch.from_numpy(labels), band).numpy(), want)


def test_noisy_labels_count_by_the_formulas():
    torch.manual_seed(1)
    logits, labels = torch.randn(2, 3, 6, 6), torch.randint(0, 3, (2, 6, 6), dtype=torch.uint8)
    labels[0, :2] = IGNORE
    known = labels != IGNORE
    log_p = logits.log_softmax(1).permute(0, 2, 3, 1)[known]
    y = functional.one_hot(labels[known].long(), 3).float()
    soft = DiceCrossEntropy(3, LossConfig(label_smoothing=0.1))(logits, labels)
    torch.testing.assert_close(soft["cross_entropy"], -((0.9 * y + 0.1 / 3) * log_p).sum(1).mean())
    own = functional.one_hot(log_p.argmax(1), 3).float()
    boot = DiceCrossEntropy(3, LossConfig(bootstrap=0.2))(logits, labels)
    torch.testing.assert_close(boot["cross_entropy"], -((0.8 * y + 0.2 * own) * log_p).sum(1).mean())
    banded = DiceCrossEntropy(3, LossConfig(ignore_band_px=1))(logits, labels)
    left = torch.where(near_another_class(labels, 1), IGNORE, labels)
    torch.testing.assert_close(banded["dice"], DiceCrossEntropy(3)(logits, left)["dice"])
    blank = torch.full_like(labels, IGNORE)
    everything = LossConfig(label_smoothing=0.1, ignore_band_px=2, bootstrap=0.3)
    assert all(float(v) == 0 for v in DiceCrossEntropy(3, everything)(logits, blank).values())


def test_figures_are_those_of_the_confusion():
    rng = np.random.default_rng(0)
    truth, guess = rng.integers(0, 2, (2, 8, 8)), rng.integers(0, 2, (2, 8, 8))
    keeper = FigureKeeper(("other", "uv"))
    keeper.update(
        torch.nn.functional.one_hot(torch.from_numpy(guess)).permute(0, 3, 1, 2).float(), torch.from_numpy(truth)
    )
    tp, fp, fn = (guess & truth).sum(), (guess & ~truth & 1).sum(), (~guess & 1 & truth).sum()
    want = {"iou": tp / (tp + fp + fn), "precision": tp / (tp + fp), "recall": tp / (tp + fn)}
    want["f1"] = 2 * tp / (2 * tp + fp + fn)
    assert keeper.result() == pytest.approx(want)


def test_sizes_are_named_and_survive_json():
    for size in SIZES:
        config = SegmentationConfig.of_size(size, classes=9)
        assert SegmentationConfig.model_validate_json(config.model_dump_json()) == config
    assert SegmentationConfig.of_size("large").encoder == GeoLinkConfig.large()


@pytest.mark.parametrize("detail", [0, 8])
def test_the_decoder_gives_full_resolution_and_each_tile_its_own(detail):
    torch.manual_seed(0)
    net = LightUPerNet((8, 8, 8, 4), channels=16, classes=3, detail_channels=detail).train()
    net.dropout.p = 0.0
    images, maps = torch.randn(3, 3, 64, 64), [torch.randn(3, c, 4, 4) for c in (8, 8, 8, 4)]
    out = net(maps, images)
    assert out.shape == (3, 3, 64, 64)
    alone = net([m[1:2] for m in maps], images[1:2])
    torch.testing.assert_close(out[1:2], alone)
