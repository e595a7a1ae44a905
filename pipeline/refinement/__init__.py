"""Sharper boundaries: SAM where weights are at hand, a built-in refiner where not."""
