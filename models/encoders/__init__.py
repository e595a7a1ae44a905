"""Image encoders from other people's weights, adapted to each scene, behind one contract with GeoLink's own."""
