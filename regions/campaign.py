"""Campaigns: named, versioned configurations of a run, read from YAML (`docs/campaign.md`)."""

from importlib.resources import files
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from regions.errors import RegionsError
from regions.registry import City, find_city, national_set
from regions.settings import (
    ClusterConfig,
    GridConfig,
    PolygonConfig,
    RefinementConfig,
    Settings,
    TextConfig,
)
from regions.sources import CitySourcesOverride, Sources


class CampaignError(RegionsError):
    """A campaign file is missing or does not fit the schema."""


class Campaign(Settings):
    """One campaign.

    Attributes:
        name: Short name, such as "china".
        version: Version of the configuration; part of every product's lineage.
        cities: "national" for the 342, or a list of adcodes.
        data_root: Folder with one folder per adcode.
        out_root: Folder that receives one product folder per adcode.
        previous_root: The last release's out_root: its villages keep their ids; null for a first release.
        checkpoint: Folder of the trained model.
        demo_side_m: Where set, missing data of cities are generated with this side, at their centroids: for trials.
        grid: Grid and tiling.
        polygons: Vectorising.
        refinement: Outlines drawn anew from the imagery.
        text: Text model of the map's tags.
        adapt: Adapt models that can to the looks of each city's imagery, without labels.
        batch_size: Tiles per batch of the model; null for what the device holds (8 on a CPU).
        compiled: Compile the model: minutes at the start of a city, for a GPU and large cities.
        readers: Threads that read imagery and build graphs ahead of the model.
        max_parallel_cities: Cities in hand at the same time; null for as many as keep all slots busy.
        failure_tolerance: Share of cities that may fail before the whole run counts as failed.
        sources: Where data come from, for `uvmap fetch`; null where they are laid out under data_root by hand.
        overrides: Sources of single cities, by adcode, in place of the campaign's.
        cluster: Where work over many cities is spread by Dask: this machine, a scheduler, SLURM, Kubernetes.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    description: str = ""
    cities: Literal["national"] | list[str]
    data_root: Path
    out_root: Path
    previous_root: Path | None = None
    checkpoint: Path
    demo_side_m: int | None = Field(default=None, ge=1000, le=50_000)
    grid: GridConfig = GridConfig()
    polygons: PolygonConfig = PolygonConfig()
    refinement: RefinementConfig = RefinementConfig()
    text: TextConfig = TextConfig()
    adapt: bool = True
    batch_size: int | None = Field(default=None, gt=0)
    compiled: bool = False
    readers: int = Field(default=2, ge=1, le=64)
    max_parallel_cities: int | None = Field(default=None, gt=0)
    failure_tolerance: float = Field(default=0.0, ge=0, le=1)
    sources: Sources | None = None
    overrides: dict[str, CitySourcesOverride] = Field(default_factory=dict)
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def _previous_elsewhere(self) -> "Campaign":
        if self.previous_root is not None and self.previous_root == self.out_root:
            raise ValueError(
                f"previous_root and out_root are both {self.out_root}: write a release to a folder of its own"
            )
        return self

    @model_validator(mode="after")
    def _overrides_of_something(self) -> "Campaign":
        if self.overrides and self.sources is None:
            raise ValueError("overrides without sources: there is nothing that they stand in place of")
        for adcode, override in self.overrides.items():
            find_city(adcode)
            if self.sources is not None:
                override.applied(self.sources)
        return self

    @field_validator("cities")
    @classmethod
    def _codes(cls, value: str | list[str]) -> str | list[str]:
        if isinstance(value, list) and not value:
            raise ValueError("no cities: give adcodes, or 'national'")
        return value

    def selected(self) -> list[City]:
        """The cities of the campaign, in order of adcode.

        Raises:
            UnknownCityError: an adcode is not in the registry.
        """
        if self.cities == "national":
            return list(national_set())
        return sorted((find_city(code) for code in self.cities), key=lambda c: c.adcode)

    def sources_of(self, adcode: str) -> Sources | None:
        """Sources of a city; None where its data are laid out by hand."""
        if self.sources is None or adcode not in self.overrides:
            return self.sources
        return self.overrides[adcode].applied(self.sources)

    def data_folder(self, adcode: str) -> Path:
        """Where a city's sources lie."""
        return self.data_root / adcode

    def product_folder(self, adcode: str) -> Path:
        """Where a city's product goes."""
        return self.out_root / adcode


class _TextDates(yaml.SafeLoader):
    """YAML whose dates stay text, with or without quotes: fields say themselves what a date is."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the base class has it
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def load_campaign(name_or_path: str | Path) -> Campaign:
    """Read a campaign by name (`china`, `demo`) or from a YAML file; relative paths count from the working folder.

    Raises:
        CampaignError: no such campaign, not YAML, or a field that does not fit (all are listed).
    """
    text, origin = _read(name_or_path)
    try:
        data = yaml.load(text, Loader=_TextDates)  # noqa: S506 - a safe loader
        return Campaign.model_validate(data)
    except yaml.YAMLError as error:
        raise CampaignError(f"{origin}: not valid YAML: {str(error).splitlines()[0]}") from error
    except ValidationError as error:
        faults = "; ".join(
            f"{(field := '.'.join(map(str, e['loc']))) or 'file'}{_line(text, e['loc'])}: {e['msg']}, got"
            f" {_shown(e['input'])}{_moved(field)}"
            for e in error.errors()
        )
        raise CampaignError(f"{origin}: {faults}") from error


def _line(text: str, place: tuple[str | int, ...]) -> str:
    """Where in the file a field stands, as far as it is there: " (line 12)". Names of kinds in the place are passed."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line = None
    for step in place:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == str(step)), None)
            if pair is None:  # the name of a kind, or a field that is missing
                continue
            line, node = pair[0].start_mark.line + 1, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
    return "" if line is None else f" (line {line})"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


_SHOWN = 120
_MOVED = {
    "polygons.refine": "refinement: {refiner: ...}",
    "polygons.sam_weights": "refinement: {sam_weights: ...}",
    "polygons.split_by_roads": "polygons: {barriers: null} for false, nothing for true",
    "polygons.exclude_land_use": "polygons: {exclusions: {}} for true, nothing for false",
}
"""Fields of earlier campaign files, and what stands in their place."""


def _moved(field: str) -> str:
    return f" (write {_MOVED[field]})" if field in _MOVED else ""


def _read(name_or_path: str | Path) -> tuple[str, str]:
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"}:
        if not path.exists():
            raise CampaignError(f"campaign file {path} does not exist; write one or name a campaign: {_names()}")
        return path.read_text(encoding="utf-8"), str(path)
    resource = files("regions").joinpath(f"campaigns/{name_or_path}.yaml")
    if not resource.is_file():
        raise CampaignError(f"no campaign '{name_or_path}'; known: {_names()}, or give the path of a .yaml file")
    return resource.read_text(encoding="utf-8"), f"campaign {name_or_path}"


def _names() -> str:
    folder = files("regions").joinpath("campaigns")
    return ", ".join(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))
