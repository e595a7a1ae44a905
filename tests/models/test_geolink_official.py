"""Official checkpoints: every array of the released code is reproduced, and bad files are named."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from models.geolink.cases import CaseError, compare_tile, difference, read_case
from models.geolink.config import GeoLinkConfig
from models.geolink.graph import EDGE_TYPES, NODE_TYPES
from models.geolink.official import (
    OfficialCheckpointError,
    load_official,
    load_official_encoder,
    read_official,
)
from models.geolink.official_names import UNUSED, official_names
from models.geolink.pretraining import GeoLinkPretraining
from models.geolink.verify import main

TILES = ("chicago_15008_19040", "shenzhen_21504_11200", "singapore_22176_12992")


@pytest.fixture(scope="module")
def reference(shared: Path) -> Path:
    return shared / "reference" / "geolink"


@pytest.fixture(scope="module")
def checkpoint(reference: Path) -> Path:
    return reference / "checkpoint_pyg24.pth"


@pytest.mark.shared
def test_every_reference_array_is_reproduced(reference, checkpoint, capsys):
    cases = [str(reference / f"{n}.npz") for n in (*TILES, "pretraining", "unimodal")]
    assert main(["--checkpoint", str(checkpoint), *cases]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["ok"] is True
    assert summary["arrays"] == 25
    assert summary["largest"] < 2e-6
    for name in TILES:
        arrays = summary["cases"][str(reference / f"{name}.npz")]
        assert set(arrays) == {f"feature_{k}" for k in range(4)} | {f"osm_embedding_{t}" for t in NODE_TYPES}


@pytest.mark.shared
def test_a_wrong_array_is_found(reference, checkpoint, tmp_path, capsys):
    arrays = read_case(reference / f"{TILES[1]}.npz")
    arrays["feature_3"] = arrays["feature_3"] * (1 + 1e-4)
    del arrays["osm_embedding_line"]
    np.savez(tmp_path / "case.npz", **arrays)
    assert main(["--checkpoint", str(checkpoint), str(tmp_path / "case.npz")]) == 1
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["above"] == [f"{tmp_path / 'case.npz'}:feature_3"]


def test_not_a_number_is_a_difference():
    good = np.ones(3, np.float32)
    assert difference("x", good, good).relative == 0
    assert difference("x", np.array([1, np.nan, 1], np.float32), good).relative == np.inf
    assert difference("x", good[:2], good).relative == np.inf


@pytest.mark.shared
def test_both_graph_layouts_load_alike(checkpoint, tmp_path):
    data = torch.load(checkpoint, weights_only=True)
    newer = {k.replace(".lin_src.", ".lin."): v for k, v in data["model_state_dict"].items() if ".lin_dst." not in k}
    assert len(newer) < len(data["model_state_dict"])
    torch.save({**data, "model_state_dict": newer}, tmp_path / "newer.pth")
    old, new = read_official(checkpoint), read_official(tmp_path / "newer.pth")
    assert old.config == new.config
    assert old.state.keys() == new.state.keys()
    assert all(torch.equal(old.state[k], new.state[k]) for k in old.state)


@pytest.mark.shared
def test_an_encoder_without_pretraining_parts_loads(reference, checkpoint, tmp_path):
    data = torch.load(checkpoint, weights_only=True)
    dropped = ("img_decoder", "img_cross", "rec_img", "img_mask", "osm_read", "osm_aggr", "type_att")
    dropped += ("osm_graph", "img_consistency", "osm_mask", "osm_node_pred")
    data["model_state_dict"] = {k: v for k, v in data["model_state_dict"].items() if not k.startswith(dropped)}
    torch.save(data, tmp_path / "encoder.pth")
    path = reference / f"{TILES[2]}.npz"
    found = compare_tile(path, read_case(path), load_official_encoder(tmp_path / "encoder.pth"))
    assert max(d.relative for d in found) < 2e-6
    with pytest.raises(OfficialCheckpointError, match="use load_official_encoder"):
        load_official(tmp_path / "encoder.pth")


@pytest.mark.shared
def test_the_image_only_file_gives_its_tokens(reference, checkpoint, tmp_path, capsys):
    data = torch.load(checkpoint, weights_only=True)
    state = data["model_state_dict"]
    plain = {"cls_token": state["cls_token"], "pos_embed": state["img_pos_embed"]}
    plain |= {k: v for k, v in state.items() if k.startswith("patch_embed.")}
    plain |= {k[len("img_encoder.") :]: v for k, v in state.items() if k.startswith("img_encoder.blocks.")}
    plain |= {k[len("img_") :]: v for k, v in state.items() if k.startswith("img_norm.")}
    config = {"num_heads": 4, "num_classes": 0, "global_pool": "", "pos_embed_requires_grad": False}
    torch.save({"model_config": config, "model_state_dict": plain}, tmp_path / "image.pth")
    assert main(["--checkpoint", str(tmp_path / "image.pth"), str(reference / "unimodal.npz")]) == 0
    capsys.readouterr()
    assert main(["--checkpoint", str(tmp_path / "image.pth"), str(reference / f"{TILES[0]}.npz")]) == 2
    assert "image-only file" in capsys.readouterr().err


def official_state(config: GeoLinkConfig) -> dict[str, torch.Tensor]:
    """An official file's tensors, made from a model of ours with random weights, in the PyG 2.4 layout."""
    model = GeoLinkPretraining(config)
    state: dict[str, torch.Tensor] = {}
    for ours, value in model.state_dict().items():
        names = official_names(ours)
        for name, part in zip(names, [value] if len(names) == 1 else value, strict=True):
            state[name] = part.clone()
    for pair in EDGE_TYPES:
        stem = "osm_encoder.convs.0.convs.<{}___to___{}>.".format(*pair)
        state[stem + "lin_src.weight"] = state.pop(stem + "lin.weight")
        state[stem + "lin_dst.weight"] = state[stem + "lin_src.weight"].clone()
        for name in ("att_src", "att_dst"):
            state[stem + name] = state[stem + name].view(1, 1, -1)
    for name in ("weight", "bias"):
        state[f"img_encoder.patch_embed.proj.{name}"] = state[f"patch_embed.proj.{name}"]
    for name in UNUSED:
        state[name] = torch.zeros(1)
    return state


