"""Several processes share a run: the same training, shares of the work, and an end for all where one fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ocwm.data_parallel import draw_rows, weighted
from ocwm.distributed import Team
from ocwm.encoder_training import Clips
from ocwm.errors import BenchError
from ocwm.kept_frames import ClipData
from ocwm.launch import Launch, launched
from ocwm.store import read_items, read_record

SCENARIOS = (
    *("curve:1", "curve:2", "curve:3", "uneven_batch:2", "stopped_and_resumed:2", "spoiled:2", "broken:2", "killed:2"),
    *("hanging:2", "draws:1", "draws:2", "stages:2", "shares:1", "shares:2"),
)

Said = list[dict[str, Any]]


def play(folder: Path, *scenarios: str) -> dict[str, Any]:
    script = Path(__file__).parent / "team_scenarios.py"
    path = [str(script.parents[2]), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    done = subprocess.run(
        [sys.executable, str(script), str(folder), *scenarios],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("team")


@pytest.fixture(scope="module")
def played(folder: Path) -> dict[str, Any]:
    return play(folder, *SCENARIOS)


def results(played: Mapping[str, Any], scenario: str) -> list[Any]:
    said = played[scenario]["said"]
    assert all("result" in one for one in said), said
    return [one["result"] for one in said]


def errors(played: Mapping[str, Any], scenario: str) -> list[str]:
    return [one["error"] for one in played[scenario]["said"]]


def points(curve: list[dict[str, float]]) -> np.ndarray:
    return np.array([[value for _, value in sorted(point.items())] for point in curve if "dev" in point])


@pytest.mark.parametrize("size", [2, 3])
def test_the_curve_is_that_of_one_process(played: dict[str, Any], size: int) -> None:
    (one,) = results(played, "curve:1")
    assert one["curve"][-1]["loss"] < 0.7 * one["curve"][0]["loss"]
    for several in results(played, f"curve:{size}"):
        assert [point["step"] for point in several["curve"]] == [6, 12, 18, 24]
        np.testing.assert_allclose(points(several["curve"]), points(one["curve"]), rtol=1e-5)
        for ours, theirs in zip(several["weights"], one["weights"], strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
    weights = [several["weights"] for several in results(played, f"curve:{size}")]
    assert all(other == weights[0] for other in weights)  # bit for bit


def test_a_batch_that_cannot_be_divided_is_refused(played: dict[str, Any]) -> None:
    assert all("trainer.batch_size=13 can't be divided" in error for error in errors(played, "uneven_batch:2"))


def test_a_signal_to_one_process_stops_all_and_they_resume_exactly(played: dict[str, Any]) -> None:
    for one in results(played, "stopped_and_resumed:2"):
        assert "stopped after 8 of 24 updates" in one["said"]
        assert one["parts"].pop("from") == 8
        assert one["whole"].pop("from") == 0
        assert one["parts"] == one["whole"]


def test_a_loss_that_is_not_finite_in_one_process_ends_all_alike(played: dict[str, Any]) -> None:
    first, second = errors(played, "spoiled:2")
    assert first == second
    assert "the loss is nan at update 6 of 24" in first


@pytest.mark.parametrize("scenario", ["broken:2", "killed:2", "hanging:2"])
def test_the_first_process_does_not_wait_for_one_that_failed(played: dict[str, Any], scenario: str) -> None:
    said = played[scenario]["said"]
    assert said[0]["error"].startswith("ProcessLost: another process of this run has ended, or does not answer")
    assert played[scenario]["seconds"] < 60
    if scenario == "broken:2":
        assert said[1]["error"] == "BenchError: this disk is broken"


def test_samples_get_the_same_draws_in_any_company_and_dropout_is_each_ones_own(played: dict[str, Any]) -> None:
    (one,), (first, second) = results(played, "draws:1"), results(played, "draws:2")
    assert first["noise"] + second["noise"] == one["noise"]
    assert first["inputs"] + second["inputs"] == one["inputs"]
    assert first["mask"] == second["mask"] == one["mask"]
    assert first["dropout"] != second["dropout"]


def test_stages_are_built_once_or_together(played: dict[str, Any]) -> None:
    first, second = results(played, "stages:2")
    assert first["built"] == ["nested", "outer", "own", "shared", "anew"]
    assert second["built"] == ["own", "shared", "anew"]
    assert first["found"] == second["found"] == {"outer": "1 0", "nested": "1 0", "shared": "2 0"}
    assert first["costs"] == {"nested": None, "outer": None, "own": 2, "shared": 2}
    assert (first["kind"], second["kind"]) == ("BenchError", "ProcessFailed")
    assert first["error"] == second["error"] == "no room"


def test_shares_give_the_files_of_one_process(played: dict[str, Any], folder: Path) -> None:
    (one,), (first, second) = results(played, "shares:1"), results(played, "shares:2")
    assert (one["asked"], first["asked"], second["asked"]) == ([[0, 10]], [[0, 8]], [[8, 10]])
    assert (one["frames"], first["frames"], second["frames"]) == (60, 60, None)
    for name in ("latents.npy", "matches.npz", "rows.npy"):
        alone, together = (folder / f"shares.{size}" / "out" / name for size in (1, 2))
        assert alone.read_bytes() == together.read_bytes()
    assert first["gathered"] == second["gathered"] == [[0, 0], [1, 1, 1]]
    assert first["first"] == second["first"]
    assert (first["error"], second["error"]) == ("process 1 of 2: half is missing", "half is missing")


def test_two_processes_run_both_tasks_and_measure_what_one_does(tmp_path: Path) -> None:
    played = play(tmp_path, "cli:2", "cli:1")
    (first, second), (one,) = results(played, "cli:2"), results(played, "cli:1")
    for task in ("clevrer", "pusht"):
        assert (first[task]["code"], one[task]["code"]) == (0, 0), first[task]["err"] + one[task]["err"]
        assert second[task] == {"code": 0, "out": "", "err": ""}  # one process speaks
        assert "in each of 2 processes" in first[task]["err"]
        (shared,), (alone,) = (
            [read_record(path) for path in (tmp_path / "cli" / f"results.{size}" / "runs" / task).glob("*/*.json")]
            for size in (2, 1)
        )
        assert shared.id == alone.id
        assert (shared.provenance["processes"], alone.provenance["processes"]) == (2, 1)
        assert shared.costs["world_model"]["processes"] == 2
        assert alone.costs["world_model"]["cached"]  # so the models are the same, and what follows must be
        assert shared.metrics == alone.metrics
        items, same = read_items(shared), read_items(alone)
        assert items.keys() == same.keys()
        for name, values in items.items():
            np.testing.assert_array_equal(values, same[name], err_msg=name)


def test_shares_are_whole_batches_that_cover_all() -> None:
    for count, unit, size in ((10, 4, 2), (10, 4, 5), (64, 64, 3), (7, 1, 3), (0, 4, 2)):
        shares = [Team(rank, size).share(count, unit=unit) for rank in range(size)]
        assert [item for share in shares for item in share] == list(range(count))
        assert all(share.start % unit == 0 for share in shares if share)


def test_clips_of_a_part_are_those_of_the_whole_batch() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (6, 12, 3, 4, 4), dtype=np.uint8)
    data = ClipData(frames, Clips(frames=3, strides=(1, 2), pick="random", flip=0.5))
    indices = np.array([3, 1, 0, 5])
    whole = data.batch(indices, np.random.default_rng(2)).frames
    part = data.part(indices, np.random.default_rng(2), slice(2, 4)).frames
    assert torch.equal(part, whole[2:])


def test_one_process_draws_and_weighs_as_ever() -> None:
    mean = torch.tensor(2.0, requires_grad=True)
    assert weighted(mean, 3) is mean
    torch.manual_seed(0)
    drawn = draw_rows(3, lambda count: torch.randn(count, 2))
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.randn(3, 2))


_TORCHRUN = {"RANK": "1", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "here", "MASTER_PORT": "29500"}
_SRUN = {
    "SLURM_JOB_ID": "77",
    "SLURM_NTASKS": "8",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_JOB_NODELIST": "node[3-4]",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[Mapping[str, str]], None]:
    for name in (*_TORCHRUN, "SUBMITIT_EXECUTOR", *(name for name in os.environ if name.startswith("SLURM_"))):
        monkeypatch.delenv(name, raising=False)

    def set_all(values: Mapping[str, str]) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return set_all


def test_who_started_the_processes(environment: Callable[[Mapping[str, str]], None]) -> None:
    assert launched() == Launch()
    environment(_SRUN)
    assert launched() == Launch()  # a batch script of a job with eight tasks is one process
    environment({"SLURM_STEP_NUM_TASKS": "8", "SLURM_STEP_ID": "0"})
    found = launched()
    assert (found.rank, found.size, found.local_rank, found.address) == (5, 8, 1, "node3")
    assert found.port == launched().port
    environment({"SLURM_STEP_ID": "1"})
    assert launched().port != found.port  # another step of the job
    environment({"SUBMITIT_EXECUTOR": "slurm", "SLURM_STEP_NUM_TASKS": "1"})
    assert (launched().rank, launched().size) == (5, 8)
    environment(_TORCHRUN)
    assert launched() == Launch(1, 4, 1, "here", 29500)
    environment({"WORLD_SIZE": "1", "RANK": "0"})
    assert launched() == Launch()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"RANK": "4"}, "RANK=4 is not one of WORLD_SIZE=4"),
        ({"RANK": "x"}, "RANK=x is no number"),
        ({"MASTER_ADDR": ""}, "MASTER_ADDR is not set"),
    ],
)
def test_a_torn_environment_is_named(
    environment: Callable[[Mapping[str, str]], None], wrong: dict[str, str], message: str
) -> None:
    environment({**_TORCHRUN, **wrong})
    with pytest.raises(BenchError, match=message):
        launched()
