from __future__ import annotations

import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from ocwm.costs import Costs
from ocwm.device import available_cores, choose_device, set_threads
from ocwm.folders import work_folder
from ocwm.provenance import commit_of, provenance


def git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def checkout(folder: Path) -> Path:
    code = folder / "code"
    code.mkdir(parents=True)
    (code / "a.py").write_text("1")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return code


def test_commit_and_dirty_flag(tmp_path: Path) -> None:
    code = checkout(tmp_path)
    commit, dirty = commit_of(code)
    assert commit is not None
    assert len(commit) == 40
    assert dirty is False
    (code / "a.py").write_text("2")
    assert commit_of(code) == (commit, True)


def test_a_new_file_makes_a_checkout_dirty(tmp_path: Path) -> None:
    code = checkout(tmp_path)
    (code / "b.py").write_text("1")
    assert commit_of(code)[1] is True


def test_what_a_run_adds_does_not_make_it_dirty(tmp_path: Path) -> None:
    code = checkout(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "record.json").write_text("{}")
    (tmp_path / "leaderboard.md").write_text("new")
    assert commit_of(code)[1] is False


def test_an_installed_copy_has_no_commit(tmp_path: Path) -> None:
    assert commit_of(tmp_path) == (None, None)
    checkout(tmp_path)
    installed = tmp_path / ".venv"
    installed.mkdir()
    (installed / "c.py").write_text("1")
    assert commit_of(installed) == (None, None)  # inside somebody's checkout, but not a part of it


def test_provenance_names_versions_and_machine() -> None:
    found = provenance(distributions=["ocwm-bench", "not-installed"], threads=2, device="cpu", wall_start=0.0)
    assert found["torch"] == torch.__version__
    assert found["numpy"] == np.__version__
    assert found["packages"]["hydra-core"]
    assert found["packages"]["ocwm-bench"]
    assert "not-installed" not in found["packages"]
    assert (found["threads"], found["device"], found["gpu"]) == (2, "cpu", None)
    assert found["wall_start"] == "1970-01-01T00:00:00+00:00"
    assert found["cpu"]


def test_costs_are_measured_and_added_up() -> None:
    costs = Costs()
    with costs.measure("slots") as first:
        held = np.ones(64 * 1024 * 1024 // 8)
        time.sleep(0.05)
    del held
    with costs.measure("slots") as second:
        time.sleep(0.02)
    assert first["seconds"] >= 0.05
    assert costs.stages["slots"]["seconds"] >= 0.07
    assert costs.stages["slots"]["peak_memory_mb"] >= max(64, second["peak_memory_mb"] - 1)
    assert costs.stages["slots"]["cached"] is False
    costs.note("slots", tokens_per_frame=6)
    assert costs.stages["slots"]["tokens_per_frame"] == 6


def test_a_stage_is_cached_where_all_of_its_parts_are() -> None:
    costs = Costs()
    costs.add("slots", {"seconds": 3.0, "peak_memory_mb": 5.0}, cached=True)
    assert costs.stages["slots"] == {"seconds": 3.0, "cached": True, "peak_memory_mb": 5.0}
    costs.add("slots", {"seconds": 1.0, "peak_memory_mb": 2.0}, cached=False)
    assert costs.stages["slots"] == {"seconds": 4.0, "cached": False, "peak_memory_mb": 5.0}


def test_memory_of_child_processes_counts() -> None:
    costs = Costs()
    with costs.measure("data") as cost:
        program = "import time; held = bytearray(200_000_000); held[::4096] = b'1' * len(held[::4096]); time.sleep(0.6)"
        subprocess.run(["python3", "-c", program], check=True)
    with costs.measure("nothing") as nothing:
        time.sleep(0.01)
    assert cost["peak_memory_mb"] > nothing["peak_memory_mb"] + 150


def test_device_and_threads() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    before = torch.get_num_threads()
    try:
        assert set_threads(1) == torch.get_num_threads() == 1
        assert set_threads(0) == available_cores()
    finally:
        torch.set_num_threads(before)


def test_the_work_folder(monkeypatch: object, tmp_path: Path) -> None:
    import pytest

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OCWM_HOME", str(tmp_path / "a"))
        assert work_folder() == tmp_path / "a"
        assert work_folder(str(tmp_path / "b")) == tmp_path / "b"
        patch.delenv("OCWM_HOME")
        patch.setattr("sys.platform", "linux")
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
        assert work_folder() == tmp_path / "c" / "ocwm-bench"
        patch.delenv("XDG_CACHE_HOME")
        patch.setenv("HOME", str(tmp_path / "d"))
        assert work_folder() == tmp_path / "d" / ".cache" / "ocwm-bench"


FAULTS = """
import resource, sys
import torch
from ocwm.device import keep_freed_memory
if "keep" in sys.argv:
    assert keep_freed_memory()
for _ in range(12):
    torch.ones(2**24)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    torch.ones(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no such settings")
def test_freed_memory_is_kept_and_used_again() -> None:
    """64 MB are four times asked for and freed: without the setting each time anew from the system."""

    def faults(*arguments: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, *arguments], check=True, capture_output=True, text=True)
        return int(done.stdout)

    assert faults("keep") < 0.1 * faults()
