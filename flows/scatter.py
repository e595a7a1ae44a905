"""A campaign cut into several runs, so that the workers of several machines draw them from one work pool."""

import heapq
from collections.abc import Iterable
from typing import Any

from flows.service.processes import Services
from pipeline.city.ground import ground_of
from pipeline.city.sources import MissingSourcesError
from pipeline.errors import PipelineError
from pipeline.files import digest_of
from regions.campaign import Campaign
from regions.registry import City

DEPLOYMENT = "uv-map/china"


def shares(sizes: Iterable[tuple[str, int]], runs: int) -> list[list[str]]:
    """Cities in at most ``runs`` shares of about equal size: the largest first, each to the lightest share.

    Worked example: sizes 9, 5, 4, 1 in two shares: 9 to the first, 5 and 4 to the second, 1 to the first of two equals.

    Args:
        sizes: Key and size of every city.
        runs: Most shares.

    Returns:
        Keys in order within each share; no empty share; the same for the same cities.
    """
    open_shares: list[tuple[int, int, list[str]]] = [(0, k, []) for k in range(runs)]
    for key, size in sorted(sizes, key=lambda s: (-s[1], s[0])):
        weight, k, keys = heapq.heappop(open_shares)
        heapq.heappush(open_shares, (weight + size, k, [*keys, key]))
    return [sorted(keys) for _, _, keys in sorted(open_shares, key=lambda s: s[1]) if keys]


def sized(campaign: Campaign, cities: Iterable[City]) -> tuple[list[tuple[str, int]], list[str]]:
    """Bytes of the sources of every city that has data, and the adcodes of those that have none."""
    found: list[tuple[str, int]] = []
    missing: list[str] = []
    for city in cities:
        try:
            found.append((city.adcode, max(1, ground_of(campaign, city).sources.size_bytes)))
        except MissingSourcesError:
            missing.append(city.adcode)
        except PipelineError:
            found.append((city.adcode, 1))  # its run says what is the matter
    return found, missing


def submit(services: Services, parts: list[list[str]], *, name: str, parameters: dict[str, Any]) -> list[str]:
    """Put one run per share into the work pool; a second call with the same shares and parameters adds nothing.

    Returns:
        Ids of the runs.
    """
    from flows.service.setup import api

    with api(services) as client:
        deployment = client.read_deployment_by_name(DEPLOYMENT)
        runs = []
        for k, cities in enumerate(parts, start=1):
            given = parameters | {"cities": cities}
            run = client.create_flow_run_from_deployment(
                deployment.id,
                parameters=given,
                name=f"{name}-{k}-of-{len(parts)}",
                idempotency_key=digest_of(["scatter", name, given]),
            )
            runs.append(str(run.id))
    return runs
