"""Bring the sources of a city to where the pipeline reads them: once, resumable, with checksums and lineage."""
