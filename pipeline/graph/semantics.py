"""What a city graph takes from tags: the table of distinct tag sets, heights, and which features are buildings."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline.graph.building_tags import height_m, is_building, is_building_part

_SAYS_NOTHING = re.compile(
    r"^((alt|old|official|short|int|loc|reg|nat|sorting)_name|name|wikidata|wikipedia|website|url|image|phone|fax|email"
    r"|mobile|contact|source|source_ref|note|fixme|FIXME|description|comment|created_by|attribution|ref|addr|old_ref"
    r"|height|building:levels|building:height|est_height|start_date|check_date|survey:date|opening_hours|operator|brand"
    r"|network|import_uuid|gml_id|uuid|building_id|gnis|tiger|CLC|osm_id|osm_relation|id|root_id|min_zoom|max_zoom"
    r"|sort_rank|scale_rank|collision_rank|population_rank|kind_tile_rank|label_placement|area|volume|OBJECTID|Shape_.*)(:.*)?$"
)


@dataclass(frozen=True)
class Semantics:
    """Tags of n features as numbers.

    Attributes:
        texts: Distinct canonical tag sets, sorted.
        tag_set: int32 (n,), row in ``texts``.
        height_m: float32 (n,), NaN where neither height nor storeys are tagged.
        building: bool (n,), tagged as a building that stands, or as a part of one.
    """

    texts: tuple[str, ...]
    tag_set: NDArray[np.int32]
    height_m: NDArray[np.float32]
    building: NDArray[np.bool_]


def read_semantics(tags: NDArray[np.object_], *, all_keys: bool) -> Semantics:
    """Read the tag sets (n,) (JSON objects); each distinct one is parsed once.

    Args:
        tags: Canonical tag sets.
        all_keys: Keep every key. Otherwise keys whose values name a thing rather than say what kind it is (names,
            addresses, references, sources, dates) are left out of ``texts``, and so is height, which is a geometry
            column.
    """
    codes, distinct = pd.factorize(tags)
    parsed = [json.loads(t) for t in distinct]
    kept = [
        json.dumps(
            dict(sorted((k, v) for k, v in p.items() if all_keys or not _SAYS_NOTHING.match(k))),
            ensure_ascii=False,
            separators=(",", ":"),
        )
        for p in parsed
    ]
    texts, row = np.unique(np.array(kept, object), return_inverse=True) if kept else (np.zeros(0, object), np.zeros(0))
    height = np.array([height_m(p) for p in parsed], np.float32)
    building = np.array([is_building(p) or is_building_part(p) for p in parsed], bool)
    return Semantics(tuple(texts), row.astype(np.int32)[codes], height[codes], building[codes])


def parse_tag_sets(texts: Sequence[str]) -> list[dict[str, str]]:
    """The tag sets as dictionaries."""
    return [json.loads(t) for t in texts]
