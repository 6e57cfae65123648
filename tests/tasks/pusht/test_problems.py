"""Start/goal pairs as problems."""

from __future__ import annotations

import numpy as np
import pytest
from tests.tasks.pusht.conftest import BLOCK, HISTORY, OFFSET

from ocwm_tasks.pusht.pairs import draw_pairs
from ocwm_tasks.pusht.problems import problems_of
from ocwm_tasks.pusht.simulator import Simulator, replay


def test_held_out_problems_begin_where_the_episode_stands(problems, held_out, played):
    for number, problem in enumerate(problems):
        assert (problem.number, problem.episode) == (number, held_out.episodes[number])
        np.testing.assert_array_equal(
            replay(Simulator(), problem.reset, problem.lead)[-1], held_out.start_states[number]
        )
        np.testing.assert_array_equal(problem.goal, held_out.goal_states[number])
        assert problem.recorded.shape == (OFFSET, 2)


def test_what_was_done_before_the_start_leads_to_it(problems, played):
    for problem in problems:
        rows = played.episode(played.number_of(problem.episode))
        start, known = len(problem.lead), len(problem.past_states)
        first = start - known * BLOCK
        np.testing.assert_array_equal(problem.past_actions.reshape(-1, 2), rows.actions[first:start])


@pytest.mark.parametrize("protocol", ["cjepa", "dino_wm"])
def test_published_protocols_set_the_start_out_of_nothing(played, protocol):
    pairs = draw_pairs(played, count=5, offset=OFFSET, seed=1, protocol=protocol)
    for number, problem in enumerate(problems_of(pairs, played, block=BLOCK, history=HISTORY)):
        np.testing.assert_array_equal(problem.reset, pairs.start_states[number])
        assert len(problem.lead) == len(problem.past_states) == len(problem.past_actions) == 0
        assert problem.past_actions.shape == (0, BLOCK, 2)
        assert len(problem.recorded) == pairs.offset


def test_a_single_frame_of_history_needs_no_past(held_out, played):
    found = problems_of(held_out, played, block=BLOCK, history=1)
    assert {len(problem.past_states) for problem in found} == {0}
