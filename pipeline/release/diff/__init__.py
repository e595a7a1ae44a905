"""Two releases, or a release and somebody else's map: what became of every village, by city and province."""
