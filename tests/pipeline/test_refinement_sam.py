"""Plumbing of SAM and SAM 2 with small models of random weights: what goes in, what comes out, batches, errors."""

import json

import geopandas as gpd
import numpy as np
import pytest

from pipeline.polygons import PolygonConfig, find_villages
from pipeline.refinement import AcceptanceRule, RefinementConfig, RefinementError, choose_refiner, refine_villages
from pipeline.refinement.prompts import make_prompt
from regions.raster.grid import Grid

pytestmark = pytest.mark.slow(cpu_s=20)  # importing torch and transformers takes about 20 s
SIDE = 64


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Folders with a small SAM and a small SAM 2, as `transformers` saves them."""
    import torch
    from transformers import Sam2Config, Sam2Model, SamConfig, SamModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    vision = {"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": SIDE, "patch_size": 16, "window_size": 2, "global_attn_indexes": [1], "mlp_dim": 32}
    prompt = {"hidden_size": 16, "image_size": SIDE, "patch_size": 16, "image_embedding_size": SIDE // 16}
    decoder = {"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16}

    def lively(model):
        """Weights large enough that image and prompt show in the answer."""
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
        return model

    sam = SamModel(
        SamConfig(
            vision_config=vision | {"num_pos_feats": 8}, prompt_encoder_config=prompt, mask_decoder_config=decoder
        )
    )
    lively(sam).save_pretrained(folder / "sam")
    backbone = {
        "model_type": "sam2_hiera_det_model", "hidden_size": 16, "num_attention_heads": 1, "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [16, 32, 64, 128],
        "num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [2, 2, 2, 2],
        "global_attention_blocks": [3], "window_positional_embedding_background_size": [4, 4],
    }  # fmt: skip
    vision2 = {
        "backbone_config": backbone, "backbone_channel_list": [128, 64, 32, 16], "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
    }  # fmt: skip
    prompt2 = {"hidden_size": 32, "image_size": SIDE, "patch_size": 16}
    decoder2 = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    sam2 = Sam2Model(Sam2Config(vision_config=vision2, prompt_encoder_config=prompt2, mask_decoder_config=decoder2))
    lively(sam2).save_pretrained(folder / "sam2")
    return folder


def prompts_of(*rectangles):
    made = []
    for top, left, bottom, right in rectangles:
        inside = np.zeros((SIDE, SIDE), dtype=bool)
        inside[top:bottom, left:right] = True
        scores = np.where(inside, 220, 20).astype(np.uint8)
        made.append(make_prompt(inside, scores, np.ones_like(inside), positive_points=3, negative_points=2))
    return made


@pytest.mark.parametrize("kind", ["sam", "sam2"])
def test_masks_and_qualities_do_not_depend_on_the_batch(weights, kind):
    refiner, note = choose_refiner("sam", sam_weights=weights / kind)
    assert refiner.side_px == SIDE and kind in note
    images = np.random.default_rng(0).integers(0, 256, (2, 3, SIDE, SIDE), dtype=np.uint8)
    first, second, third = prompts_of((10, 10, 40, 40), (20, 5, 60, 30), (30, 30, 50, 60))
    answers = refiner.refine(images, [[first, second], [third]])
    assert [len(of_window) for of_window in answers] == [2, 1]
    for answer in (answers[0][0], answers[0][1], answers[1][0]):
        assert answer.inside.shape == (SIDE, SIDE) and answer.inside.dtype == bool
        assert np.isfinite(answer.quality)
    alone = refiner.refine(images[:1], [[second]])[0][0]
    assert np.mean(alone.inside == answers[0][1].inside) > 0.999
    assert alone.quality == pytest.approx(answers[0][1].quality, abs=1e-4)
    other = refiner.refine(images[1:], [[second]])[0][0]
    assert other.quality != alone.quality  # the image matters
    moved = refiner.refine(images[:1], [[third]])[0][0]
    assert moved.quality != alone.quality  # the prompt matters


@pytest.mark.parametrize("kind", ["sam", "sam2"])
def test_one_mask_or_the_best_of_several(weights, kind):
    images = np.random.default_rng(0).integers(0, 256, (1, 3, SIDE, SIDE), dtype=np.uint8)
    prompts = [prompts_of((10, 10, 40, 40), (20, 5, 60, 30))]
    found, all_qualities = {}, {}
    for masks in ("one", "several"):
        refiner, _ = choose_refiner("sam", sam_weights=weights / kind, sam_masks=masks)
        model, seen = refiner._model, []

        def record(seen=seen, model=model, **given):
            output = model(**given)
            seen.append(output.iou_scores[:, 0].numpy())
            return output

        record.get_image_embeddings = model.get_image_embeddings
        refiner._model = record
        found[masks] = refiner.refine(images, prompts)[0]
        (all_qualities[masks],) = seen
    assert all_qualities["one"].shape == (2, 1) and all_qualities["several"].shape == (2, 3)
    for masks, answers in found.items():
        np.testing.assert_allclose([a.quality for a in answers], all_qualities[masks].max(axis=1), rtol=1e-6)


@pytest.mark.parametrize("kind", ["sam", "sam2"])
def test_all_of_it_goes_to_the_device(weights, kind, monkeypatch):
    import torch

    from pipeline.refinement.sam import choose_device

    images = np.zeros((1, 3, SIDE, SIDE), dtype=np.uint8)
    refiner, _ = choose_refiner("sam", sam_weights=weights / kind, device="meta")
    # tensors without data: mixing them with the CPU's raises, so what is left is the copy of the answer
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        refiner.refine(images, [prompts_of((10, 10, 40, 40))])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (choose_device(None), choose_device("cpu")) == ("cuda", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(None) == "cpu"


@pytest.mark.parametrize("kind", ["sam", "sam2"])
def test_a_city_goes_through(weights, kind):
    grid = Grid("EPSG:32650", 1.0, 1_000, -5_000, 200, 240)
    scores = np.full((200, 240), 20, dtype=np.uint8)
    scores[20:60, 30:80] = 220
    scores[80:180, 60:220] = 220  # larger than a window
    config = PolygonConfig(min_area_m2=100, min_hole_m2=50)
    villages = find_villages(scores, grid=grid, config=config).villages

    class Noise:
        def read(self, window):
            rng = np.random.default_rng(abs(window.row_px * 1000 + window.col_px))
            shape = (window.height_px, window.width_px)
            return rng.integers(0, 256, (3, *shape), dtype=np.uint8), np.ones(shape, dtype=bool)

    refiner, _ = choose_refiner("sam", sam_weights=weights / kind)
    lenient = AcceptanceRule(min_agreement=0, min_quality=-10, min_area_ratio=0, max_area_ratio=1e9, max_spill=1)
    for rule in (AcceptanceRule(), lenient):
        table = refine_villages(
            villages, scores=scores, imagery=Noise(), grid=grid, refiner=refiner,
            config=RefinementConfig(margin_px=4, rule=rule), polygons=PolygonConfig(min_area_m2=50, min_hole_m2=10),
        )  # fmt: skip
        assert isinstance(table, gpd.GeoDataFrame) and len(table) == len(villages)
        assert table.geometry.is_valid.all()
        assert set(table["boundary"]) <= {"sam", "model"}
        assert table["boundary_reason"].str.match("accepted|rejected").all()
        assert table["boundary_quality"].notna().all()


def test_other_models_and_missing_folders_are_refused(weights, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(RefinementError, match="type 'bert'"):
        choose_refiner("sam", sam_weights=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RefinementError, match=r"no config\.json"):
        choose_refiner("sam", sam_weights=tmp_path / "empty")
