"""Who influences whom: the simulated truth, the scores, and whole runs at `tiny`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from tests.tasks.tiny_runs import tiny

from ocwm.config import compose
from ocwm.errors import BenchError
from ocwm.run import prepare, run
from ocwm.store import Record, read_items
from ocwm_tasks.clevrer.generator.simulation import Setup, Start, trace
from ocwm_tasks.clevrer.scene import ObjectProperty
from ocwm_tasks.interactions.auroc import Ranking, auroc_interval
from ocwm_tasks.interactions.measures import Figures
from ocwm_tasks.interactions.truth import Truth

SLOT_METHODS = ("cjepa", "ocjepa", "slotformer", "ocvp_seq", "ocvp_par", "oc_dino_wm")


def head_on(*, gap: float = 2.0) -> Setup:
    """A metal sphere rolls into a second one at rest; a third lies far away."""
    ball = ObjectProperty("gray", "metal", "sphere")
    starts = (Start(0, (-gap, 0.0), (3.0, 0.0)), Start(0, (0.0, 0.0)), Start(0, (0.0, 2.5)))
    return Setup((ball, ObjectProperty("red", "metal", "sphere"), ObjectProperty("blue", "metal", "sphere")), starts)


def test_until_it_is_removed_an_object_does_what_it_did_and_then_no_more() -> None:
    whole, late, never = (
        trace(head_on(), frames=60, **more) for more in ({}, {"removed": 0, "since": 10}, {"removed": 0})
    )
    (hit,) = [collision.frame for collision in whole.collisions]
    assert 10 < hit < 60
    np.testing.assert_array_equal(late.states[:10], whole.states[:10])
    assert np.isnan(late.states[10:, 0]).all()
    assert np.isnan(never.states[:, 0]).all()
    np.testing.assert_allclose(late.states[:, 1, :2], 0, atol=1e-6)  # nobody came
    assert np.nanmax(whole.states[:, 1, 0]) > 0.3
    np.testing.assert_allclose(late.states[:, 2], whole.states[:, 2], atol=1e-9)
    after = trace(head_on(), removed=0, since=hit + 2, frames=60)
    np.testing.assert_allclose(after.states[:, 1], whole.states[:, 1], atol=1e-6)  # too late to matter


def made_up(*, videos: int = 6) -> Truth:
    """Two objects: removing the first moves the second, by as much as the video's number says."""
    with_all = np.zeros((videos, 1, 32, 2, 2), np.float32)
    without = np.zeros((videos, 1, 2, 32, 2, 2), np.float32)
    without[:, :, 0, :, 0], without[:, :, 1, :, 1] = np.nan, np.nan
    without[:, 0, 0, :, 1, 0] = np.arange(videos)[:, None]
    known, since = np.ones((videos, 1, 2), np.bool_), np.tile([3, -1], (videos, 1, 1))
    return Truth(np.arange(videos) + 100, np.array([50]), with_all, without, known, since)


def test_influence_is_how_far_a_removal_moves_another_object() -> None:
    truth = made_up()
    moved = truth.moved
    np.testing.assert_allclose(moved[:, 0, 0, 1], np.arange(6))
    np.testing.assert_allclose(moved[:, 0, 1, 0], 0)
    assert np.isnan(moved[:, 0, [0, 1], [0, 1]]).all()
    truth.known[0, 0, 0] = False  # was not in view: no pair with it
    assert np.isnan(truth.moved[0]).all()


def test_the_truth_is_kept_as_it_is(tmp_path: Path) -> None:
    truth = made_up()
    truth.save(tmp_path / "truth.npz")
    again = Truth.load(tmp_path / "truth.npz")
    for name, values in vars(truth).items():
        np.testing.assert_array_equal(getattr(again, name), values)


