from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture
def suite(demo: Path, demo_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return what writes a suite of the demo plugin's runs; the jobs of its sweeps find the plugin, too."""
    monkeypatch.setenv("PYTHONPATH", demo_environment["PYTHONPATH"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def write(*blocks: dict[str, Any], name: str = "demo", **keys: Any) -> str:
        content = {"description": "a demo", "preset": "smoke", "blocks": list(blocks), **keys}
        Path(f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
        return f"{name}.yaml"

    return write


@pytest.fixture
def linear() -> dict[str, Any]:
    return {"methods": ["linear_demo"], "tasks": ["circles"]}


@pytest.fixture
def fake_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what puts commands of a fake SLURM on the path, each a shell script."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def write(**scripts: str) -> None:
        for name, script in scripts.items():
            (folder / name).write_text(f"#!/bin/sh\n{script}\n")
            (folder / name).chmod(0o755)

    return write
