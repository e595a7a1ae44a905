"""Tiles that models learn from: samples, shards, graphs of single tiles, batches, augmentation, meanings of tags."""
