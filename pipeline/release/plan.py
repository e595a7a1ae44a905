"""What a release will hold, before anything is written: cities, provinces, files, bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from pipeline.city.sources import is_invented
from pipeline.national.products import CityProduct, NationalProductsError, survey_products
from pipeline.release.errors import ReleaseError, ReleaseTooLargeError
from pipeline.release.layout import (
    ACCURACY_FILES,
    MAX_BYTES,
    MAX_FILES,
    NATIONAL_DATA,
    TEXTS,
    VIEWER_ARCHIVE,
    item_file,
    province_archive,
)
from regions.campaign import Campaign
from regions.registry import City, find_city

NATIONAL_SHARE = 4.0
"""National files (GeoParquet, GeoPackage, tiles, grid) by the size of the cities' GeoParquet, at most; measured."""
ARCHIVE_SHARE = 4.0
"""Tables of the provinces' archives by the size of the cities' GeoParquet, at most."""
FIXED_BYTES = 12 * 10**6
"""What any release takes, however few villages it has: empty tables and packages, texts, the viewer's programs."""
PROVINCE_BYTES = 2 * 10**5
"""The same of a province: an empty GeoPackage, its STAC item."""
PICTURE_BYTES = 3 * 10**6
"""A picture of an invented city in the viewer, which stands in the viewer's archive too."""
ASSESSMENT_SHARE = 3
"""What a release keeps of an assessment (report, figures, sample) by the size of its folders, at most."""


@dataclass(frozen=True)
class Province:
    """A province of the release.

    Attributes:
        code: First two digits of its adcodes.
        name: English name.
        products: Products of its cities, in order of adcode.
    """

    code: str
    name: str
    products: tuple[CityProduct, ...]

    @property
    def archive(self) -> str:
        """Its archive's file name."""
        return province_archive(self.code, self.name)


@dataclass(frozen=True)
class ReleasePlan:
    """What will be built.

    Attributes:
        campaign: The campaign.
        provinces: In order of code.
        missing: Cities of the campaign that will not be in the release: adcode to reason.
        with_scores: Whether the archives hold the score rasters.
        files: Names of the release's files.
        bytes: What they will take at most.
    """

    campaign: Campaign
    provinces: tuple[Province, ...]
    missing: Mapping[str, str]
    with_scores: bool
    files: tuple[str, ...]
    bytes: int

    @property
    def products(self) -> tuple[CityProduct, ...]:
        """All products, in order of adcode."""
        return tuple(sorted((p for v in self.provinces for p in v.products), key=lambda p: p.adcode))


def plan_release(
    campaign: Campaign,
    *,
    with_scores: bool = False,
    with_accuracy: bool = True,
    assessment: Sequence[Path] = (),
) -> ReleasePlan:
    """Look at the products of a campaign and say what their release will hold.

    Args:
        campaign: Its cities and ``out_root``.
        with_scores: Put the score rasters into the archives.
        with_accuracy: Count the files of an assessment.
        assessment: Folders of the assessment and its sample, for their size.

    Raises:
        NationalProductsError: There is no product, or one is not whole.
        ReleaseError: A product is of a city that the campaign does not name, or of another campaign.
        ReleaseTooLargeError: More files or bytes than a record takes.
    """
    survey = survey_products(campaign.out_root)
    wanted = {c.adcode: c for c in campaign.selected()}
    broken = {a: why for a, why in survey.problems.items() if a in wanted}
    if broken:
        shown = "; ".join(f"{adcode}: {why}" for adcode, why in list(broken.items())[:5])
        raise NationalProductsError(f"{campaign.out_root}: {len(broken)} products are not whole: {shown}")
    products = [p for p in survey.products if p.adcode in wanted]
    if not products:
        raise NationalProductsError(
            f"{campaign.out_root}: no product of any of the {len(wanted)} cities of campaign {campaign.name}; "
            "`uvmap map` and the flow uv-map write them"
        )
    for product in products:
        of = product.manifest["parameters"].get("campaign")
        if of is not None and of != campaign.name:
            raise ReleaseError(
                f"{product.folder}: is a product of campaign {of}, not of {campaign.name}; give the campaign whose "
                "out_root this is"
            )
    provinces = _provinces(products, wanted)
    files = (
        *(p.archive for p in provinces),
        *(item_file(p.code) for p in provinces),
        item_file("national"),
        item_file("model"),
        *NATIONAL_DATA,
        *(ACCURACY_FILES if with_accuracy else ()),
        *TEXTS,
        VIEWER_ARCHIVE,
    )
    size = _estimate(products, with_scores=with_scores) + FIXED_BYTES + PROVINCE_BYTES * len(provinces)
    size += PICTURE_BYTES * sum(is_invented(p.adcode, campaign.data_root) for p in products)
    size += ASSESSMENT_SHARE * sum(f.stat().st_size for folder in assessment for f in folder.glob("*") if f.is_file())
    if len(files) > MAX_FILES:
        raise ReleaseTooLargeError(
            f"the release of {len(products)} cities in {len(provinces)} provinces would have {len(files)} files, a "
            f"record takes {MAX_FILES}; release fewer provinces at a time"
        )
    if size > MAX_BYTES:
        raise ReleaseTooLargeError(
            f"the release would have up to {size / 1e9:.1f} GB, a record takes {MAX_BYTES / 1e9:.0f} GB; "
            + ("leave the score rasters out" if with_scores else "release fewer cities at a time")
        )
    gone = dict.fromkeys(survey.missing(set(wanted)), "no product: the city has no data, or was not mapped")
    return ReleasePlan(campaign, provinces, gone, with_scores, tuple(sorted(files)), size)


def work_folder(out: Path) -> Path:
    """Where a build keeps its finished parts until the release is whole; beside it, so that they are only renamed."""
    return out.with_name(f".{out.name}.parts")


def _provinces(products: list[CityProduct], wanted: Mapping[str, City]) -> tuple[Province, ...]:
    found = sorted(products, key=lambda p: p.adcode)
    groups = groupby(found, key=lambda p: p.adcode[:2])
    return tuple(Province(code, (wanted.get(group[0].adcode) or find_city(code)).province, tuple(group))
                 for code, group in ((code, list(part)) for code, part in groups))  # fmt: skip


def _estimate(products: list[CityProduct], *, with_scores: bool) -> int:
    """Bytes at most, from the sizes of the products' files."""
    total = 0.0
    for product in products:
        total += (NATIONAL_SHARE + ARCHIVE_SHARE) * product.files[product.polygons.name]["bytes"]
        total += product.files[product.mask.name]["bytes"]
        total += product.files[product.scores.name]["bytes"] if with_scores else 0
    return round(total)
