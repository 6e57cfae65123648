"""Strips of real and imagined frames."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from matplotlib import image
from tests.tasks.pusht.conftest import BLOCK, HISTORY
from torch import nn

from ocwm.types import ClipSpec, LatentBatch
from ocwm_tasks.pusht.control import NEVER, control
from ocwm_tasks.pusht.encoded import encode_episodes
from ocwm_tasks.pusht.gallery import _verdict, choose, draw_gallery, imagined_states
from ocwm_tasks.pusht.probe import PoseProbe
from ocwm_tasks.pusht.state import POSITIONS


class Recorded:
    def act(self, views):
        return np.stack([view.problem.recorded[view.step : view.step + BLOCK] for view in views])


@pytest.fixture(scope="module")
def outcomes(problems):
    return control(problems, Recorded(), budget=2 * BLOCK, block=BLOCK, history=HISTORY)


@pytest.mark.parametrize(
    ("hits", "count", "chosen"),
    [
        ("++--++", 4, [0, 1, 2, 3]),
        ("------", 3, [0, 1, 2]),
        ("-+++++", 4, [0, 1, 2, 3]),
        ("-----+", 3, [0, 1, 5]),
        ("+-", 5, [0, 1]),
        ("+-", 0, []),
    ],
)
def test_half_of_the_shown_problems_are_reached_where_there_are_enough(hits, count, chosen):
    assert choose(np.array([hit == "+" for hit in hits]), count) == chosen


def test_a_verdict_says_what_was_reached_and_what_is_left(outcomes):
    hit = outcomes.joint_hit[0]
    assert _verdict(outcomes, 0).startswith(f"problem 0: reached after {hit} actions; at the end agent 0 px")
    goals = outcomes.goals + np.array([0, 0, 30.0, 40.0, 0, 0, 0])
    goals[:, 4] += np.radians(10)
    never = np.full_like(outcomes.joint_hit, NEVER)
    missed = replace(outcomes, goals=goals, joint_hit=never, block_hit=never)
    assert _verdict(missed, 1) == "problem 1: not reached; at the end agent 0 px, block 50 px and 10° off"
    only_block = replace(missed, block_hit=np.ones_like(never))
    assert "not reached, the block alone after 1 action;" in _verdict(only_block, 1)
    there_before = replace(only_block, goals=outcomes.states[:, 0])
    assert "not reached; " in _verdict(there_before, 1)


def test_every_problem_has_a_strip_with_what_was_imagined_below(outcomes, tmp_path):
    def drawn(*imagined):
        path = tmp_path / "gallery.png"
        draw_gallery(path, outcomes, imagined, chosen=list(range(len(imagined))), block=BLOCK, title="a title")
        return image.imread(path)[..., :3]

    after = outcomes.states[:, BLOCK::BLOCK]
    one, two, three = drawn(None), drawn(None, None), drawn(None, after[1])
    assert one.shape[1] == two.shape[1] == three.shape[1]
    strip = two.shape[0] - one.shape[0]
    assert 120 < strip < 190
    assert 120 < three.shape[0] - two.shape[0] < 130
    # What is imagined rightly looks like what is real above it; what is imagined wrongly does not.
    cell = three.shape[0] - two.shape[0]
    below = three[-130:-14]
    np.testing.assert_array_equal(three[-130 - cell : -14 - cell, 330:440], below[:, 330:440])
    wrong = drawn(None, after[1] + 40 * np.eye(7)[2])
    assert (wrong[-130:-14, 330:440] != below[:, 330:440]).any()


@dataclass
class Oracle(nn.Module):
    """Knows what comes: the latents that the encoder gives for the real future."""

    futures: list
    asked: list

    @property
    def clip(self):
        return ClipSpec(HISTORY, 1, BLOCK)

    def rollout(self, history, *, steps):
        self.asked.append(history)
        return LatentBatch(self.futures.pop(0)[:, :steps])


@pytest.mark.parametrize("take", [1, 2])
def test_imagination_starts_anew_where_a_plan_was_made(problems, outcomes, observer, played, take):
    latents, slot_of = encode_episodes(observer.encoder, played)
    probe = PoseProbe.fit(latents, played, slot_of)
    number = next(row for row, problem in enumerate(problems) if len(problem.past_states) == HISTORY - 1)
    problem, states, actions = problems[number], outcomes.states[number], outcomes.actions[number]
    real = observer.encode(states[None, BLOCK::BLOCK], np.array([problem.episode])).latents
    oracle = Oracle([real[:, first : first + take] for first in range(0, 2, take)], [])
    found = imagined_states(
        problem,
        states,
        actions,
        model=oracle,
        observer=observer,
        probe=probe,
        slot_of=slot_of[[played.number_of(problem.episode)]],
        block=BLOCK,
        history=HISTORY,
        take=take,
    )
    np.testing.assert_allclose(found[:, POSITIONS], states[BLOCK::BLOCK, POSITIONS], atol=0.5)
    assert len(oracle.asked) == 2 // take
    for plan, seen in enumerate(oracle.asked):
        first = plan * take * BLOCK
        assert seen.actions.shape[1] == seen.latents.shape[1] - 1 + take
        torch.testing.assert_close(seen.proprio[0, -1], observer.embed(states[None, first])[0])
        taken = observer.normalised(actions[first : first + take * BLOCK].reshape(take, BLOCK, 2))
        torch.testing.assert_close(seen.actions[0, -take:], taken)
