"""Vector sources (OSM, Overture, GeoPackage, GeoJSON, Shapefile, GeoParquet) to one feature table."""

from pipeline.vectors.errors import VectorError
from pipeline.vectors.features import Features, content_digest, read_features

__all__ = ["Features", "VectorError", "content_digest", "read_features"]
