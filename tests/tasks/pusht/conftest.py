"""A few played episodes, the problems between their rows, and what plans on them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ocwm.config import compose, instantiate
from ocwm.interfaces import WorldModel
from ocwm.planning import Objective, Planner, PlannerConfig
from ocwm.types import LatentSpec
from ocwm_tasks.pusht.control import Problem
from ocwm_tasks.pusht.controllers import ModelController
from ocwm_tasks.pusht.episodes import Episodes, join_episodes
from ocwm_tasks.pusht.normalisation import column_statistics
from ocwm_tasks.pusht.observer import Observer
from ocwm_tasks.pusht.pairs import Pairs, draw_pairs
from ocwm_tasks.pusht.play.config import PlayConfig
from ocwm_tasks.pusht.play.make import play_episode
from ocwm_tasks.pusht.problems import problems_of

BLOCK, HISTORY, OFFSET = 5, 3, 10


@pytest.fixture(scope="session")
def played() -> Episodes:
    """Four episodes of 41 rows with the ids 100..103."""
    parts = [play_episode(PlayConfig(steps=40), seed=5, split="test", number=number) for number in range(4)]
    return join_episodes(*map(list, zip(*parts, strict=True)), 100 + np.arange(4), about={})


@pytest.fixture(scope="session")
def held_out(played: Episodes) -> Pairs:
    return draw_pairs(played, count=6, offset=OFFSET, seed=0)


@pytest.fixture(scope="session")
def problems(held_out: Pairs, played: Episodes) -> list[Problem]:
    return problems_of(held_out, played, block=BLOCK, history=HISTORY)


@pytest.fixture(scope="session")
def observer(played: Episodes) -> Observer:
    encoder = instantiate(compose(method=None, task="pusht", preset="tiny").values.encoder)
    actions = column_statistics(played.actions).repeated(BLOCK)
    return Observer(encoder, torch.device("cpu"), actions, column_statistics(played.proprio), 32)


@pytest.fixture(scope="session")
def planner() -> Planner:
    config = PlannerConfig(samples=8, iterations=2, elites=3, horizon=2)
    return Planner(config, action_dim=2 * BLOCK, block=BLOCK)


@pytest.fixture(scope="session")
def world_model(observer: Observer) -> Callable[[str], WorldModel]:
    """Return what builds a method at `tiny`, with the first weights that seed 0 gives."""

    def build(method: str) -> WorldModel:
        spec = LatentSpec(2, observer.encoder.slot_dim, action_dim=2 * BLOCK, proprio_dim=4)
        torch.manual_seed(0)
        model: WorldModel = instantiate(compose(method=method, task="pusht", preset="tiny").values.method, spec)
        return model.eval()

    return build


@pytest.fixture(scope="session")
def model_controller(
    observer: Observer, planner: Planner, world_model: Callable[[str], WorldModel]
) -> Callable[..., ModelController]:
    """Return what builds a controller around an untrained method."""

    def build(method: str, *, take: int = 1) -> ModelController:
        return ModelController(world_model(method), observer, planner, Objective(), seed=0, take=take)

    return build