def test_figures_of_a_perfect_and_of_an_idle_model() -> None:
    truth = made_up()
    figures = Figures(truth, 0.5, np.random.default_rng(0), 50)
    assert figures.base_rate == pytest.approx(5 / 12)
    figures.add_influence("ablation", np.nan_to_num(truth.moved))
    figures.add_influence("attention", np.zeros_like(truth.moved))
    figures.add_counterfactuals(truth.without, truth.with_all)
    figures.add_recency(truth.with_all + 1)
    found = figures.complete()
    assert found["influence.ablation.auroc"].value == 100
    assert found["influence.attention.auroc"].value == 50
    assert found["counterfactual.affected.error"].value == 0
    assert found["counterfactual.affected.unchanged"].value == found["counterfactual.affected.gain"].value == 3
    assert found["counterfactual.affected.error"].n == 5
    assert found["counterfactual.unaffected.error"].n == 7
    assert found["recency.error.0-7"].n == found["recency.error.never"].n == 6
    assert found["recency.error.0-7"].value == pytest.approx(np.sqrt(2))
    assert found["recency.error.8-15"].n == 0
    assert len(figures.items["pairs.moved"]) == len(figures.items["pairs.ablation"]) == 12


def test_auroc_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, score, weights = rng.random(200) < 0.3, rng.integers(0, 9, 200) / 9, rng.random(200)
    assert Ranking(truth, score).auroc() == pytest.approx(roc_auc_score(truth, score))
    wanted = roc_auc_score(truth, score, sample_weight=weights)
    assert Ranking(truth, score).auroc(weights) == pytest.approx(wanted)
    value, low, high = auroc_interval(truth, score, np.arange(200) // 5, rng=rng, draws=200)
    assert low is not None
    assert high is not None
    assert low < value < high
    assert np.isnan(Ranking(np.ones(3, np.bool_), score[:3]).auroc())
    assert auroc_interval(truth, score, np.zeros(200, np.int64), rng=rng, draws=20)[1:] == (None, None)


def cell(home: Path, method: str, *overrides: str) -> Any:
    return tiny(home, method, "interactions", *overrides)


def measure(home: Path, method: str, *overrides: str) -> Record:
    return run(cell(home, method, *overrides)).record


@pytest.mark.parametrize("method", SLOT_METHODS)
def test_every_slot_method_is_asked(home: Path, method: str) -> None:
    record = measure(home, method)
    for key in ("influence.ablation.auroc", "influence.attention.auroc", "counterfactual.unaffected.error"):
        assert record.metrics[key]["n"] > 0
    items = read_items(record)
    assert items["pairs.attention"].min() >= 0
    assert items["pairs.ablation"].min() >= 0


def test_ceiling_and_floors(home: Path) -> None:
    ceiling = measure(home, "resimulated")
    assert ceiling.privileged == "simulator"
    assert ceiling.metrics["influence.ablation.auroc"]["value"] == 100
    assert ceiling.metrics["counterfactual.affected.error"]["value"] < 0.05
    still = measure(home, "copy_last")
    assert still.metrics["influence.ablation.auroc"]["value"] == 50
    assert still.metrics["counterfactual.affected.gain"]["value"] == 0
    near = measure(home, "proximity")
    assert near.metrics["influence.ablation.auroc"]["value"] > 50
    assert "counterfactual.affected.error" not in near.metrics


def test_the_model_is_that_of_clevrer(home: Path) -> None:
    stages = cell(home, "cjepa").task.stages
    del stages
    there = compose(method="cjepa", task="clevrer", preset="tiny", overrides=[f"runtime.home={home}"])
    from ocwm.run import workspace

    def key(one: Any) -> Any:
        base = workspace(one.config, versions=one.versions, data=one.data)
        return one.task.stages(base)["world_model"]

    assert key(prepare(there)) == key(cell(home, "cjepa"))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("task.root=/tmp",), "can be simulated again"),
        (("task.cuts=[150]",), "task.cuts=.150. is not possible"),
        (("task.cuts=[]",), "is not possible"),
        (("task.affected=0",), "is no distance"),
    ],
)
def test_settings_that_cannot_be(home: Path, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(BenchError, match=message):
        cell(home, "cjepa", *overrides)


def test_the_future_is_no_answer(home: Path) -> None:
    with pytest.raises(BenchError, match="use resimulated"):
        cell(home, "true_future")
