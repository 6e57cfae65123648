"""Whole runs at `tiny`: every method and reference, protocols, encoders of pixels, repeats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib import image
from tests.tasks.tiny_runs import tiny

from ocwm.run import Outcome, run
from ocwm.store import Record, read_items
from ocwm_tasks.pusht.episodes import Episodes
from ocwm_tasks.pusht.measures import SUCCESS
from ocwm_tasks.pusht.stages import Stages
from ocwm_tasks.pusht.success import joint_success

LEARNED = ("cjepa", "ocjepa", "dino_wm", "dino_wm_reg", "oc_dino_wm")
REFERENCES = ("random", "zero_action", "replay", "simulator")
SUCCESSES = {metric.name for metric in SUCCESS}


def cell(home: Path, method: str, *overrides: str) -> Any:
    return tiny(home, method, "pusht", *overrides)


def outcome(home: Path, method: str, *overrides: str, force: bool = False) -> Outcome:
    return run(cell(home, method, *overrides), force=force)


def measure(home: Path, method: str, *overrides: str, force: bool = False) -> Record:
    return outcome(home, method, *overrides, force=force).record


@pytest.mark.parametrize("method", LEARNED)
def test_every_method_that_takes_actions_runs(home: Path, method: str) -> None:
    record = measure(home, method)
    measured = set(record.metrics)
    assert measured >= {"error.agent.final", "rollout.slot_error.2", "rollout.agent_error.2", "rollout.block_error.2"}
    assert SUCCESSES - {"success.block.first_hit", "success.block.final"} <= measured
    assert [row["step"] for row in record.curves["world_model"]][-1] == 3
    assert {"encode", "predict", "match", "environment"} <= set(record.notes["seconds"])
    assert record.notes["latency"]["plans"] == 1
    assert record.costs["planning"]["flops"] > 0
    assert record.privileged == "none"


@pytest.mark.parametrize("method", REFERENCES)
def test_every_reference_runs(home: Path, method: str) -> None:
    record = measure(home, method)
    assert not any(name.startswith("rollout") for name in record.metrics)
    assert record.privileged == {"replay": "recorded_actions", "simulator": "simulator"}.get(method, "none")
    assert record.curves == {}
    if method == "replay":
        assert record.metrics["success.joint.first_hit"]["value"] == 100
    if method == "zero_action":
        assert record.metrics["success.joint.first_hit"]["value"] == 0


def test_all_run_on_the_same_pairs(home: Path) -> None:
    records = [measure(home, method) for method in ("cjepa", "random", "replay")]
    assert len({record.notes["pairs"]["sha256"] for record in records}) == 1
    assert len({record.split["hash"] for record in records}) == 1
    assert len({record.section["protocol"] for record in records}) == 1
    other = measure(home, "random", "seeds.eval=1")
    assert other.split["hash"] != records[0].split["hash"]


def test_another_model_seed_keeps_pairs_and_data(home: Path) -> None:
    first, other = measure(home, "cjepa"), measure(home, "cjepa", "seeds.model=1")
    assert (first.data, first.split) == (other.data, other.split)
    assert first.metrics["rollout.slot_error.2"] != other.metrics["rollout.slot_error.2"]
    assert other.costs["slots.train"]["cached"]


def test_a_repeat_gives_the_same_numbers_bit_for_bit(home: Path) -> None:
    first, again = measure(home, "cjepa"), measure(home, "cjepa", force=True)
    assert (first.repeat, again.repeat) == (1, 2)
    assert first.metrics == again.metrics
    np.testing.assert_array_equal(read_items(first)["states"], read_items(again)["states"])


@pytest.mark.parametrize("method", ["cjepa", "oc_dino_wm", "random"])
def test_outcomes_do_not_depend_on_how_many_are_planned_together(home: Path, method: str) -> None:
    together, alone = measure(home, method), measure(home, method, "task.plans_together=1")
    assert together.metrics == alone.metrics
    np.testing.assert_array_equal(read_items(together)["states"], read_items(alone)["states"])


def test_processes_do_not_change_what_the_simulator_plans(home: Path) -> None:
    one = measure(home, "simulator", "task.pairs=2")
    two = measure(home, "simulator", "task.pairs=2", "runtime.workers=2", force=True)
    assert one.metrics == two.metrics


def test_items_of_every_problem_are_kept(home: Path) -> None:
    record = measure(home, "cjepa")
    items = read_items(record)
    for key in sorted(set(record.metrics) & SUCCESSES):
        assert len(items[key]) == len(np.unique(items[f"{key}@item"])) == record.metrics[key]["n"]
        assert 100 * items[key].mean() == pytest.approx(record.metrics[key]["value"])
    assert items["states"].shape == (3, 21, 7)
    assert items["goals"].shape == (3, 7)
    assert items["imagined"].shape == (3, 4, 7)


def test_published_protocols_run(home: Path) -> None:
    cjepa = measure(home, "replay", "task.protocol=cjepa")
    assert cjepa.notes["pairs"]["drawn_from"] == "train"
    assert cjepa.notes["pairs"]["offset"] == 9
    assert any("training episodes" in warning for warning in cjepa.warnings)
    dino_wm = measure(home, "replay", "task.protocol=dino_wm")
    assert dino_wm.notes["pairs"]["drawn_from"] == "dev"
    assert dino_wm.metrics["success.joint.final"]["value"] == 100  # goals are where the replay leads; then it stops
    sections = {record.section["protocol"] for record in (cjepa, dino_wm, measure(home, "replay"))}
    assert len(sections) == 3


def test_other_planners_run_and_have_tables_of_their_own(home: Path) -> None:
    found = [measure(home, "cjepa", f"task.planner={name}") for name in ("cem", "icem", "mppi", "gradient")]
    assert len({record.section["protocol"] for record in found}) == 4
    assert len({record.metrics["error.agent.final"]["value"] for record in found}) > 1


def test_success_at_other_budgets(home: Path) -> None:
    record = measure(home, "cjepa", "task.curve=[[4,2],[2,1]]", "task.planning.elites=2")
    first, second = record.notes["budget_curve"]
    assert (first["samples"], first["iterations"], second["samples"]) == (4, 2, 2)
    assert first["success"] == pytest.approx(record.metrics["success.joint.first_hit"]["value"])


def test_a_gallery_is_drawn_of_problems_that_there_are(home: Path) -> None:
    measure(home, "cjepa", "task.gallery=9", "task.latency_plans=0")
    measure(home, "random", "task.gallery=2")
    sizes = sorted(image.imread(path).shape[0] for path in (home / "cache").rglob("gallery.png"))
    assert len(sizes) == 2
    assert sizes[1] > 2 * sizes[0]  # three strips with imagination against two without


def test_the_data_is_made_once_and_stages_are_known_before(home: Path) -> None:
    config = cell(home, "cjepa")
    assert list(config.task.stages(workspace_of(config))) == ["data", "slots.train", "slots.dev", "world_model"]
    assert list(config.task.stages(workspace_of(cell(home, "random")))) == ["data"]


def workspace_of(config: Any) -> Any:
    from ocwm.run import workspace

    return workspace(config.config, versions=config.versions, data=config.data)


def test_statistics_leave_out_actions_that_lead_out_of_episodes(home: Path) -> None:
    config = cell(home, "random")
    stages = Stages(config.task, workspace_of(config))
    train = stages.splits["train"]
    spoilt = train.actions.copy()
    spoilt[train.offsets[1:] - 1] = 1e3
    other = Stages(config.task, workspace_of(config))
    other.splits = {"train": Episodes(train.states, spoilt, train.offsets, train.ids)}  # type: ignore[misc]
    np.testing.assert_array_equal(stages.action_statistics.mean, other.action_statistics.mean)
    np.testing.assert_array_equal(stages.action_statistics.std, other.action_statistics.std)


PIXELS = (
    "encoder=gated_slots",
    "encoder.resolution=[64,64]",
    "encoder.num_slots=3",
    "task.frame_size=32",
    "task.pairs=2",
    "task.play.steps=40",
)


def test_slots_of_frames_are_planned_on(home: Path) -> None:
    torch.manual_seed(0)
    record = measure(home, "cjepa", *PIXELS)
    assert record.encoder_reads == "pixels"
    assert "simulator" not in record.notes["references"]
    assert {"rollout.slot_error.2", "rollout.agent_error.2", "success.joint.first_hit"} <= set(record.metrics)


def test_states_in_the_items_decide_about_success(home: Path) -> None:
    record = measure(home, "replay")
    items = read_items(record)
    config = cell(home, "replay")
    stages = Stages(config.task, workspace_of(config))
    goals = stages.pairs.goal_states[:, None]
    reached = joint_success(items["states"][:, 1:], goals).any(axis=1)
    np.testing.assert_array_equal(reached, items["success.joint.first_hit"])
