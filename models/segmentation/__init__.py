"""Segmentation of urban villages on top of the GeoLink encoder."""
