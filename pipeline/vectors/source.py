"""What a reader gives of a source, and what the user says of sources that do not say it themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from pyproj import CRS

from pipeline.vectors.presence import Bounds, Extent
from pipeline.vectors.raw import RawFeatures
from regions.datum import Datum


@dataclass(frozen=True)
class SourceHints:
    """What the user says of sources that do not say it themselves.

    Attributes:
        crs: CRS of those that declare none or only a local one.
        encoding: Encoding of those whose text is not UTF-8.
        id_column: Column that identifies features, also in several rows, of which those that touch are joined.
        datum: What the coordinates are in truth, whatever CRS is declared.
    """

    crs: str | None = None
    encoding: str | None = None
    id_column: str | None = None
    datum: Datum = "wgs84"


@dataclass(frozen=True)
class Layer:
    """Features of one layer, or of one part of a source.

    Attributes:
        name: Of the layer.
        features: Those whose envelope may meet the area, in ``crs``.
        crs: CRS of the features.
        identified: Whether equal ids mean pieces of one feature.
        read: How many features the layer holds.
    """

    name: str
    features: RawFeatures
    crs: CRS
    identified: bool
    read: int


@dataclass
class Account:
    """What a source went through.

    Attributes:
        counts: By reason.
        warnings: What the user must know, without the name of the file.
        extents: Finds out where the layers lie; called only where nothing is left of a source.
    """

    counts: Counter[str] = field(default_factory=Counter)
    warnings: list[str] = field(default_factory=list)
    extents: Callable[[], list[Extent]] = list


@dataclass(frozen=True)
class Area:
    """What is asked for: a CRS and, in it, left, bottom, right, top; None for all."""

    crs: CRS
    bounds: Bounds | None
