"""A release: the products of many cities as one dataset."""
