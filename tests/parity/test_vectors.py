"""One test for each golden vector that has a check (see golden.py); vectors without one are not collected."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from golden import Check, Golden, golden_folder


def find_checks() -> dict[str, Check]:
    """Gather the checks of every checks_*.py beside this file; a vector has exactly one."""
    checks: dict[str, Check] = {}
    for path in sorted(Path(__file__).parent.glob("checks_*.py")):
        found: dict[str, Check] = importlib.import_module(path.stem).CHECKS
        twice = sorted(checks.keys() & found.keys())
        assert not twice, f"{path.name}: {', '.join(twice)} checked twice"
        checks.update(found)
    return checks


CHECKS = find_checks()
FOLDER = golden_folder()


@pytest.mark.parametrize("name", sorted(name for name in CHECKS if (FOLDER / f"{name}.json").is_file()))
def test_vector(name: str) -> None:
    golden = Golden.load(FOLDER, name)
    CHECKS[name](golden)
    assert not golden.unchecked(), f"{name}: never compared: {', '.join(golden.unchecked())}"
