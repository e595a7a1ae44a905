"""Where the services of this machine keep their state, and where the checkout is."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
"""Root of the checkout: relative paths of campaigns count from here in deployed runs."""


def uvmap_home() -> Path:
    """Folder of the services' state: ``UVMAP_HOME``, or ``~/.uvmap``."""
    return Path(os.environ.get("UVMAP_HOME") or Path.home() / ".uvmap").expanduser().resolve()


def run_index() -> Path:
    """Folder with one small file per run, named by the run's id, that holds the path of its record."""
    return uvmap_home() / "runs"
