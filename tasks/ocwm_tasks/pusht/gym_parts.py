"""The parts of gym-pusht that this package uses: the bodies of its scene and its drawing.

gym-pusht is installed without its dependencies: it asks for opencv-python, which needs a desktop's libraries and overwrites
the headless build. It is imported when a simulator is built, never before.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

from ocwm.errors import BenchError

GYM_PUSHT = "gym-pusht==0.1.8"


@dataclass(frozen=True)
class GymParts:
    """Modules and classes of gym-pusht and what it is built on."""

    env: Any  # PushTEnv: only its static methods that make bodies are used
    draw_options: Any  # its DrawOptions
    pymunk: Any
    pygame: Any


@cache
def gym_parts() -> GymParts:
    """Import gym-pusht; no window is opened and nothing is printed.

    Raises:
        BenchError: it, or something that it needs, is not installed.
    """
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*pkg_resources.*")  # pygame's way to find its own files
            import pygame
        import pymunk
        from gym_pusht.envs.pusht import PushTEnv
        from gym_pusht.envs.pymunk_override import DrawOptions
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing == "gym_pusht":
            raise BenchError(
                "Push-T needs gym-pusht, which is not installed", f"Run: pip install --no-deps {GYM_PUSHT}"
            ) from error
        raise BenchError(
            f"Push-T needs the package '{missing}', which is not installed", f"Run: pip install {missing}"
        ) from error
    return GymParts(PushTEnv, DrawOptions, pymunk, pygame)


class Scene:
    """Arena, agent and block as gym-pusht makes them, in a space of their own."""

    def __init__(self) -> None:
        parts = gym_parts()
        env = parts.env
        self.space = parts.pymunk.Space()
        self.space.gravity = 0, 0
        self.space.damping = 0.0  # a block that nothing pushes stands still
        corners = [(5, 506), (5, 5), (506, 5), (506, 506)]
        walls = [(corners[0], corners[1]), (corners[1], corners[2]), (corners[2], corners[3]), (corners[0], corners[3])]
        self.space.add(*(env.add_segment(self.space, *wall, 2) for wall in walls))
        self.agent = env.add_circle(self.space, (256, 400), 15)
        self.block, self.block_shapes = env.add_tee(self.space, (256, 300), 0)

    def place(self, state7: Any) -> None:
        """Put agent and block at a state (7,); the block rests.

        The angle comes first: pymunk turns a body about its centre of gravity, which is not where its position is, so
        that a turn afterwards would move the position.
        """
        agent_x, agent_y, block_x, block_y, angle, vx, vy = (float(value) for value in state7)
        self.agent.velocity = vx, vy
        self.agent.position = agent_x, agent_y
        self.block.angle = angle
        self.block.position = block_x, block_y
        self.block.velocity = 0, 0
        self.block.angular_velocity = 0
