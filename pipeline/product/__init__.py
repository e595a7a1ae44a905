"""The files of one city at one version."""
