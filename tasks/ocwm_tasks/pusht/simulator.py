"""The Push-T environment with states that can be set: gym-pusht's bodies under this project's control loop.

Physics, control constants and drawing are gym-pusht's, checked bit for bit; its observations, coverage reward and random
starts, which take nine tenths of its time, are not computed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocwm.errors import BenchError
from ocwm_tasks.pusht.gym_parts import Scene
from ocwm_tasks.pusht.rendering import render_state
from ocwm_tasks.pusht.state import ACTION_SCALE, FULL_TURN, STATE_DIM

SIMULATOR_VERSION = 1  # goes up whenever states or frames change

TICK = 0.01  # s
TICKS_PER_STEP = 10  # an action lasts 0.1 s
K_P, K_V = 100.0, 20.0  # of the controller that moves the agent towards its target


class Simulator:
    """One Push-T environment.

    The same reset and the same actions give the same states bit for bit, in any process on the same type of machine.

    Args:
        published_reset: let 0.01 s pass at every reset, as the environments of DINO-WM and C-JEPA do: the agent has
            then moved on by its velocity times 0.01 s.
    """

    def __init__(self, *, published_reset: bool = False) -> None:
        self._published_reset = published_reset
        self._scene = Scene()

    @property
    def state(self) -> NDArray[np.float64]:
        """The state (7,) now."""
        agent, block = self._scene.agent, self._scene.block
        angle = block.angle % FULL_TURN
        angle = 0.0 if angle == FULL_TURN else angle  # what a tiny negative angle is rounded to
        return np.array([*agent.position, *block.position, angle, *agent.velocity], dtype=np.float64)

    def reset(self, state7: Any) -> NDArray[np.float64]:
        """Set a state (7,), the block at rest and no contact remembered; return the state (7,) that holds then.

        Raises:
            BenchError: the state is not 7 finite numbers.
        """
        wanted = np.asarray(state7, dtype=np.float64)
        if wanted.shape != (STATE_DIM,) or not np.isfinite(wanted).all():
            raise BenchError(
                f"a Push-T state of {wanted.tolist()} can't be set",
                "Give 7 finite numbers: agent x, y, block x, y, angle, agent vx, vy.",
            )
        self._scene = Scene()  # a new space: pymunk remembers contacts from step to step
        self._scene.place(wanted)
        if self._published_reset:
            self._scene.space.step(TICK)
        return self.state

    def step(self, action2: Any) -> NDArray[np.float64]:
        """Apply a relative action (2,) for 0.1 s: the target is the agent's position plus 100 px times it, not clipped.

        Returns:
            The state (7,) after it.
        """
        x, y = self._scene.agent.position
        return self.step_absolute((x + ACTION_SCALE * float(action2[0]), y + ACTION_SCALE * float(action2[1])))

    def step_absolute(self, target_px: Any) -> NDArray[np.float64]:
        """Move the agent towards a target (2,) in px for 0.1 s; return the state (7,) after it."""
        agent, step = self._scene.agent, self._scene.space.step
        target_x, target_y = float(target_px[0]), float(target_px[1])
        x, y = agent.position
        vx, vy = agent.velocity
        for _ in range(TICKS_PER_STEP):
            vx += (K_P * (target_x - x) + K_V * (0.0 - vx)) * TICK
            vy += (K_P * (target_y - y) + K_V * (0.0 - vy)) * TICK
            agent.velocity = vx, vy
            step(TICK)
            x, y = agent.position
        return self.state

    def frame(self, size: int, *, draw_anchor: bool = True) -> NDArray[np.uint8]:
        """Return the frame (size, size, 3) RGB of the state now; see `rendering.render_state`."""
        return render_state(self.state, size, draw_anchor=draw_anchor)


def replay(simulator: Simulator, start7: Any, actions: NDArray[Any]) -> NDArray[np.float64]:
    """Reset to a state (7,) and apply relative actions (T, 2); return the states (T + 1, 7), the first after the reset."""
    states = np.empty((len(actions) + 1, STATE_DIM), dtype=np.float64)
    states[0] = simulator.reset(start7)
    for step, action in enumerate(actions):
        states[step + 1] = simulator.step(action)
    return states
