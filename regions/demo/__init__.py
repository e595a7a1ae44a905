"""The demo city: a deterministic synthetic city with imagery, OpenStreetMap data and known truth."""

from regions.demo.city import (
    DEMO_ADCODE,
    DEMO_SEED,
    DEMO_SIDE_M,
    DemoCity,
    demo_features,
    generate_demo_city,
)
from regions.demo.layout import Cover, DemoError, District

__all__ = [
    "DEMO_ADCODE",
    "DEMO_SEED",
    "DEMO_SIDE_M",
    "Cover",
    "DemoCity",
    "DemoError",
    "District",
    "demo_features",
    "generate_demo_city",
]
