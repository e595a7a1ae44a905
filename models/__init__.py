"""Torch only: the GeoLink model, segmentation, training and checkpoints."""
