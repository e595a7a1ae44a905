"""Where the cities are: their boundaries, and in them the built-up land that is mapped."""
