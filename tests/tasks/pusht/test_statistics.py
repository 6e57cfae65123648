"""The figures of a data set, on episodes whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib import image

from ocwm_tasks.pusht.episodes import join_episodes
from ocwm_tasks.pusht.pictures import GAP, SIDE, contact_sheet
from ocwm_tasks.pusht.statistics import describe, render


@pytest.fixture(scope="module")
def episodes():
    """One episode of 41 rows: the block moves 2 px a step for 20 steps, then turns 3 degrees a step; one of 3 that rests."""
    states = np.tile([[50.0, 60.0, 200.0, 250.0, 6.2, 0.0, 0.0]], (44, 1))
    states[:41, 2] += 2.0 * np.minimum(np.arange(41), 20)
    states[:41, 4] = np.mod(6.2 + np.radians(3.0) * np.maximum(np.arange(41) - 20, 0), 2 * np.pi)
    actions = np.zeros((44, 2), np.float32)
    actions[:40, 0] = np.tile([0.1, -0.1], 20)
    actions[40] = 9.0  # leads out of the episode
    return join_episodes([states[:41], states[41:]], [actions[:41], actions[41:]], [0, 1], about={})


def test_figures(episodes):
    facts = describe(episodes)
    assert (facts["episodes"], facts["rows"], facts["shortest"], facts["longest"]) == (2, 44, 3, 41)
    np.testing.assert_allclose(facts["action_std"], [0.1 * np.sqrt(40 / 42), 0.0], rtol=1e-6)
    assert facts["step_moved"] == pytest.approx(20 / 42)
    assert facts["step_turned"] == pytest.approx(20 / 42)
    starts = np.arange(16)  # of 25 steps
    moved, turned = 2 * (20 - starts) > 20, 3 * (starts + 5) > 20
    assert facts["far_moved"] == pytest.approx(moved.mean())
    assert facts["far_turned"] == pytest.approx(turned.mean())
    assert facts["far_either"] == pytest.approx((moved | turned).mean())
    assert facts["unmoved"] == 0.0


def test_the_table_has_every_split_beside_the_published_figures(episodes):
    short = describe(episodes.select([1]))
    assert short["far_moved"] is None
    table = render({"train": describe(episodes), "dev": short})
    lines = {line[:40].strip(): line for line in table.splitlines()}
    assert table.splitlines()[0].split() == ["train", "dev", "published"]
    assert "47.6 %" in lines["steps in which the block moves > 1 px"]
    assert "0.202, 0.200" in lines["action std x, y (100 px)"]
    assert lines["25 steps: moved > 20 px"].split()[-2:] == ["-", "-"]


def test_a_contact_sheet_shows_episodes_in_rows(episodes, tmp_path):
    path = tmp_path / "sheet.png"
    contact_sheet(episodes, path, shown=4, columns=3)
    sheet = image.imread(path)
    assert sheet.shape[:2] == (2 * SIDE + GAP, 3 * SIDE + 2 * GAP)
    first, last = sheet[:SIDE, :SIDE], sheet[:SIDE, -SIDE:]
    assert np.abs(first - last).mean() > 0.005  # the block has moved
