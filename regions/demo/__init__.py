"""The demo city: a deterministic synthetic city with imagery, OpenStreetMap data and known truth."""
