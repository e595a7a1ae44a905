"""Publishing a release on Zenodo, or on a server with the same interface."""
