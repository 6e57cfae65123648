"""What a world model may know of a problem, in the form that it is trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.tasks.pusht.conftest import BLOCK, HISTORY

from ocwm.types import LatentBatch
from ocwm_tasks.pusht.clips import action_blocks
from ocwm_tasks.pusht.control import View
from ocwm_tasks.pusht.rendering import render_state


@pytest.fixture(scope="module")
def views(problems, played):
    found = []
    for problem in problems:
        if len(problem.past_states) == HISTORY - 1:
            start = played.episode(played.number_of(problem.episode)).states[len(problem.lead)]
            frames = np.concatenate([problem.past_states, start[None]])
            found.append(View(problem, frames, problem.past_actions, 0, 0))
    assert len(found) >= 2
    return found


def test_history_and_goal(observer, views):
    history, goal = observer.look(views)
    assert history.latents.shape == (len(views), HISTORY, 2, observer.encoder.slot_dim)
    assert history.actions.shape == (len(views), HISTORY - 1, 2 * BLOCK)
    assert (goal.latents.shape[1], goal.proprio.shape) == (1, (len(views), 1, 4))
    # The goal's slots hold the objects that the history's do: agent and block of the same state are the same latents.
    still = [replace(view, problem=replace(view.problem, goal=view.states[-1])) for view in views]
    torch.testing.assert_close(observer.look(still)[1].latents, history.latents[:, -1:])


def test_actions_and_proprioception_are_normalised_as_in_training(observer, views, played):
    history, _ = observer.look(views)
    for row, view in enumerate(views):
        raw = torch.from_numpy(view.actions.reshape(-1, 2).astype(np.float32))
        expected = observer.actions.apply(action_blocks(raw, stride=BLOCK))
        torch.testing.assert_close(history.actions[row], expected)
    everything = observer.embed(played.states)
    torch.testing.assert_close(everything.mean(0), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(everything.std(0, correction=0), torch.ones(4), atol=1e-4, rtol=0)


def test_actions_come_back_as_they_went_in(observer):
    actions = np.random.default_rng(0).normal(0, 0.3, (4, 3 * BLOCK, 2))
    blocks = observer.normalised(actions.reshape(4, 3, BLOCK, 2))
    np.testing.assert_allclose(observer.unnormalised(blocks), actions, atol=1e-6)


def test_an_unknown_velocity_counts_as_average(observer, views):
    lacking = views[0].states.copy()
    lacking[:, 5:] = np.nan
    history, _ = observer.look([replace(views[0], states=lacking)])
    assert (history.proprio[..., 2:] == 0).all()
    assert history.proprio.isfinite().all()


class Camera:
    """An encoder of pixels that keeps what it is shown, and remembers how many frames it has seen."""

    reads = "pixels"

    def __init__(self):
        self.shown, self.carries = [], []

    def encode(self, observations, carry=None):
        assert observations.state is None
        self.shown.append(observations.pixels)
        self.carries.append(carry)
        frames = observations.pixels.shape[1]
        return LatentBatch(torch.zeros(len(observations.ids), frames, 3, 4)), (carry or 0) + frames


def test_an_encoder_of_pixels_gets_frames_and_goes_on_to_the_goal(observer, views):
    camera = Camera()
    replace(observer, encoder=camera, frame_size=24).look(views)
    seen, goals = camera.shown
    assert seen.shape == (len(views), HISTORY, 3, 24, 24)
    for row, view in enumerate(views):
        for frame, state in zip(seen[row], view.states, strict=True):
            np.testing.assert_array_equal(frame.permute(1, 2, 0).numpy(), render_state(state, 24))
        np.testing.assert_array_equal(goals[row, 0].permute(1, 2, 0).numpy(), render_state(view.problem.goal, 24))
    assert camera.carries == [None, HISTORY]
