"""A map against complete reference: pixels, boundaries, objects, blocks, reliability."""
