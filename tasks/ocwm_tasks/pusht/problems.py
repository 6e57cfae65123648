"""Start/goal pairs as problems for the closed loop.

Shape letters: h observed frames, k actions of a block.
"""

from __future__ import annotations

import numpy as np

from ocwm_tasks.pusht.control import Problem
from ocwm_tasks.pusht.episodes import Episodes
from ocwm_tasks.pusht.pairs import Pairs
from ocwm_tasks.pusht.state import ACTION_DIM


def problems_of(pairs: Pairs, episodes: Episodes, *, block: int, history: int) -> list[Problem]:
    """Turn pairs into problems.

    Held-out pairs begin where the recorded episode stands, so that up to `history` - 1 frames before the start, one block
    apart, have been observed too; fewer where the episode is younger. The published protocols set a state out of nothing.
    """
    found = []
    for pair in range(len(pairs)):
        episode = episodes.episode(episodes.number_of(int(pairs.episodes[pair])))
        start = int(pairs.starts[pair])
        replayed = pairs.protocol == "held_out"
        known = min(history - 1, start // block) if replayed else 0
        rows = start - block * np.arange(known, 0, -1)
        actions = np.asarray(episode.actions, dtype=np.float64)
        found.append(
            Problem(
                number=pair,
                episode=episode.id,
                reset=np.array(episode.states[0] if replayed else pairs.start_states[pair]),
                lead=actions[:start] if replayed else actions[:0],
                goal=pairs.goal_states[pair],
                recorded=np.asarray(pairs.actions(episodes, pair), dtype=np.float64),
                past_states=np.asarray(episode.states)[rows],
                past_actions=actions[rows[:, None] + np.arange(block)].reshape(known, block, ACTION_DIM),
            )
        )
    return found
