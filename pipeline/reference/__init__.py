"""Areas, masks and reference polygons, read in any format into a city's CRS."""
