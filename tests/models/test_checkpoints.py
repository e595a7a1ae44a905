import hashlib
import json
import pickle
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from models.calibration import Calibration
from models.checkpoints import (
    CARD_NAME,
    CONFIG_NAME,
    WEIGHTS_NAME,
    CheckpointConfig,
    CheckpointError,
    ModelCard,
    TagEncoderId,
    load_checkpoint,
    load_config,
    load_weights,
    save_checkpoint,
)

CONFIG = CheckpointConfig(
    kind="segmentation",
    model={"size": "tiny", "layers": [1, 2]},
    resolution_m=1.0,
    tag_encoder=TagEncoderId(name="hashed", digest="ab" * 32, width=8),
    calibration=Calibration(temperature=1.25, bias=(0.0, -0.5)),
)
CARD = ModelCard(title="A model", data=("two scenes",), licence="CC-BY-4.0", figures={"iou": 0.8123, "tiles": 12})


def _net() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))


def _saved(path):
    save_checkpoint(path, weights=_net().state_dict(), config=CONFIG, card=CARD)
    return path


def test_round_trip_gives_equal_weights_and_config(tmp_path):
    path = _saved(tmp_path / "c")
    read = load_checkpoint(path, kind="segmentation")
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    read.load_into(net)
    for name, value in _net().state_dict().items():
        assert torch.equal(net.state_dict()[name], value)
    assert replace(read.config, weights_sha256="") == CONFIG
    card = (path / CARD_NAME).read_text()
    assert read.digest in card and "CC-BY-4.0" in card and "iou: 0.8123" in card and "two scenes" in card


def test_digest_depends_on_content_alone(tmp_path):
    first, second = _saved(tmp_path / "a"), _saved(tmp_path / "deeper" / "b")
    for name in (WEIGHTS_NAME, CONFIG_NAME, CARD_NAME):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    assert load_checkpoint(first).digest == load_checkpoint(second).digest
    weights = _net().state_dict()
    weights["0.bias"] = weights["0.bias"] + 1e-3
    other = save_checkpoint(tmp_path / "w", weights=weights, config=CONFIG, card=CARD)
    warm = save_checkpoint(
        tmp_path / "t",
        weights=_net().state_dict(),
        config=replace(CONFIG, calibration=replace(CONFIG.calibration, temperature=2.0)),
        card=CARD,
    )
    shifted = save_checkpoint(
        tmp_path / "s",
        weights=_net().state_dict(),
        config=replace(CONFIG, calibration=replace(CONFIG.calibration, bias=(0.0, 0.5))),
        card=CARD,
    )
    card = save_checkpoint(
        tmp_path / "k", weights=_net().state_dict(), config=CONFIG, card=replace(CARD, title="Another title")
    )
    assert len({load_config(first).digest, other.digest, warm.digest, shifted.digest}) == 4
    assert card.digest == load_config(first).digest


def test_order_of_weights_changes_nothing(tmp_path):
    weights = _net().state_dict()
    backwards = dict(reversed(list(weights.items())))
    one = save_checkpoint(tmp_path / "a", weights=weights, config=CONFIG, card=CARD)
    two = save_checkpoint(tmp_path / "b", weights=backwards, config=CONFIG, card=CARD)
    assert one.digest == two.digest


def test_saving_replaces_a_checkpoint_and_nothing_else(tmp_path):
    path = _saved(tmp_path / "c")
    save_checkpoint(path, weights=_net().state_dict(), config=replace(CONFIG, tile_px=448), card=CARD)
    assert load_config(path).tile_px == 448
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(CheckpointError, match="exists and is no checkpoint"):
        _saved(tmp_path / "mine")


@given(cut=st.floats(0, 0.999), seed=st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_truncated_or_changed_weights_are_refused(tmp_path_factory, cut, seed):
    path = _saved(tmp_path_factory.mktemp("c") / "c")
    file = path / WEIGHTS_NAME
    data = bytearray(file.read_bytes())
    if seed % 2:
        data[int(cut * len(data))] ^= 1
    else:
        data = data[: int(cut * len(data))]
    file.write_bytes(bytes(data))
    with pytest.raises(CheckpointError, match=r"model\.safetensors .*truncated or was changed"):
        load_checkpoint(path)


def _change(path, **values):
    data = json.loads((path / CONFIG_NAME).read_text())
    (path / CONFIG_NAME).write_text(json.dumps({**data, **values}))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"format_version": 99}, r"format_version 99, this program reads 1"),
        ({"calibration": {"temperature": "warm"}}, r"config\.json: field 'calibration\.temperature' is 'warm'"),
        ({"calibration": {"temperature": -1}}, r"config\.json: field 'calibration'.*must be finite and above 0"),
        ({"calibration": {"bias": [0, 1, 2]}}, r"config\.json has 3 biases for 2 classes"),
        ({"temperature": 2.0}, r"config\.json: field 'temperature'"),
        ({"colour": 1}, r"config\.json: field 'colour'"),
        ({"tag_encoder": {"name": "x"}}, r"tag_encoder\.digest"),
    ],
)
def test_a_wrong_config_names_file_field_and_value(tmp_path, values, says):
    path = _saved(tmp_path / "c")
    _change(path, **values)
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(path)


def test_a_checkpoint_of_before_the_bias_is_read_and_keeps_its_digest(tmp_path):
    plain = replace(CONFIG, calibration=Calibration(temperature=1.25))
    path = tmp_path / "c"
    save_checkpoint(path, weights=_net().state_dict(), config=plain, card=CARD)
    text = (path / CONFIG_NAME).read_text()
    assert json.loads(text)["temperature"] == 1.25 and "calibration" not in json.loads(text)
    read = load_config(path)
    assert read.calibration == Calibration(temperature=1.25)
    assert read.digest == hashlib.sha256(text.encode()).hexdigest()


def test_missing_parts_are_named(tmp_path):
    with pytest.raises(CheckpointError, match="is no checkpoint folder"):
        load_checkpoint(tmp_path)
    path = _saved(tmp_path / "c")
    with pytest.raises(CheckpointError, match="give the folder, not the file"):
        load_checkpoint(path / WEIGHTS_NAME)
    with pytest.raises(CheckpointError, match="of kind 'segmentation', needed is 'change'"):
        load_checkpoint(path, kind="change")
    (path / CONFIG_NAME).write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        load_checkpoint(path)
    _saved(tmp_path / "d")
    (tmp_path / "d" / WEIGHTS_NAME).unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        load_checkpoint(tmp_path / "d")


def test_a_pickle_is_never_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "trapped"), "w"))

    path = _saved(tmp_path / "c")
    (path / WEIGHTS_NAME).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CheckpointError):
        load_checkpoint(path)
    assert not (tmp_path / "trapped").exists()


def test_misfits_name_parameter_and_both_shapes():
    weights = _net().state_dict()
    with pytest.raises(CheckpointError, match=r"first '0\.bias': \(4,\) in the file, \(5,\) in the model"):
        load_weights(nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(4)), weights, source="f")
    with pytest.raises(CheckpointError, match=r"1 parameters are missing \(first '0\.bias'\)"):
        load_weights(_net(), {k: v for k, v in weights.items() if k != "0.bias"}, source="f")
    with pytest.raises(CheckpointError, match=r"1 are unknown to the model \(first 'extra'\)"):
        load_weights(_net(), {**weights, "extra": torch.zeros(1)}, source="f")
