"""Figures of outcomes that are written down by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ocwm_tasks.pusht.control import NEVER, Outcomes
from ocwm_tasks.pusht.measures import NOTHING, Figures, declare

GOAL = [100.0, 100.0, 200.0, 200.0, 0.1, 0.0, 0.0]
FAR = [400.0, 400.0, 300.0, 200.0, 0.1, 0.0, 0.0]
BLOCK_ONLY = [400.0, 400.0, 200.0, 200.0, 0.1, 0.0, 0.0]
TURNED = [100.0, 100.0, 200.0, 200.0, 2 * np.pi - 0.1, 0.0, 0.0]  # 11.5 degrees past zero


def outcomes(*ways, joint, block):
    states = np.array(ways)
    count, rows = states.shape[:2]
    return Outcomes(
        states, np.zeros((count, rows - 1, 2)), np.array([GOAL] * count), np.array(joint), np.array(block), 0.0
    )


@pytest.fixture
def figures():
    """Four problems: reached and kept; reached and left; never; the block in place from the start, the agent arrives."""
    figures = Figures(np.random.default_rng(0), 200)
    figures.add_outcomes(
        outcomes(
            [FAR, BLOCK_ONLY, TURNED],
            [FAR, GOAL, FAR],
            [FAR, FAR, FAR],
            [BLOCK_ONLY, BLOCK_ONLY, GOAL],
            joint=[2, 1, NEVER, 2],
            block=[1, 1, NEVER, 1],
        ),
        items=np.arange(4),
        episodes=np.array([7, 7, 8, 9]),
    )
    return figures


def test_both_rules_at_any_step_and_at_the_last(figures):
    found = {key: (value.value, value.n) for key, value in figures.values.items() if key.startswith("success")}
    assert found == {
        "success.joint.first_hit": (75.0, 4),
        "success.joint.final": (50.0, 4),
        "success.block.first_hit": (pytest.approx(200 / 3), 3),  # where the block is in place already, nothing counts
        "success.block.final": (pytest.approx(100 / 3), 3),
    }
    assert figures.items["success.block.first_hit@item"].tolist() == [0, 1, 2]
    assert figures.items["success.block.first_hit@cluster"].tolist() == [7, 7, 8]
    assert figures.items["success.joint.first_hit"].tolist() == [True, True, False, True]


def test_success_has_wilson_intervals(figures):
    value = figures.values["success.joint.final"]  # 2 of 4
    assert value.interval == "Wilson"
    assert (value.low, value.high) == (pytest.approx(15.004, abs=0.01), pytest.approx(84.996, abs=0.01))


def test_errors_at_the_end_and_angles_across_zero(figures):
    turn = np.degrees(0.2)
    assert figures.items["error.angle.final"].tolist() == pytest.approx([turn, 0, 0, 0])
    assert figures.items["error.block.final"].tolist() == pytest.approx([0, 100, 100, 0])
    assert figures.items["error.agent.final"].tolist() == pytest.approx([0, 300 * 2**0.5, 300 * 2**0.5, 0])
    assert figures.values["error.block.final"].value == pytest.approx(50)
    assert figures.values["error.block.final"].low < 50 < figures.values["error.block.final"].high


def test_where_no_block_has_to_move_its_success_is_not_measured():
    figures = Figures(np.random.default_rng(0), 10)
    figures.add_outcomes(outcomes([BLOCK_ONLY, GOAL], joint=[1], block=[1]), items=np.arange(1), episodes=np.arange(1))
    assert "success.block.final" not in figures.values
    complete = figures.complete(declare(blocks=[1], objects_known=True))
    assert complete["success.block.final"] is NOTHING
    assert complete["success.joint.first_hit"].value == 100


def test_what_is_declared_depends_on_what_can_be_read():
    known = [metric.name for metric in declare(blocks=[1, 5], objects_known=True)]
    assert known[-6:] == [f"rollout.{what}_error.{h}" for what in ("slot", "agent", "block") for h in (1, 5)]
    unknown = [metric.name for metric in declare(blocks=[1, 5], objects_known=False)]
    assert unknown == known[:-4]
    assert list(Figures(np.random.default_rng(0), 1).complete(declare(blocks=[1], objects_known=False))) == unknown[:-1]
