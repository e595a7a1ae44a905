"""Samples, pairs and encodings cut from cities, and training on them."""
