"""The pixels of a place: grid, score encoding, burning, file profiles, equal-area projections."""
