"""Frames and masks: functions of the pose alone."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ocwm_tasks.pusht.rendering import render_masks, render_state
from ocwm_tasks.pusht.simulator import Simulator

STATE = np.array([120.0, 250.0, 330.0, 330.0, 2.0, 0.0, 0.0])
BLUE, GREY = (65, 105, 225), (119, 136, 153)


def share(frame, color):
    return np.isclose(frame.astype(int), color, atol=1).all(axis=-1).mean()


def test_velocities_and_what_was_drawn_before_do_not_matter():
    first = render_state(STATE, 96)
    render_state(STATE + 30.0, 96)
    np.testing.assert_array_equal(render_state([*STATE[:5], 300.0, -100.0], 96), first)


def test_drawing_leaves_a_simulation_alone():
    drawn, plain = Simulator(), Simulator()
    drawn.reset(STATE)
    plain.reset(STATE)
    for _ in range(8):
        drawn.frame(64)
        np.testing.assert_array_equal(drawn.step([0.4, 0.05]), plain.step([0.4, 0.05]))


def test_several_threads_draw_the_same_frames():
    states = np.tile(STATE, (60, 1))
    states[:, 0] += 5 * np.arange(60)
    one_by_one = [render_state(state, 512) for state in states]
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(4) as pool:
            together = list(pool.map(lambda state: render_state(state, 512), states))
            masks = list(pool.map(lambda state: render_masks(state, 64), states))
    finally:
        sys.setswitchinterval(switch)
    np.testing.assert_array_equal(np.stack(together), np.stack(one_by_one))
    np.testing.assert_array_equal(masks[-1], render_masks(states[-1], 64))


def test_the_green_t_can_be_left_out():
    with_anchor, without = render_state(STATE, 512), render_state(STATE, 512, draw_anchor=False)
    green = (144, 238, 144)
    assert share(with_anchor, green) > 0.01
    assert share(without, green) == 0.0
    assert share(without, BLUE) == share(with_anchor, BLUE) > 0


def test_masks_show_agent_and_block_where_the_frame_does():
    frame, masks = render_state(STATE, 512, draw_anchor=False), render_masks(STATE, 512)
    drawn = (np.abs(frame.astype(int) - 255).sum(axis=-1) > 0) & ~np.isclose(frame, 211, atol=1).all(axis=-1)
    np.testing.assert_array_equal(masks > 0, drawn)  # all that is neither white nor wall
    blue = frame[..., 2].astype(int) - frame[..., 0] > 100
    np.testing.assert_array_equal(masks == 1, blue)
    small = render_masks(STATE, 64)
    assert abs((small == 2).mean() - (masks == 2).mean()) < 0.003
