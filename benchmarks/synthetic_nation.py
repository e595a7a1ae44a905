"""A synthetic nation of OpenStreetMap data around the seats of the national set: for benchmarks of the cut.

Ways come in changesets of one place each, and the changesets in random order over the nation, as in the world's own
file: neighbours on the ground are far apart in the file. The same arguments give the same objects.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import osmium
from numpy.typing import NDArray
from osmium.osm import mutable

from regions.registry import national_set

WAYS_PER_CHANGESET = 100
SHARE_OF_ROADS = 0.2
_HOUSE = {"building": "yes"}
_ROAD = {"highway": "residential"}
_SHOP = {"shop": "convenience", "name": "便利店"}
_CAMPUS = {"type": "multipolygon", "landuse": "education"}
_BUS = {"type": "route", "route": "bus"}


def boxes(seed: int = 5) -> dict[str, tuple[float, float, float, float]]:
    """West, south, east, north by adcode: around each seat, 0.2 to 0.7 degrees wide; neighbours may overlap."""
    random = np.random.default_rng(seed)
    found = {}
    for city in national_set():
        half = random.uniform(0.1, 0.35, 2)
        lon, lat = city.seat_lon, city.seat_lat
        box = (lon - half[0], lat - half[1], lon + half[0], lat + half[1])
        found[city.adcode] = tuple(round(v, 7) for v in box)
    return found


def write_nation(path: Path, *, nodes: int, seed: int = 5, id_step: int = 1) -> dict[str, int]:
    """Write a nation of about ``nodes`` nodes; how many objects of each kind it has.

    Args:
        path: The file.
        nodes: How many nodes to reach.
        seed: Of all that is random.
        id_step: Node ids rise by this on average: 600 spreads them as the world's are.
    """
    random = np.random.default_rng(seed)
    all_boxes = np.array(list(boxes(seed).values()))
    node, kinds = 0, {"nodes": 0, "ways": 0, "relations": 0}
    refs: list[NDArray[np.int64]] = []
    is_road: list[bool] = []
    with osmium.SimpleWriter(str(path), overwrite=True) as writer:
        while kinds["nodes"] < nodes:
            west, south, east, north = all_boxes[random.integers(len(all_boxes))]
            # a changeset's middle lies in the box or a little outside of it
            at = random.uniform((west - 0.05, south - 0.05), (east + 0.05, north + 0.05))
            place = at + random.normal(0, 0.004, (WAYS_PER_CHANGESET, 2))
            roads = random.random(WAYS_PER_CHANGESET) < SHARE_OF_ROADS
            for middle, road in zip(place, roads, strict=True):
                if road:
                    steps = random.normal(0, 0.0006, (int(random.integers(4, 30)), 2))
                    xy = middle + np.cumsum(steps, axis=0)
                else:
                    w, h = random.uniform(5e-5, 3e-4, 2)
                    xy = middle + np.array([(0, 0), (w, 0), (w, h), (w / 2, h), (w / 2, h * 1.4), (0, h * 1.4)])
                first = node
                for x, y in xy.tolist():
                    node += id_step
                    writer.add_node(mutable.Node(id=node, location=(x, y)))
                ids = np.arange(first + id_step, node + id_step, id_step)
                refs.append(ids if road else np.append(ids, ids[0]))
                is_road.append(bool(road))
                kinds["nodes"] += len(xy)
                if random.random() < 0.05:
                    node += id_step
                    writer.add_node(mutable.Node(id=node, location=tuple(middle.tolist()), tags=_SHOP))
                    kinds["nodes"] += 1
        for k, (nodes_of_way, road) in enumerate(zip(refs, is_road, strict=True)):
            tags = _ROAD if road else _HOUSE if k % 50 else {}
            writer.add_way(mutable.Way(id=k + 1, nodes=nodes_of_way.tolist(), tags=tags))
        kinds["ways"] = len(refs)
        untagged = [k for k in range(0, len(refs), 50) if not is_road[k]]
        for n, k in enumerate(untagged):
            inner = [("w", k + 2, "inner")] if k + 1 < len(refs) and not is_road[k + 1] else []
            writer.add_relation(mutable.Relation(id=2 * n + 1, members=[("w", k + 1, "outer"), *inner], tags=_CAMPUS))
            if n % 20 == 0:
                stops = [("w", int(w) + 1, "") for w in random.integers(0, len(refs), 3)]
                writer.add_relation(mutable.Relation(id=2 * n + 2, members=stops, tags=_BUS))
                kinds["relations"] += 1
        kinds["relations"] += len(untagged)
    return kinds


def write_config(path: Path, *, seed: int = 5) -> None:
    """The boxes as a configuration of `osmium extract --config`."""
    extracts = [{"output": f"{code}.osm.pbf", "bbox": list(box)} for code, box in boxes(seed).items()]
    path.write_text(json.dumps({"extracts": extracts}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nodes", type=int, default=20_000_000)
    parser.add_argument("--id-step", type=int, default=1)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    write_config(given.folder / "boxes.json")
    print(json.dumps(write_nation(given.folder / "nation.osm.pbf", nodes=given.nodes, id_step=given.id_step)))
