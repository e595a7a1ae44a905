"""City graphs: features as nodes, their spatial relations as edges, and the tile graphs that the model sees."""

from pipeline.graph.city import CityGraph, graph_key
from pipeline.graph.errors import CityGraphError

__all__ = ["CityGraph", "CityGraphError", "graph_key"]
