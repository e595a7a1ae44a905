"""A page to look at a release with: one static folder, no network, no base map of anybody."""
