"""What users can get wrong on Push-T, through the command: one line that says what, where and what to do; exit code 2."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.tasks.pusht.data_files import played, write_lerobot, write_zarr, write_zarr_array

from ocwm.cli.app import main

EPISODES = 60  # enough for all three splits


def root(tmp_path: Path, *, nan_action: bool = False, away: bool = False, lost: bool = False) -> Path:
    """Demonstrations in Diffusion Policy's layout, with something wrong."""
    states, actions = (np.concatenate([part[which] for part in played() * (EPISODES // 3)]) for which in (0, 1))
    targets = states[:, :2] + 100 * actions
    states = states[:, :5].astype("<f4")
    if nan_action:
        targets[8::10] = np.nan
    if away:
        states[:, 2] += 600
    if lost:
        states[:, 2:] = np.nan
    folder = write_zarr(tmp_path / "data")
    ends = np.cumsum([len(part) for part, _ in played() * (EPISODES // 3)]).astype("<i8")
    for name, values in (("state", states), ("action", targets.astype("<f4"))):
        write_zarr_array(folder / "replay.zarr" / "data" / name, values, rows=16)
    write_zarr_array(folder / "replay.zarr" / "data" / "img", np.zeros((len(states), 8, 8, 3), "<f4"), rows=16)
    write_zarr_array(folder / "replay.zarr" / "meta" / "episode_ends", ends, rows=16)
    return folder


def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], *overrides: str, method: str = "cjepa") -> str:
    """Run, and return the one line of the refusal."""
    places = [f"runtime.home={tmp_path / 'home'}", "runtime.threads=1", "runtime.workers=1"]
    asked = ["--method", method, "--task", "pusht", "--preset", "tiny", "--results", str(tmp_path / "results")]
    code = main(["run", *asked, *places, *overrides])
    said = capsys.readouterr()
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert code == 2, said.err
    assert len(errors) == 1, said.err
    assert "Traceback" not in said.err
    assert not list((tmp_path / "results").rglob("*.json"))
    return errors[0]


def test_demonstrations_that_are_whole_can_be_planned_on(tmp_path: Path) -> None:
    overrides = [
        f"runtime.home={tmp_path / 'home'}",
        f"task.root={root(tmp_path)}",
        "task.pairs=2",
        "runtime.threads=1",
    ]
    assert main(["run", "--method", "replay", "--task", "pusht", "--preset", "tiny", *overrides]) == 0


def test_data_without_the_blocks_pose(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(tmp_path, capsys, f"task.root={root(tmp_path, lost=True)}")
    assert "do not say where the block is" in said
    said = refused(tmp_path, capsys, f"task.root={write_lerobot(tmp_path / 'lerobot')}")
    assert "LeRobot" in said
    assert "Diffusion Policy" in said


def test_actions_that_are_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "lacks the action of row" in refused(tmp_path, capsys, f"task.root={root(tmp_path, nan_action=True)}")


def test_episodes_shorter_than_the_offset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(tmp_path, capsys, f"task.root={root(tmp_path)}", "task.goal_offset=40")
    assert "no episode is longer than 40 steps" in said


def test_a_goal_outside_the_arena(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(tmp_path, capsys, f"task.root={root(tmp_path, away=True)}", "task.protocol=cjepa")
    assert "outside the arena" in said


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("task.planning.horizon=9",), "longer than task.budget=20"),
        (("task.budget=22",), "no whole number of blocks"),
        (("task.take=3",), "more than a plan of task.planning.horizon=2 has"),
        (("task.planner=cma",), "task.planner=cma is not known"),
        (("task.planning.elites=9",), "only 4 samples"),
        (("task.protocol=paper",), "task.protocol=paper is not known"),
        (("task.root=/no/such/folder",), "/no/such/folder does not exist"),
    ],
)
def test_settings_that_cannot_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], overrides: tuple[str, ...], message: str
) -> None:
    assert message in refused(tmp_path, capsys, *overrides)


@pytest.mark.parametrize("method", ["slotformer", "ocvp_seq", "ocvp_par"])
def test_models_without_actions(tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str) -> None:
    said = refused(tmp_path, capsys, method=method)
    assert method in said
    assert "actions" in said
