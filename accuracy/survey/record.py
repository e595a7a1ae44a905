"""The record of a draw: what a reader must know of it and a table of points cannot say.

Which cities of which frame, the seed, how a product is cut into strata, and the checksums of the files that were
drawn from: the map is frozen by them before anybody labels a point.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from accuracy.errors import SampleTableError

SCHEMA_VERSION = "1.0.0"
FILE_NAME = "survey.json"


@dataclass(frozen=True, kw_only=True)
class CityRecord:
    """One drawn city.

    Attributes:
        city: Its key.
        name: What people call it; empty where it is not known.
        region: Its region.
        map_date: ISO date or period of the map's imagery; empty where it is not known.
        release: Version of the product; empty where it is not known.
        pi_city: Probability with which it was drawn.
        pixel_m2: Area of a pixel on the ground.
        stratum_px: Pixels of each stratum.
        points: Points drawn in each stratum.
        not_predicted_px: Pixels without a prediction, of which the sample says nothing.
        files: File names of the product to the SHA-256 of their bytes.
    """

    city: str
    name: str
    region: str
    map_date: str
    release: str
    pi_city: float
    pixel_m2: float
    stratum_px: Mapping[str, int]
    points: Mapping[str, int]
    not_predicted_px: int
    files: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class SurveyRecord:
    """A draw of points.

    Attributes:
        seed: Seed of the draw.
        frame: Which cities the sample stands for.
        candidate_threshold: Probability from which a pixel that is not mapped is a candidate.
        buffer_m: Distance to the map within which pixels are candidates.
        software: Version of uvmap.
        cities: The drawn cities.
    """

    seed: int
    frame: str
    candidate_threshold: float
    buffer_m: float
    software: str
    cities: tuple[CityRecord, ...]

    @property
    def map_sha256(self) -> str:
        """One checksum of the frozen map: of the lines ``city file checksum`` of all cities, sorted."""
        lines = sorted(f"{c.city} {name} {digest}" for c in self.cities for name, digest in c.files.items())
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def names(self) -> dict[str, str]:
        """Names of cities by key, where they are known."""
        return {c.city: c.name for c in self.cities if c.name}

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"schema_version": SCHEMA_VERSION, "kind": "survey", "map_sha256": self.map_sha256, **asdict(self)}

    def write(self, folder: Path) -> Path:
        """Write `survey.json`."""
        path = folder / FILE_NAME
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.as_dict(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        return path


def read_survey(path: Path) -> SurveyRecord:
    """The record of a draw.

    Raises:
        SampleTableError: The file is no such record, or its checksums were changed by hand.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        record = SurveyRecord(
            cities=tuple(CityRecord(**c) for c in data["cities"]),
            **{k: data[k] for k in ("seed", "frame", "candidate_threshold", "buffer_m", "software")},
        )
    except FileNotFoundError as error:
        raise SampleTableError(f"{path} does not exist: check the path") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SampleTableError(
            f"{path} is no record of a draw ({error}): give survey.json of `uvmap sample points`"
        ) from error
    if data.get("map_sha256") != record.map_sha256:
        raise SampleTableError(
            f"{path}: the checksums of its files do not give its map_sha256 {data.get('map_sha256')}: the record was"
            " changed; take the one that the draw wrote"
        )
    return record
