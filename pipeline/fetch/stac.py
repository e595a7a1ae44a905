"""STAC items of an area: searched by an API or in a static catalog."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pystac
import shapely
from pystac_client import Client
from pystac_client.exceptions import APIError

from pipeline.fetch.confidential import public_text, public_url, secret
from pipeline.fetch.errors import FetchError
from regions.sources import StacImagery


@dataclass(frozen=True)
class StacScene:
    """One item that is read.

    Attributes:
        item_id: Its id.
        collection: Its collection.
        date: Day of acquisition, ISO 8601.
        cloud: eo:cloud_cover, None where it states none.
        addresses: Of its assets, red, green and blue or one; then the mask's where there is one.
    """

    item_id: str
    collection: str | None
    date: str
    cloud: float | None
    addresses: tuple[str, ...]

    @property
    def record(self) -> dict[str, Any]:
        """What is written down of it; addresses without secrets."""
        return {
            "item": self.item_id,
            "collection": self.collection,
            "date": self.date,
            "cloud": self.cloud,
            "assets": [public_url(a) for a in self.addresses],
        }


def find_scenes(source: StacImagery, bounds_lonlat: tuple[float, float, float, float]) -> tuple[StacScene, ...]:
    """Items that meet an area, the one on top first; the order is total, whatever order the server gives.

    Raises:
        FetchError: no answer, no item, or an item without an asset that is asked for.
    """
    token = None if source.token_env is None else secret(source.token_env, wanted_by=public_url(source.url))
    try:
        items = [i for i in _items(source, bounds_lonlat, token) if _wanted(i, source, bounds_lonlat)]
    except (APIError, pystac.STACError, OSError, ValueError, KeyError) as error:
        raise FetchError(f"{public_url(source.url)}: no STAC that can be read: {public_text(str(error))}") from None
    if not items:
        raise FetchError(
            f"{public_url(source.url)}: no item of {', '.join(source.collections) or 'any collection'} from"
            f" {source.start or 'any day'} to {source.end or 'any day'} with at most {source.max_cloud:g} % cloud meets"
            f" {tuple(round(v, 4) for v in bounds_lonlat)}"
        )
    scenes = [_scene(i, source) for i in items]
    if source.order == "newest":
        scenes.sort(key=lambda s: (_descending(s.date), s.item_id))
    else:
        scenes.sort(key=lambda s: (s.cloud if s.cloud is not None else 100.0, _descending(s.date), s.item_id))
    return tuple(scenes[: source.most_items])


def _items(source: StacImagery, bounds: tuple[float, float, float, float], token: str | None) -> Iterator[pystac.Item]:
    headers = {"authorization": f"Bearer {token}"} if token else None
    if _is_api(source):
        client = Client.open(source.url, headers=headers)
        if client.conforms_to("ITEM_SEARCH"):
            days = (
                None if source.start is None and source.end is None else f"{source.start or '..'}/{source.end or '..'}"
            )
            search = client.search(bbox=list(bounds), collections=list(source.collections) or None, datetime=days)
            yield from search.items()
            return
        yield from client.get_items(recursive=True)
        return
    root = pystac.read_file(source.url)
    if isinstance(root, pystac.Item):
        yield root
    elif isinstance(root, pystac.Catalog):
        yield from root.get_items(recursive=True)


def _is_api(source: StacImagery) -> bool:
    return source.url.startswith(("http://", "https://")) and not source.url.rstrip("/").endswith(".json")


def _wanted(item: pystac.Item, source: StacImagery, bounds: tuple[float, float, float, float]) -> bool:
    if source.collections and item.collection_id not in source.collections:
        return False
    if item.geometry is not None and not shapely.geometry.shape(item.geometry).intersects(shapely.box(*bounds)):
        return False
    day = _day(item)
    if (source.start and day < source.start) or (source.end and day > source.end[:10]):
        return False
    cloud = item.properties.get("eo:cloud_cover")
    return cloud is None or float(cloud) <= source.max_cloud


def _scene(item: pystac.Item, source: StacImagery) -> StacScene:
    names = (*source.assets, *((source.mask_asset,) if source.mask_asset else ()))
    absent = [n for n in names if n not in item.assets]
    if absent:
        raise FetchError(
            f"{public_url(source.url)}: item {item.id} has no asset {', '.join(absent)}; it has"
            f" {', '.join(sorted(item.assets))}"
        )
    addresses = tuple(_address(str(item.assets[n].get_absolute_href())) for n in names)
    cloud = item.properties.get("eo:cloud_cover")
    return StacScene(item.id, item.collection_id, _day(item), None if cloud is None else float(cloud), addresses)


def _address(href: str) -> str:
    return href.replace("s3://", "/vsis3/", 1) if href.startswith("s3://") else href


def _day(item: pystac.Item) -> str:
    when = item.datetime or item.common_metadata.start_datetime
    if not isinstance(when, datetime):
        raise FetchError(f"item {item.id} has no date")
    return when.astimezone(UTC).date().isoformat() if when.tzinfo else when.date().isoformat()


def _descending(day: str) -> tuple[int, ...]:
    return tuple(-ord(c) for c in day)
