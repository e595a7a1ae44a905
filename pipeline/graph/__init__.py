"""Map features to city graphs, and city graphs to tile graphs."""
