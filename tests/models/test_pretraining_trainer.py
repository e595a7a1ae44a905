import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch

from models.checkpoints import CheckpointError, load_checkpoint
from models.geolink.config import GeoLinkConfig
from models.geolink.encoder import GeoLinkEncoder
from models.geolink.official import load_official_encoder
from models.geolink.pretraining import GeoLinkPretraining
from models.geolink.synthetic import random_tile_graphs
from models.pretraining.official_start import import_official
from models.pretraining.pairs import PairSet, PairWriter
from models.pretraining.trainer import pretrain
from models.segmentation.config import SegmentationConfig
from models.segmentation.encoder_start import encoder_config_of, load_encoder
from models.segmentation.model import GeoLinkSegmenter
from models.training import RESUME_NAME, TrainingConfig

ENCODER = GeoLinkConfig.tiny(
    image_px=32,
    patch_px=8,
    width=32,
    depth=2,
    heads=2,
    output_layers=(0, 1),
    stem_widths=(8, 16),
    osm_width=16,
    fusion_width=16,
    semantic_width=16,
    decoder_width=32,
    contrastive_width=16,
)
TRAINING = TrainingConfig(batch_size=8, epochs=3, learning_rate=4e-3, accelerator="cpu", warmup=0.1)
TAGS = [{"building": "yes"}, {"highway": "path"}, {"natural": "water"}]


def write_pairs(folder: Path, n: int = 32) -> Path:
    """Stripes whose direction goes with what the map says; every fourth tile is not mapped."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:40, 0:40]
    with PairWriter(folder, shard_tiles=10, source="stripes") as writer:
        for k in range(n):
            kind = k % 3
            phase = (x, y, x + y)[kind] + rng.integers(0, 8)
            image = np.where(phase % 8 < 4, 60, 180)[None] + rng.integers(0, 20, (3, 40, 40))
            counts = (0, 0, 0) if k % 4 == 3 else (1, 1, 2)
            graphs = random_tile_graphs([counts], n_tag_sets=1, seed=k)
            writer.add(image.astype(np.uint8)[None], graphs, [TAGS[kind]])
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("pairs"))


def test_the_losses_fall_and_the_encoder_loads(tmp_path, pairs):
    result = pretrain(pairs, ENCODER, out=tmp_path, training=TRAINING.model_copy(update={"epochs": 40}), progress=False)
    assert result.after["loss"] < 0.9 * result.before["loss"]
    for name in ("reconstruction", "contrastive", "consistency"):
        assert result.after[name] < result.before[name], name
    assert result.steps == 160
    read = load_checkpoint(result.checkpoint, kind="pretraining")
    whole = GeoLinkPretraining(ENCODER)
    read.load_into(whole)
    # pretraining-only fields may differ for fine-tuning
    config = SegmentationConfig.of_size("tiny", encoder=ENCODER.with_(decoder_width=64))
    model = GeoLinkSegmenter(config)
    assert load_encoder(model.encoder, result.checkpoint) == result.digest
    assert encoder_config_of(result.checkpoint) == ENCODER
    for name, value in model.encoder.state_dict().items():
        assert torch.equal(value, read.weights[f"encoder.{name}"])
    card = (result.checkpoint / "card.md").read_text()
    assert "stripes" in card and "loss_before" in card and "loss_after" in card


def test_a_killed_pretraining_goes_on_to_the_same_weights(tmp_path, pairs, monkeypatch):
    whole = pretrain(pairs, ENCODER, out=tmp_path / "a", training=TRAINING, progress=False)
    original = GeoLinkPretraining.forward
    calls = {"n": 0}

    def dying(self, *args, **kwargs):
        calls["n"] += self.training
        if calls["n"] > 6:
            raise RuntimeError("killed")
        return original(self, *args, **kwargs)

    monkeypatch.setattr(GeoLinkPretraining, "forward", dying)
    with pytest.raises(RuntimeError, match="killed"):
        pretrain(pairs, ENCODER, out=tmp_path / "b", training=TRAINING, progress=False)
    monkeypatch.setattr(GeoLinkPretraining, "forward", original)
    assert (tmp_path / "b" / RESUME_NAME).exists()
    resumed = pretrain(pairs, ENCODER, out=tmp_path / "b", training=TRAINING, progress=False)
    assert resumed.digest == whole.digest
    assert resumed.before == whole.before


def test_bf16_and_accumulation(tmp_path, pairs):
    config = TRAINING.model_copy(update={"precision": "bf16-mixed", "accumulate": 2, "batch_size": 4, "epochs": 2})
    result = pretrain(pairs, ENCODER, out=tmp_path, training=config, progress=False)
    assert result.steps == 8
    assert result.after["loss"] < result.before["loss"]
    assert all(t.dtype == torch.float32 for t in load_checkpoint(result.checkpoint).weights.values())


def test_pairs_without_any_map_train_too(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 32, 32), np.uint8)
    with PairWriter(tmp_path / "p") as writer:
        writer.add(images, random_tile_graphs([(0, 0, 0)] * 8, n_tag_sets=1, seed=0), [])
    result = pretrain(tmp_path / "p", ENCODER, out=tmp_path / "o", training=TRAINING, progress=False)
    assert result.after["contrastive"] == result.after["consistency"] == 0
    assert result.after["loss"] < result.before["loss"]


@pytest.mark.shared
def test_an_official_file_becomes_a_checkpoint_to_start_from(tmp_path, shared):
    file = shared / "reference" / "geolink" / "checkpoint_pyg24.pth"
    digests = {import_official(file, tmp_path / name) for name in "ab"}
    assert len(digests) == 1
    config = encoder_config_of(tmp_path / "a")
    ours = GeoLinkEncoder(config)
    load_encoder(ours, tmp_path / "a")
    for name, value in load_official_encoder(file).state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
    with pytest.raises(CheckpointError, match="needs"):
        load_encoder(GeoLinkEncoder(ENCODER), tmp_path / "a")


@pytest.mark.slow
def test_two_processes_train_one_model(tmp_path, pairs):
    """Data-parallel on the CPU: negatives are gathered over both, and one process writes the result."""
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent(f"""
        import torch
        from pathlib import Path
        from models.geolink.config import GeoLinkConfig
        from models.pretraining.trainer import pretrain
        from models.training import TrainingConfig

        torch.set_num_threads(1)
        result = pretrain(
            Path({str(pairs)!r}),
            GeoLinkConfig.model_validate_json({ENCODER.model_dump_json()!r}),
            out=Path({str(tmp_path / "out")!r}),
            training=TrainingConfig(batch_size=4, epochs=6, learning_rate=4e-3, accelerator="cpu", devices=2),
            progress=False,
        )
        print("done", result.steps, result.after["loss"] < result.before["loss"])
        """)
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip().splitlines() == ["done 24 True"]
    assert len(PairSet(pairs)) == 32
    load_checkpoint(tmp_path / "out" / "checkpoint", kind="pretraining")
