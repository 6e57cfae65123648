from __future__ import annotations

import re

import pytest

from ocwm import registry
from ocwm.errors import BenchError
from ocwm.sweeps.plan import plan
from ocwm.sweeps.suite import read_suite


def test_a_suite_is_the_product_of_its_lists(suite):
    path = suite(
        {
            "methods": ["linear_demo", "hold_demo"],
            "tasks": ["circles"],
            "encoders": ["passthrough"],
            "seeds": [0, 5],
            "overrides": ["task.frames=6"],
            "ablations": {"wide": ["trainer.lr=0.1"], "narrow": []},
        },
        tasks={"circles": ["task.videos=5"]},
    )
    found = read_suite(path, overrides=["seeds.eval=3"], roots={"circles": "/some where"})
    assert found.name == "demo"
    assert found.cells == 8
    first = found.variants[0]
    assert first.all_overrides == (
        "encoder=passthrough",
        "task.videos=5",
        'task.root="/some where"',
        "task.frames=6",
        "trainer.lr=0.1",
        "seeds.eval=3",
    )
    assert (first.method, first.ablation, first.seeds) == ("linear_demo", "wide", (0, 5))


@pytest.mark.parametrize(
    ("block", "keys", "message"),
    [
        ({"methods": ["linear_dmo"], "tasks": ["circles"]}, {}, "no method 'linear_dmo'. Did you mean 'linear_demo'?"),
        ({"methods": ["linear_demo"], "tasks": ["circle"]}, {}, "no task 'circle'"),
        ({"methods": ["linear_demo"], "tasks": ["circles"], "preset": "minni"}, {}, "no preset 'minni'"),
        ({"methods": ["linear_demo"], "task": ["circles"]}, {}, "unknown key 'task'. Did you mean 'tasks'?"),
        ({"methods": "linear_demo", "tasks": ["circles"]}, {}, "methods must be a list of words"),
        (
            {"methods": ["linear_demo"], "tasks": ["circles"], "seeds": ["a"]},
            {},
            "seeds must be a list of whole numbers",
        ),
        ({"methods": ["linear_demo"], "tasks": ["circles"], "ablations": [1]}, {}, "ablations must map names"),
        (
            {"methods": ["linear_demo"], "tasks": ["circles"]},
            {"blokcs": []},
            "unknown key 'blokcs'. Did you mean 'blocks'?",
        ),
        ({"methods": ["linear_demo"], "tasks": ["circles"]}, {"tasks": {"circel": []}}, "no task 'circel'"),
    ],
)
def test_a_wrong_suite_is_refused_in_one_line(suite, block, keys, message):
    with pytest.raises(BenchError, match=re.escape(message)):
        read_suite(suite(block, **keys))


def test_a_suite_that_is_not_there_is_named(suite):
    with pytest.raises(BenchError, match=r"no suite 'mimi'. Did you mean 'mini'"):
        read_suite("mimi")
    with pytest.raises(BenchError, match=r"there is no suite nowhere.yaml"):
        read_suite("nowhere.yaml")


def test_an_override_that_no_run_can_have_names_the_run(suite, linear):
    with pytest.raises(BenchError, match=r"run 'linear_demo, circles, smoke' of the suite: unknown key 'trainer.lrr'"):
        plan(read_suite(suite(linear), overrides=["trainer.lrr=1"]))


@pytest.mark.parametrize("name", sorted(registry.plugins("suite")))
def test_shipped_suites_can_be_planned_without_data_or_weights(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = plan(read_suite(name), home=tmp_path, results=tmp_path)
    assert len(found.cells) == len({cell.name for cell in found.cells}) > 0
    assert not found.of("refused")
    ids = [cell.id for cell in found.cells if cell.id]  # none without the data or the weights
    assert len(set(ids)) == len(ids)
    if all(cell.variant.preset in ("smoke", "mini") for cell in found.cells):
        assert not found.of("missing")
    else:
        assert all("--data" in cell.reason or "weights" in cell.reason for cell in found.of("missing"))
        assert not found.of("todo")
