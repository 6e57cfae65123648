"""The environment: gym-pusht's numbers bit for bit, exact resets, and nothing that a laptop would notice."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ocwm.errors import BenchError
from ocwm_tasks.pusht import gym_parts as parts_module
from ocwm_tasks.pusht.gym_parts import gym_parts
from ocwm_tasks.pusht.simulator import Simulator, replay
from ocwm_tasks.pusht.state import block_centre, turn_between, wrap

START = np.array([120.0, 250.0, 230.0, 260.0, 1.3, 0.0, 0.0])
PUSH = np.tile([[0.3, 0.02]], (15, 1))


def gym_env(state):
    """gym-pusht's own environment at a state, set angle first."""
    env = gym_parts().env(obs_type="state")
    env.reset(seed=0)
    env._setup()
    env.agent.velocity = tuple(state[5:7])
    env.agent.position = tuple(state[:2])
    env.block.angle = state[4]
    env.block.position = tuple(state[2:4])
    return env


def test_states_and_frames_are_those_of_gym_pusht_bit_for_bit():
    env, simulator = gym_env(START), Simulator()
    simulator.reset(START)
    touched = 0
    for action in PUSH:
        env.step(np.array(env.agent.position) + 100 * action)
        state = simulator.step(action)
        expected = [*env.agent.position, *env.block.position, env.block.angle % (2 * np.pi), *env.agent.velocity]
        np.testing.assert_array_equal(state, expected)
        published = env._get_img(env._draw(), 96, 96)
        np.testing.assert_array_equal(simulator.frame(96), published)
        touched += (published[..., 0] > published[..., 2] + 20).any()
    assert touched > 3  # contacts, which gym-pusht marks in red, were compared too
    assert np.hypot(*(state[2:4] - START[2:4])) > 20


def test_the_published_reset_lets_one_tick_pass():
    moving = [*START[:5], 100.0, -50.0]
    assert Simulator().reset(moving).tolist() == moving
    ticked = Simulator(published_reset=True).reset(moving)
    np.testing.assert_allclose(ticked[:2], START[:2] + np.array([1.0, -0.5]))


def test_a_reset_forgets_what_was_before():
    simulator = Simulator()
    first = replay(simulator, START, PUSH)
    np.testing.assert_array_equal(replay(simulator, START, PUSH), first)


def test_another_process_gives_the_same_bits():
    code = (
        "import numpy as np; from ocwm_tasks.pusht.simulator import Simulator, replay;"
        f"print(replay(Simulator(), {START.tolist()}, np.array({PUSH.tolist()})).tobytes().hex())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == replay(Simulator(), START, PUSH).tobytes().hex() + "\n"  # and pygame said nothing
    assert not done.stderr


def test_relative_actions_are_targets_from_the_agent_and_are_not_clipped():
    far = Simulator()
    far.reset(START)
    aimed = Simulator()
    aimed.reset(START)
    np.testing.assert_array_equal(far.step([-3.0, 4.0]), aimed.step_absolute(START[:2] + np.array([-300.0, 400.0])))


@pytest.mark.parametrize("state", [[1.0, 2.0], [np.nan, 0, 0, 0, 0, 0, 0]])
def test_states_that_can_not_be_set_are_refused(state):
    with pytest.raises(BenchError, match="can't be set"):
        Simulator().reset(state)


def test_angles_are_wrapped_and_compared_over_the_seam():
    assert wrap(-1e-20) == 0.0
    np.testing.assert_allclose(wrap(np.array([7.0, -1.0])), [7.0 - 2 * np.pi, 2 * np.pi - 1.0])
    np.testing.assert_allclose(turn_between(np.array([0.1]), np.array([6.2])), [0.1 + 2 * np.pi - 6.2])


def test_a_turn_leaves_the_centre_of_the_block_where_it_is():
    simulator = Simulator()
    simulator.reset(START)
    body = simulator._scene.block
    np.testing.assert_allclose(block_centre(START), body.local_to_world(body.center_of_gravity))


def test_a_missing_gym_pusht_is_one_line_with_the_command(monkeypatch):
    gym_parts.cache_clear()
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("gym_pusht"):
            raise ModuleNotFoundError(name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(BenchError, match=r"pip install --no-deps gym-pusht==0\.1\.8"):
        parts_module.gym_parts()
    monkeypatch.undo()
    assert gym_parts().env is not None


def test_the_command_names_the_version_that_make_installs():
    lines = (Path(__file__).parents[3] / "requirements-no-deps.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [parts_module.GYM_PUSHT]


def test_no_window_is_opened_and_a_users_choice_is_kept():
    gym_parts()
    assert os.environ["SDL_VIDEODRIVER"]
    code = (
        "import os; from ocwm_tasks.pusht.gym_parts import gym_parts; gym_parts(); print(os.environ['SDL_VIDEODRIVER'])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "SDL_VIDEODRIVER": "offscreen"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "offscreen\n"


def test_listing_tasks_imports_nothing_of_it():
    code = (
        "import sys; from ocwm.cli import main; sys.argv = ['bench', 'list']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([m for m in ('gym_pusht', 'gymnasium', 'pygame', 'pymunk', 'h5py', 'numcodecs') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
