"""A `tiny` model with random weights, for trials of the wiring: it maps nothing, at the cost of one that does."""

from pathlib import Path

from flows.process import run_isolated


def save_random_model(folder: Path) -> None:
    """Write it, in a process of its own: torch stays out of this one."""
    run_isolated({"kind": "random-model", "folder": str(folder)}, what="random model", log=lambda _: None)


def write_random_model(folder: Path, *, seed: int = 0) -> None:
    """Write it here."""
    import torch

    from models.checkpoints import CheckpointConfig, ModelCard, save_checkpoint
    from models.segmentation.config import SegmentationConfig
    from models.segmentation.model import GeoLinkSegmenter

    torch.manual_seed(seed)
    config = SegmentationConfig.of_size("tiny")
    save_checkpoint(
        folder,
        weights=GeoLinkSegmenter(config).state_dict(),
        config=CheckpointConfig(kind="segmentation", model=config.model_dump(mode="json"), resolution_m=1.0),
        card=ModelCard(title="Random weights for trials of the wiring: it maps nothing"),
    )
