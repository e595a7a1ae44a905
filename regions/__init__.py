"""Which places: the registry of cities, regions, campaigns, boundaries, CRS and the demo city."""
