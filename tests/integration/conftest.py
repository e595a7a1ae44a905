"""A small demo city and a checkpoint of random weights, for tests that need the whole chain but no skill."""

import pytest
import torch

from models.checkpoints import CheckpointConfig, ModelCard, TagEncoderId, save_checkpoint
from models.geolink.text import HashedTagEncoder
from models.segmentation.config import SegmentationConfig
from models.segmentation.model import GeoLinkSegmenter
from pipeline.city.ground import CityGround
from pipeline.city.job import CityJob
from pipeline.city.sources import find_sources
from regions.demo import generate_demo_city


@pytest.fixture(scope="session")
def job(tmp_path_factory):
    root = tmp_path_factory.mktemp("encode")
    city = generate_demo_city(root / "990001", seed=3, side_m=1000, adcode="990001")
    torch.manual_seed(0)
    config = SegmentationConfig.of_size("tiny")
    text = HashedTagEncoder(width=config.encoder.semantic_width)
    save_checkpoint(
        root / "checkpoint",
        weights=GeoLinkSegmenter(config).state_dict(),
        config=CheckpointConfig(
            kind="segmentation", model=config.model_dump(mode="json"), tile_px=224, resolution_m=1.0,
            classes=("other", "urban_village"),
            tag_encoder=TagEncoderId(name=text.name, digest=text.digest, width=text.width),
        ),
        card=ModelCard(title="random weights", data=(), licence="none", figures={}),
    )  # fmt: skip
    ground = CityGround(sources=find_sources(root / "990001", "990001"), crs=city.crs, work=root / "w")
    return CityJob(ground=ground, checkpoint=root / "checkpoint", out=root / "o")
