"""Pretraining of GeoLink on pairs of image and map: data, augmentation, trainer."""
