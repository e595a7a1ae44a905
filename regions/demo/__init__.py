"""The demo city: a deterministic synthetic city with imagery, OpenStreetMap data and known truth."""

from regions.demo.city import (
    DEMO_ADCODE,
    DEMO_SEED,
    DEMO_SIDE_M,
    DemoCity,
    demo_features,
    generate_demo_city,
)
from regions.demo.layout import Cover, DemoError, District, VillagePlan
from regions.demo.nation import TruthAndMap, demo_truth_and_map, generate_demo_nation

__all__ = [
    "DEMO_ADCODE",
    "DEMO_SEED",
    "DEMO_SIDE_M",
    "Cover",
    "DemoCity",
    "DemoError",
    "District",
    "TruthAndMap",
    "VillagePlan",
    "demo_features",
    "demo_truth_and_map",
    "generate_demo_city",
    "generate_demo_nation",
]
