"""The further tasks as a user runs them: function zones, scenes, change, official weights, an encoder for timm."""

import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from flows.cli import build_app
from flows.commands.options import OptionError
from models.checkpoints import CheckpointConfig, ModelCard, load_checkpoint, save_checkpoint
from models.geolink.config import GeoLinkConfig
from models.geolink.encoder import GeoLinkEncoder
from models.geolink.official import OfficialCheckpointError
from models.geolink.text import HashedTagEncoder, TagTable
from models.tasks.zones import ZONES
from pipeline.learning.tasks import TaskTilesError, _scenes, write_change
from pipeline.learning.training import segmentation_config

SIDE = 224


def invoke(*args):
    result = CliRunner().invoke(build_app(), [*map(str, args), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.output.strip().splitlines()[-1])


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def tile(seed, bright=False):
    pixels = np.random.default_rng(seed).integers(0, 90, (SIDE, SIDE, 3), np.uint8)
    return pixels + 150 if bright else pixels


@pytest.mark.shared
def test_zones_are_trained_on_published_tiles(shared, tmp_path):
    found = invoke("train", "--task", "zones", "--tiles", shared / "reference/ufz", "--epochs", 1, "--out", tmp_path)
    read = load_checkpoint(tmp_path / "checkpoint")
    assert str(read.path) == found["checkpoint"]
    assert read.config.classes == ZONES


def test_scenes_are_told_apart_and_a_frozen_encoder_is_judged(tmp_path):
    for k in range(10):
        save(tmp_path / "tiles" / ("bright" if k % 2 else "dark") / f"{k}.png", tile(k, bright=bool(k % 2)))
    args = ("train", "--task", "scenes", "--tiles", tmp_path / "tiles")
    found = invoke(*args, "--epochs", 2, "--out", tmp_path / "model")
    assert load_checkpoint(tmp_path / "model" / "checkpoint").config.classes == ("bright", "dark")
    judged = invoke(*args, "--frozen", "--pretrained", found["checkpoint"], "--out", tmp_path / "unused")
    assert judged["linear_accuracy"] == judged["neighbours_accuracy"] == 1.0  # brightness alone tells them apart
    assert not (tmp_path / "unused").exists()


def test_every_class_of_scenes_is_learnt_and_validated(tmp_path):
    for k in range(5):  # as many classes as the step of the tiles that are kept
        for n in range(6):
            save(tmp_path / f"class-{k}" / f"{n}.png", tile(6 * k + n))
    _, labels, classes, held = _scenes(tmp_path)
    assert classes == tuple(f"class-{k}" for k in range(5))
    assert np.bincount(labels[held]).tolist() == [1] * 5
    assert np.bincount(labels[~held]).tolist() == [5] * 5
    save(tmp_path / "single" / "0.png", tile(0))
    with pytest.raises(TaskTilesError, match="single holds 1 tiles"):
        _scenes(tmp_path)


@pytest.mark.slow
def test_change_is_trained_and_written_per_pair(tmp_path):
    tiles = tmp_path / "tiles"
    for k in range(6):
        before, after, label = tile(k), tile(k), np.zeros((SIDE, SIDE), np.uint8)
        after[:112], label[:112] = 240, 1
        for name, values in (("before", before), ("after", after), ("label", label)):
            save(tiles / name / f"{k}.png", values)
    found = invoke("train", "--task", "change", "--tiles", tiles, "--epochs", 12, "--out", tmp_path / "model")
    args = ("--checkpoint", found["checkpoint"], "--before", tiles / "before", "--after", tiles / "after")
    written = invoke("change", *args, "--out", tmp_path / "changed")["files"]
    assert len(written) == 6
    score = np.asarray(Image.open(written[0])).astype(float)
    assert score.shape == (SIDE, SIDE)
    assert score.max() <= 250
    assert score[:100].mean() > score[124:].mean() + 50


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--task", "zones"), "--tiles"),
        (("--task", "roofs", "--tiles", "."), "zones, scenes, change"),
        (("--task", "scenes", "--tiles", "."), "one for each of at least two classes"),
        (("--task", "change", "--tiles", "."), "no tiles"),
        (("--task", "zones", "--tiles", ".", "--frozen"), "--frozen"),
    ],
)
def test_tiles_that_do_not_fit_are_named(tmp_path, monkeypatch, args, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TaskTilesError, match=said):
        invoke("train", *args, "--out", tmp_path / "model")


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("train", "440300", "--task", "scenes", "--tiles", "."), "CITIES"),
        (("train", "--task", "zones", "--tiles", ".", "--imagery", "a.tif"), "--imagery"),
        (("train", "--task", "change", "--tiles", ".", "--stride-px", 112), "--stride-px"),
        (("train", "--task", "scenes", "--tiles", ".", "--frozen", "--epochs", 3), "--epochs"),
        (("train", "440300", "--frozen"), "--frozen"),
        (("pretrain", "440300", "--from-official", "a.pth"), "CITIES"),
        (("pretrain", "--from-official", "a.pth", "--size", "large"), "--size"),
    ],
)
def test_an_option_without_effect_is_refused(tmp_path, args, named):
    with pytest.raises(OptionError, match=rf"does not use {named}: leave"):
        invoke(*args, "--out", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_tile_of_one_date_alone_is_named(tmp_path):
    for name in ("before/1.png", "before/2.png", "after/1.png", "after/3.png"):
        save(tmp_path / name, tile(0))
    with pytest.raises(TaskTilesError, match=r"2\.png and 1 more"):
        write_change(tmp_path / "none", tmp_path / "before", tmp_path / "after", tmp_path / "out")
    for name in ("before/2.tif", "after/2.png", "after/2.tif", "before/3.png"):
        save(tmp_path / name, tile(0))
    with pytest.raises(TaskTilesError, match="called 2"):
        write_change(tmp_path / "none", tmp_path / "before", tmp_path / "after", tmp_path / "out")


def test_a_training_takes_the_switches_of_the_encoder_it_starts_from(tmp_path):
    switched = GeoLinkConfig.tiny(edge_attributes=False, osm_norm="tile")
    weights = {f"encoder.{name}": value for name, value in GeoLinkEncoder(switched).state_dict().items()}
    config = CheckpointConfig(kind="pretraining", model={"encoder": switched.model_dump(mode="json")}, classes=())
    start = tmp_path / "start"
    save_checkpoint(start, weights=weights, config=config, card=ModelCard(title="start"))
    assert segmentation_config("tiny", pretrained=start).encoder == switched
    assert segmentation_config("small", pretrained=start) == segmentation_config("small")  # left to the trainer
    for k in range(4):
        save(tmp_path / "tiles" / ("bright" if k % 2 else "dark") / f"{k}.png", tile(k, bright=bool(k % 2)))
    args = ("train", "--task", "scenes", "--tiles", tmp_path / "tiles", "--pretrained", start, "--epochs", 1)
    invoke(*args, "--max-seconds", 60, "--out", tmp_path / "model")
    read = load_checkpoint(tmp_path / "model" / "checkpoint")
    assert GeoLinkConfig.model_validate(read.config.model["encoder"]) == switched


@pytest.mark.shared
def test_official_weights_become_a_checkpoint_and_a_timm_encoder(shared, tmp_path):
    file = shared / "reference/geolink/checkpoint_pyg24.pth"
    made = invoke("pretrain", "--from-official", file, "--out", tmp_path)
    found = invoke("export", "--checkpoint", made["checkpoint"], "--out", tmp_path / "encoder.safetensors")
    model = timm.create_model(found["model"], **found["arguments"])
    model.load_state_dict(load_file(tmp_path / "encoder.safetensors"))
    model.norm.eps = 1e-5  # as published
    folder = shared / "reference/geolink"
    case = np.load(folder / "unimodal.npz")
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    images = [
        torch.from_numpy(np.load(folder / f"{name}.npz")["image_uint8"]).permute(2, 0, 1) for name in case["tiles"]
    ]
    with torch.inference_mode():
        tokens = model.eval().forward_features(torch.stack([(i / 255 - mean) / std for i in images]))
    expected = torch.from_numpy(case["tokens"])
    assert (tokens - expected).abs().max() <= 2e-6 * expected.abs().max()


@pytest.mark.shared
def test_official_weights_keep_the_tag_text_encoder_they_are_given_with(shared, tmp_path):
    for width in (512, 64):
        TagTable.build([("building", "yes")], HashedTagEncoder(width=width)).save(tmp_path / f"tags-{width}")
    args = ("pretrain", "--from-official", shared / "reference/geolink/checkpoint_pyg24.pth", "--text-encoder", "table")
    invoke(*args, "--text-weights", tmp_path / "tags-512", "--out", tmp_path / "model")
    kept = load_checkpoint(tmp_path / "model" / "checkpoint").config.tag_encoder
    assert (kept.digest, kept.width) == (HashedTagEncoder(width=512).digest, 512)
    with pytest.raises(OfficialCheckpointError, match=r"width 512, .* have 64"):
        invoke(*args, "--text-weights", tmp_path / "tags-64", "--out", tmp_path / "other")
