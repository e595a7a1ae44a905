"""The products of a campaign: which cities are there and whole, and what is the matter with the others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError
from pipeline.files import sha256_of

ADCODE = re.compile(r"\d{6}")
_UNFINISHED = re.compile(r"\.(\d{6})\..*\.(?:tmp|old)")
"""What a run that was killed while it wrote a product leaves beside it."""
REQUIRED = ("{adcode}_uv.parquet", "{adcode}_uv.gpkg", "{adcode}_uv_mask.tif", "{adcode}_scores.tif")
NAMED = 5
"""Problems that an error names one by one."""


class NationalProductsError(PipelineError):
    """Products of a campaign are missing, unfinished or damaged."""


@dataclass(frozen=True)
class CityProduct:
    """The product of one city.

    Attributes:
        adcode: The city.
        folder: Its folder.
        manifest: `manifest.json` as it stands there (`docs/product.md`).
    """

    adcode: str
    folder: Path
    manifest: Mapping[str, Any]

    @property
    def polygons(self) -> Path:
        """GeoParquet of the villages, the master file."""
        return self.folder / f"{self.adcode}_uv.parquet"

    @property
    def package(self) -> Path:
        """GeoPackage of the villages."""
        return self.folder / f"{self.adcode}_uv.gpkg"

    @property
    def mask(self) -> Path:
        """COG of the map: 1 village, 0 not, 255 not predicted."""
        return self.folder / f"{self.adcode}_uv_mask.tif"

    @property
    def scores(self) -> Path:
        """COG of the scores."""
        return self.folder / f"{self.adcode}_scores.tif"

    @property
    def density(self) -> Path:
        """GeoParquet of the cells of the national 100 m grid that hold village."""
        return self.folder / f"{self.adcode}_density_100m.parquet"

    @property
    def villages(self) -> int:
        """Number of villages."""
        return int(self.manifest["figures"]["villages"])

    @property
    def uv_area_m2(self) -> float:
        """Area of the villages, m2 in the national equal-area CRS."""
        return float(self.manifest["figures"]["uv_area_m2"])

    @property
    def predicted_px(self) -> int:
        """Pixels of the area asked for that have a prediction."""
        return int(self.manifest["counts"]["scores"]["predicted_px"])

    @property
    def not_predicted_px(self) -> int:
        """Pixels of the area asked for that have none."""
        return int(self.manifest["counts"]["scores"]["not_predicted_px"])

    @property
    def pixel_m2(self) -> float:
        """Nominal area of a pixel, m2."""
        return float(self.manifest["parameters"]["grid"]["resolution_m"]) ** 2

    @property
    def crs(self) -> str:
        """CRS of the city's grid."""
        return str(self.manifest["parameters"]["crs"])

    @property
    def release(self) -> str:
        """Version that the product carries."""
        return str(self.lineage["release"])

    @property
    def model_version(self) -> str:
        """Version or digest of the model's weights."""
        return str(self.lineage["model_version"])

    @property
    def lineage(self) -> Mapping[str, Any]:
        """Versions, dates and names of sources."""
        lineage: Mapping[str, Any] = self.manifest["inputs"]["lineage"]
        return lineage

    @property
    def files(self) -> Mapping[str, Mapping[str, Any]]:
        """File names to ``sha256`` and ``bytes``, as the manifest has them."""
        files: Mapping[str, Mapping[str, Any]] = self.manifest["files"]
        return files

    @property
    def bytes(self) -> int:
        """Size of all files that the manifest names."""
        return sum(int(f["bytes"]) for f in self.files.values())


@dataclass(frozen=True)
class ProductSurvey:
    """What lies in a campaign's folder.

    Attributes:
        root: The folder.
        products: Whole products, in order of adcode.
        problems: adcode to what is the matter, for every city that has something there but no whole product.
    """

    root: Path
    products: tuple[CityProduct, ...]
    problems: Mapping[str, str]

    def missing(self, wanted: set[str] | frozenset[str]) -> tuple[str, ...]:
        """Cities that were asked for and have nothing there at all, sorted."""
        return tuple(sorted(wanted - {p.adcode for p in self.products} - set(self.problems)))


def survey_products(root: Path, *, verify: bool = False) -> ProductSurvey:
    """Look at every city's folder under ``root``; nothing is left out without being named.

    Args:
        root: The campaign's ``out_root``: one folder per adcode. Other folders and files are not looked at.
        verify: Compare the SHA-256 of every file too, not its size alone: reads everything.

    Raises:
        NationalProductsError: There is no such folder.
    """
    if not root.is_dir():
        raise NationalProductsError(f"{root}: no such folder; give the campaign's out_root, where `uvmap map` writes")
    products, problems = [], {}
    names = sorted(p.name for p in root.iterdir() if p.is_dir())
    for name in names:
        if ADCODE.fullmatch(name):
            found = read_product(root / name, verify=verify)
            if isinstance(found, CityProduct):
                products.append(found)
            else:
                problems[name] = found
    for name in names:
        if (match := _UNFINISHED.fullmatch(name)) and match[1] not in names:
            problems[match[1]] = f"unfinished: {name} was left by a run that was killed; map the city again"
    return ProductSurvey(root, tuple(products), dict(sorted(problems.items())))


def find_products(root: Path, *, verify: bool = False) -> tuple[CityProduct, ...]:
    """All products under a campaign's ``out_root``, in order of adcode.

    Raises:
        NationalProductsError: There is no such folder, no product, or one that is not whole: all are named. To work
            with the whole ones all the same, use `survey_products` and say what was left out.
    """
    survey = survey_products(root, verify=verify)
    if survey.problems:
        shown = [f"{adcode}: {what}" for adcode, what in survey.problems.items()]
        more = f"; and {len(shown) - NAMED} more" if len(shown) > NAMED else ""
        raise NationalProductsError(f"{root}: {len(shown)} products are not whole: {'; '.join(shown[:NAMED])}{more}")
    if not survey.products:
        raise NationalProductsError(f"{root}: no product of any city; `uvmap map` writes them, a folder per adcode")
    return survey.products


def read_product(folder: Path, *, verify: bool = False) -> CityProduct | str:
    """The product in a folder named by its adcode, or what is the matter with it."""
    path = folder / "manifest.json"
    if not path.exists():
        return "no manifest.json: unfinished, or no product; map the city again"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        product = CityProduct(folder.name, folder, manifest)
        _ = (product.villages, product.uv_area_m2, product.predicted_px, product.not_predicted_px, product.pixel_m2)
        _ = (product.crs, product.release, product.model_version, product.bytes)
    except (ValueError, KeyError, TypeError) as error:
        return f"manifest.json cannot be used ({type(error).__name__}: {error}); map the city again"
    if manifest.get("adcode") != folder.name:
        return f"its manifest is of {manifest.get('adcode')}: the folder was renamed"
    return next(_faults(product, verify=verify), product)


def _faults(product: CityProduct, *, verify: bool) -> Iterator[str]:
    for name in (n.format(adcode=product.adcode) for n in REQUIRED):
        if name not in product.files:
            yield f"{name} is not in its manifest: written by an older version; map the city again"
    for name, known in product.files.items():
        path = product.folder / name
        if not path.is_file():
            yield f"{name} is missing"
        elif path.stat().st_size != known["bytes"]:
            yield f"{name} has {path.stat().st_size} bytes, the manifest says {known['bytes']}"
        elif verify and sha256_of(path) != known["sha256"]:
            yield f"{name} has other bytes than its manifest's SHA-256 {known['sha256'][:12]}"
