"""From a city's sources to its score raster: the same however the work is cut."""
