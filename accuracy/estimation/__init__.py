"""From a labelled sample to estimates with their uncertainty."""
