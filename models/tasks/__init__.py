"""Tasks on top of the GeoLink encoder: dense encodings, scene classes, urban function zones, change."""
