"""Secrets of sources that stand in Prefect blocks: they reach the environment of the process that fetches, no file."""

import logging
import os
from collections.abc import Callable

from regions.sources import Sources

_LOG = logging.getLogger(__name__)


def block_name(variable: str) -> str:
    """The Secret block that stands in for an environment variable: TILES_KEY is `tiles-key`."""
    return variable.lower().replace("_", "-")


def provide_secrets(sources: Sources | None, *, load: Callable[[str], str] | None = None) -> None:
    """For each variable that sources name and that is not set, take the value of the Prefect block of its name.

    What no block holds either stays unset: the fetch says which variable is missing.

    Args:
        sources: What a campaign declares for a city.
        load: Gives the value of a block, or raises ValueError; Prefect's own where None.
    """
    if sources is None:
        return
    for source in (*sources.imagery, *sources.vectors):
        for field in ("key_env", "token_env"):
            name = getattr(source, field, None)
            if name is None or os.environ.get(name):
                continue
            try:
                os.environ[name] = (load or _load)(block_name(name))
            except Exception as error:  # noqa: BLE001 - no server, no block: the fetch names the variable
                _LOG.info(
                    "%s: not in the environment, and no block %s (%s)", name, block_name(name), type(error).__name__
                )


def _load(block: str) -> str:
    from prefect.blocks.system import Secret  # slow to import: only where a variable is not set

    return str(Secret.load(block).get())  # type: ignore[union-attr]
