"""Fixtures that all rooms share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared data folder: UVMAP_SHARED, or `shared` beside the checkout; skips where it is absent."""
    path = Path(os.environ.get("UVMAP_SHARED", ROOT.parent / "shared"))
    if not (path / "README.md").exists():
        pytest.skip(f"shared data not found at {path}: set UVMAP_SHARED to run this test")
    return path


settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("dev", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