SMALL = {"image_px": 64, "width": 32, "depth": 3, "heads": 4, "output_layers": (0, 1, 2)}
SMALL |= {"osm_width": 16, "semantic_width": 24, "fusion_width": 32, "fusion_heads": 8, "decoder_width": 16}
SMALL |= {"decoder_heads": 2, "contrastive_width": 8, "fusion_blocks": 2, "decoder_depth": 1}
MODEL_CONFIG = {"num_heads": 4, "osm_cross_modal_encoder_num_heads": 8, "img_decoder_num_heads": 2}
MODEL_CONFIG |= {"output_layers": [0, 1, 2]}


@pytest.fixture(scope="module")
def small_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    return official_state(GeoLinkConfig.official(**SMALL))


def written(path: Path, state: dict[str, torch.Tensor], **model_config: object) -> Path:
    torch.save({"model_config": {**MODEL_CONFIG, **model_config}, "model_state_dict": state}, path)
    return path


def test_widths_are_read_off_the_tensors(small_state, tmp_path):
    file = read_official(written(tmp_path / "small.pth", small_state))
    assert file.config == GeoLinkConfig.official(**SMALL)
    load_official(file)


def test_the_published_names_give_published_widths():
    with torch.device("meta"):
        model = GeoLinkPretraining(GeoLinkConfig.official())
    keys = {name for ours in model.state_dict() for name in official_names(ours)}
    assert len(keys) + len(UNUSED) + 2 == 434  # 2: the patch embedding is in the file twice
    assert sum(p.numel() for p in model.encoder.image.parameters()) == 303_301_632 - 197 * 1024


