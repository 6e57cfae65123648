from __future__ import annotations

from pathlib import Path

import pytest

from ocwm import run as engine
from ocwm.config import compose
from ocwm.errors import BenchError
from ocwm.sweeps.family import values_of
from ocwm.sweeps.plan import plan
from ocwm.sweeps.suite import read_suite

CASES = [
    ("cjepa", "clevrer", "mini", 0, ()),
    ("cjepa", "clevrer", "mini", 3, ("method.num_masked=2", "trainer.lr=1")),
    ("cjepa", "clevrer", "mini", 1, ("task.horizons=[1,2]", "task.generator.questions.more_in_training.count=3")),
    ("ocjepa", "pusht", "smoke", 2, ("seeds.encoder=4", "task.planning.samples=9", "task.planning.elites=3")),
    ("ocjepa", "pusht", "standard", 0, ("trainer.max_steps=7", "seeds.reasoner=9", "task.root=null")),
    ("oc_dino_wm", "clevrer", "paper", 0, ("encoder=savi", "encoder.weights=random", "trainer=default")),
    ("copy_last", "clevrer", "mini", 5, ("task.aloe.trainer.max_steps=10",)),
    ("slotformer", "clevrer", "mini", 0, ("encoder.scale.position=2", "encoder.seed=8")),
]


@pytest.mark.parametrize(("method", "task", "preset", "seed", "overrides"), CASES)
def test_values_are_those_of_composing(method, task, preset, seed, overrides):
    from omegaconf import OmegaConf

    composed = compose(method=method, task=task, preset=preset, seed=seed, overrides=overrides)
    found = values_of(method=method, task=task, preset=preset, seed=seed, overrides=overrides)
    assert found == OmegaConf.to_container(composed.values, resolve=True)


@pytest.mark.parametrize("override", ["trainer.max_step=3", "trainer.lr=fast", "trainer.lr=-1", "method._target_=x.Y"])
def test_what_composing_refuses_is_refused(override):
    with pytest.raises(BenchError) as wanted:
        compose(method="cjepa", task="clevrer", overrides=[override])
    with pytest.raises(BenchError) as found:
        values_of(method="cjepa", task="clevrer", preset="mini", seed=0, overrides=[override])
    assert str(found.value) == str(wanted.value)


def test_ids_are_those_of_single_runs(tmp_path: Path):
    found = plan(read_suite("mini", overrides=["task.draws=300"]), home=tmp_path, results=tmp_path / "r")
    for cell in found.cells[::5]:
        variant = cell.variant
        config = compose(
            method=variant.method,
            task=variant.task,
            preset=variant.preset,
            seed=cell.seed,
            overrides=[*variant.all_overrides, f"runtime.home={tmp_path}"],
        )
        assert cell.id == engine.prepare(config).id


def test_runs_are_done_to_do_refused_or_lack_something(suite, linear, demo: Path):
    blocks = [
        {**linear, "seeds": [0, 1]},
        {**linear, "encoders": ["pixels_demo"]},
        {**linear, "overrides": [f"task.root={demo / 'nowhere'}"]},
    ]
    engine.run(engine.prepare(compose(method="linear_demo", task="circles", preset="smoke", seed=1)))
    found = plan(read_suite(suite(*blocks)))
    assert [cell.state for cell in found.cells] == ["todo", "done", "refused", "missing"]
    assert found.cells[2].reason == "it reads pixels and this task has none"
    assert "the data is absent" in found.cells[3].reason
    assert found.cells[0].command == [
        *("run", "--method", "linear_demo", "--task", "circles", "--preset", "smoke", "--seed", "0")
    ]


def test_equal_runs_of_two_blocks_are_one(suite, linear):
    ablations = {"default": [], "the same": ["trainer.lr=0.01"], "another": ["trainer.lr=0.02"]}
    found = plan(read_suite(suite({**linear, "ablations": ablations}, linear)))
    assert [cell.variant.ablation for cell in found.cells] == ["default", "another"]


def test_shared_stages_are_known(suite, linear):
    blocks = [{**linear, "seeds": [0, 1]}, {**linear, "overrides": ["task.videos=9"]}]
    first, second, third = plan(read_suite(suite(*blocks))).cells
    assert first.shared == second.shared != third.shared
    assert first.shared.names == ("data",)
    assert not first.shared.cached


def test_a_suite_of_recorded_data_runs_on_nothing_else(suite, linear):
    (cell,) = plan(read_suite(suite(linear, needs_data=True))).cells
    assert (cell.state, cell.reason) == ("missing", "recorded data of circles (--data circles=DIR)")
