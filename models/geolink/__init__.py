"""GeoLink: a foundation model that fuses an image with the graph of the map features on its ground."""
