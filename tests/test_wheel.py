"""The wheel holds all packages with their configuration trees, and works without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_lists_the_plugins_from_an_empty_folder(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    assert {path.name for path in site.iterdir() if path.suffix != ".dist-info"} == {
        "ocwm",
        "ocwm_baselines",
        "ocwm_encoders",
        "ocwm_methods",
        "ocwm_tasks",
    }
    # -P and a path of its own keep the checkout's editable installation out of the way.
    environment = {**os.environ, "PYTHONPATH": str(site), "OCWM_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ocwm.cli", "show", "--method", "cjepa", "--task", "clevrer"],
        cwd="/",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "num_masked: 1" in done.stdout
