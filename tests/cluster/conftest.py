"""A real SLURM of one node for the tests: the one that is up already, or one that root starts and stops."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "slurm.sh"


@pytest.fixture(scope="session")
def slurm() -> Iterator[None]:
    """Skip where there is no SLURM and nobody who may start one."""
    folder = Path(os.environ.get("OCWM_SLURM", "/tmp/ocwm-slurm"))
    if (folder / "run" / "slurmctld.pid").is_file():
        yield
        return
    if os.geteuid() != 0:
        pytest.skip("no SLURM is up, and only root can start one (bash tests/cluster/slurm.sh up)")
    if shutil.which("slurmctld") is None:
        pytest.skip("SLURM is not installed (as root: bash tests/cluster/slurm.sh up installs it)")
    subprocess.run(["bash", str(SCRIPT), "up"], check=True)
    yield
    subprocess.run(["bash", str(SCRIPT), "down"], check=True)
