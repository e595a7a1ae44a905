"""From scores to urban-village polygons, exact across seams."""
