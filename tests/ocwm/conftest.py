"""A third party's plugin package, installed as far as the registry can tell: a folder with its metadata on the path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ocwm import identity, registry

PLUGIN = Path(__file__).parents[1] / "fixtures" / "plugin"


def forget_plugins() -> None:
    for cached in (registry.conf_folders, registry.distributions, registry.plugins, identity.neutral_values):
        cached.cache_clear()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return what registers an importable package by its name, as an entry point of a distribution would."""
    site = tmp_path / "site"

    def register(package: str) -> None:
        name = package.replace("_", "-")
        metadata = site / f"{package}-0.3.0.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "entry_points.txt").write_text(f"[ocwm.plugins]\n{package} = {package}\n")
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.3.0\n")
        monkeypatch.syspath_prepend(str(site))
        forget_plugins()

    yield register
    monkeypatch.undo()
    forget_plugins()


@pytest.fixture
def demo(install: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the demo plugin, start in an empty folder, and return the (empty) work folder."""
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("OCWM_HOME", str(tmp_path / "home"))
    monkeypatch.syspath_prepend(str(PLUGIN))
    install("demo_plugin")
    return tmp_path / "home"


@pytest.fixture
def demo_environment(demo: Path, tmp_path: Path) -> dict[str, str]:
    """Return environment variables that install the demo plugin for a process of its own."""
    import os

    path = [str(tmp_path / "site"), str(PLUGIN), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), "OCWM_HOME": str(demo)}
