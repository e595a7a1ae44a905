"""Whether what a campaign declares for a city has been brought; light enough for a flow to ask for every city."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.fetch.errors import FetchError
from pipeline.files import digest_of
from regions.campaign import Campaign
from regions.registry import City
from regions.sources import Sources

FETCH_VERSION = 3
RECORD_NAME = "fetch.json"


def declared_sources(campaign: Campaign, city: City) -> Sources:
    """What a campaign declares for a city.

    Raises:
        FetchError: it declares nothing.
    """
    sources = campaign.sources_of(city.adcode)
    if sources is None:
        raise FetchError(
            f"campaign {campaign.name} names no sources: its data are laid out by hand under {campaign.data_root};"
            " write `sources:` into its file (docs/sources.md)"
        )
    return sources


def declared_digest(campaign: Campaign, city: City) -> str:
    """Digest of what a campaign declares for a city."""
    sources = declared_sources(campaign, city)
    return digest_of([FETCH_VERSION, sources.model_dump(mode="json"), city.crs, campaign.grid.resolution_m])


def fetched_record(folder: Path) -> dict[str, Any] | None:
    """What `uvmap fetch` wrote of a city's folder; None where it was laid out by hand or the record is torn."""
    try:
        found = json.loads((folder / RECORD_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def needs_fetch(campaign: Campaign, city: City) -> bool:
    """Whether a campaign declares sources for a city that were not brought, or others than those that were.

    No server is asked: `pipeline.fetch.run.fetch_city` finds out whether something changed there.
    """
    if campaign.sources_of(city.adcode) is None:
        return False
    folder = campaign.data_folder(city.adcode)
    record = fetched_record(folder)
    if record is None:
        return True
    there = all((folder / f["file"]).exists() for f in record.get("files", []))
    return not there or record.get("declared") != declared_digest(campaign, city)
