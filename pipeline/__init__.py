"""One city from sources to product, then analysis and release over many cities."""