BAD = {
    "missing": (lambda s: s.pop("img_fusion_mlp.bias"), "lacks img_fusion_mlp.bias"),
    "unknown": (lambda s: s.update({"head.weight": torch.zeros(1)}), "unknown keys head.weight"),
    "shape": (lambda s: s.update({"img_norm.bias": torch.zeros(5)}), r"img_norm.bias has shape \(5,\)"),
    "unshared": (
        lambda s: s.update({"osm_encoder.convs.0.convs.<line___to___line>.lin_dst.weight": torch.zeros(16, 24)}),
        "must repeat",
    ),
    "not a tensor": (lambda s: s.update({"img_norm.bias": 3}), "not tensors: img_norm.bias"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_a_wrong_file_is_named(small_state, tmp_path, change, message):
    state = dict(small_state)
    change(state)
    with pytest.raises(OfficialCheckpointError, match=message) as error:
        read_official(written(tmp_path / "bad.pth", state))
    assert str(tmp_path / "bad.pth") in str(error.value)


def test_a_config_that_contradicts_its_tensors_is_named(small_state, tmp_path):
    for contradiction, message in (
        ({"embed_dim": 48}, "says embed_dim 48, its tensors say 32"),
        ({"num_heads": 5}, "no multiple of its 5 heads"),
        ({"output_layers": [0, 1, 7]}, "must rise within"),
    ):
        with pytest.raises(OfficialCheckpointError, match=message):
            read_official(written(tmp_path / "bad.pth", small_state, **contradiction))


@pytest.mark.parametrize("architecture", ["vit_large_patch16_224", "no_such_net", "resnet18"])
def test_architecture_must_be_that_of_the_tensors(small_state, tmp_path, architecture):
    path = tmp_path / "bad.pth"
    torch.save({"model_config": {"architecture": architecture}, "model_state_dict": small_state}, path)
    with pytest.raises(OfficialCheckpointError, match=architecture):
        read_official(path)


class Evil:
    def __reduce__(self):
        return (print, ("code ran",))


def test_broken_files_are_named_and_run_no_code(small_state, tmp_path, capsys):
    whole = written(tmp_path / "whole.pth", small_state).read_bytes()
    files = {
        "half.pth": whole[: len(whole) // 2],
        "empty.pth": b"",
        "text.pth": b"hello",
        "code.pth": pickle.dumps({"model_config": {}, "model_state_dict": Evil()}),
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(OfficialCheckpointError, match=name):
            read_official(tmp_path / name)
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    with pytest.raises(OfficialCheckpointError, match="holds model_config"):
        read_official(tmp_path / "other.pth")
    with pytest.raises(OfficialCheckpointError, match="no such file"):
        read_official(tmp_path / "none.pth")
    assert "code ran" not in capsys.readouterr().out


def test_broken_cases_are_named(small_state, tmp_path, capsys):
    checkpoint = str(written(tmp_path / "small.pth", small_state))
    (tmp_path / "text.npz").write_bytes(b"hello")
    np.savez(tmp_path / "other.npz", a=np.zeros(1))
    np.savez(tmp_path / "shape.npz", image_uint8=np.zeros((64, 64), np.uint8), feature_0=np.zeros(1))
    image = np.zeros((64, 64, 3), np.uint8)
    np.savez(tmp_path / "width.npz", image_uint8=image, x_point=np.zeros((1, 9)), feature_0=np.zeros(1))
    np.savez(tmp_path / "tile.npz", tokens=np.zeros((1, 17, 32)), tiles=np.array(["nowhere"]))
    for name in ("text", "other", "shape", "width", "tile", "absent"):
        assert main(["--checkpoint", checkpoint, str(tmp_path / f"{name}.npz")]) == 2
        out, err = capsys.readouterr()
        assert json.loads(out.splitlines()[-1])["ok"] is False
        assert str(tmp_path) in err
        assert len(err.splitlines()) == 1
    with pytest.raises(CaseError):
        read_case(tmp_path / "text.npz")
