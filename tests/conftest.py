"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of public models and data; tests that need it skip where it is absent."""
    root = Path(os.environ.get("DOVETAIL_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    data = root / "data"
    if not data.is_dir():
        pytest.skip(f"no shared data at {data}; set DOVETAIL_SHARED")
    return data
