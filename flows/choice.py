"""Which cities a run takes, and in what order."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from flows.errors import RunError
from regions.campaign import Campaign
from regions.registry import City, find_city

Order = Literal["large first", "as given"]


def chosen(
    campaign: Campaign,
    cities: Sequence[str | int] | None = None,
    *,
    provinces: Sequence[str] | None = None,
    regions: Sequence[str] | None = None,
) -> list[City]:
    """The cities of a run: those asked for by adcode or name, in that order, else all of the campaign.

    Args:
        campaign: The campaign.
        cities: Adcodes or names.
        provinces: Only cities in these; English names, or the first two digits of their adcodes.
        regions: Only cities in these of the seven regions.

    Raises:
        UnknownCityError: a city is not in the registry.
        RunError: no city of the choice lies in such a province or region.
    """
    found = campaign.selected() if cities is None else list(dict.fromkeys(find_city(str(key)) for key in cities))
    if provinces is not None:
        found = _among(found, "province", provinces, lambda c: {c.province.lower(), c.adcode[:2]})
    if regions is not None:
        found = _among(found, "region", regions, lambda c: {c.region.lower()})
    return found


def _among(found: list[City], what: str, wanted: Sequence[str], names: Callable[[City], set[str]]) -> list[City]:
    keys = {key.strip().lower(): key for key in wanted}
    unknown = set(keys) - {name for city in found for name in names(city)}
    if unknown:
        there = sorted({c.province if what == "province" else c.region for c in found})
        raise RunError(
            f"no city of this choice lies in the {what} '{keys[min(unknown)]}'; there are {', '.join(there)}"
        )
    return [city for city in found if names(city) & keys.keys()]


def in_order(cities: Iterable[City], order: Order, plans: dict[str, dict[str, Any] | None]) -> list[City]:
    """The cities in the order in which they are taken up; large ones first, so that no long one is left for the end.

    Args:
        cities: In the order given.
        order: Which order.
        plans: Estimated work by adcode, as `pipeline.city.plan` gives it; cities without stand behind those with one.
    """
    if order == "as given":
        return list(cities)

    def size(city: City) -> float:
        plan = plans.get(city.adcode) or {}
        return float(plan.get("seconds") or plan.get("tiles") or 0.0)

    return sorted(cities, key=size, reverse=True)
