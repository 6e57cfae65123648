"""Every method with every encoder on every task at `tiny`: the conformance suites on real latents, and refusals.

Whole runs of every method are in tests/tasks. What a task refuses is asked of the task, so a pair that it learns to run is
checked here without an edit.
"""

from __future__ import annotations

from functools import cache
from itertools import product
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor

from ocwm import registry
from ocwm.config import Config, compose, import_class, instantiate
from ocwm.errors import BenchError
from ocwm.run import prepare
from ocwm.testing import check_encoder, check_method
from ocwm.testing.encoders import pixels
from ocwm.types import Observations


def built_in(kind: str) -> list[str]:
    return [name for name, plugin in registry.plugins(kind).items() if plugin.package.startswith("ocwm_")]


METHODS, REFERENCES, TASKS = built_in("method"), built_in("reference"), built_in("task")
# Slots that exist already can't be had without their file; tests/tasks/clevrer/test_precomputed.py makes one.
ENCODERS = [name for name in built_in("encoder") if name != "precomputed"]
FRAMES = 17  # six of history and eleven of rollout


def configured(method: str | None, task: str, encoder: str) -> Config:
    return compose(method=method, task=task, preset="tiny", overrides=[f"encoder={encoder}"])


@cache
def states(task: str) -> Observations:
    found: Observations = instantiate(compose(method=None, task=task, preset="tiny").values.task).states(
        videos=4, frames=FRAMES
    )
    return found


@cache
def latents(task: str, encoder: str) -> Tensor:
    """What the encoder makes of drawn states or frames (B, T, N, D)."""
    built = instantiate(configured(None, task, encoder).values.encoder)
    seen = states(task) if built.reads == "state" else pixels(videos=4, frames=FRAMES)
    found: Tensor = built.encode(seen)[0].latents
    return found


def failures(checks: object) -> dict[str, str]:
    return {check.name: check.detail for check in checks if not check.passed}


@pytest.mark.parametrize(("task", "encoder"), list(product(TASKS, ENCODERS)))
def test_encoders_keep_their_promises(task: str, encoder: str) -> None:
    node: DictConfig = configured(None, task, encoder).values.encoder
    needed = states(task) if import_class(node).reads == "state" else None
    assert failures(check_encoder(encoder, node=node, states=needed)) == {}


@pytest.mark.parametrize(("method", "task", "encoder"), list(product(METHODS + REFERENCES, TASKS, ENCODERS)))
def test_methods_keep_their_promises_on_the_latents_of_every_encoder(method: str, task: str, encoder: str) -> None:
    node = configured(method, task, encoder).values.method
    assert failures(check_method(method, node=node, latents=latents(task, encoder))) == {}


@pytest.mark.parametrize("method", METHODS)
def test_methods_keep_their_promises_with_actions_and_proprioception(method: str) -> None:
    node = compose(method=method, task=TASKS[0], preset="tiny").values.method
    checks = list(check_method(method, node=node))
    assert failures(checks) == {}
    conditioned = {"actions", "proprio"} <= import_class(node).capabilities
    assert any("before it is due" in check.name for check in checks) == conditioned


@pytest.mark.parametrize(("method", "task", "encoder"), list(product(METHODS + REFERENCES, TASKS, ENCODERS)))
def test_a_pair_is_prepared_or_refused_with_a_reason(method: str, task: str, encoder: str, tmp_path: Path) -> None:
    config = compose(
        method=method, task=task, preset="tiny", overrides=[f"encoder={encoder}", f"runtime.home={tmp_path}"]
    )
    problem = instantiate(config.values.task)
    problem.encoder = instantiate(config.values.encoder)
    cls = import_class(config.values.method)
    lacks_actions = "actions" in problem.needs and method in METHODS and "actions" not in cls.capabilities
    reason = "it lacks the capability actions" if lacks_actions else problem.refuses(cls, problem.encoder)
    if reason:
        with pytest.raises(BenchError, match=f"{method} with encoder {encoder} can't run on {task}") as refused:
            prepare(config)
        assert reason in str(refused.value)
        return
    cell = prepare(config)
    assert cell.id is not None
    assert cell.encoder.num_slots * cell.encoder.slot_dim == torch.tensor(latents(task, encoder).shape[2:]).prod()
