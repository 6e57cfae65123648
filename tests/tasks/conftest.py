"""What tests of all tasks share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Work folder that the runs of one file share, so that data and latents are made once."""
    return tmp_path_factory.mktemp("home")
