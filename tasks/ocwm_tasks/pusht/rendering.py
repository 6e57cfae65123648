"""Frames and masks of Push-T states: pure functions of the pose, drawn as gym-pusht draws.

The published frames mark contacts between agent and block in red; those marks are found from the pose too.

Shape letters: H, W image height and width.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocwm_tasks.pusht.gym_parts import Scene, gym_parts
from ocwm_tasks.pusht.state import ANGLE

CANVAS = 512  # px; every frame is drawn at this size, then resized
ANCHOR_POSE = (256.0, 256.0, np.pi / 4)  # the green T: always there, and not the goal of planning tasks
AGENT_MASK, BLOCK_MASK = 1, 2
_SOME_TIME = 0.01  # s; nothing moves, so any will do
_EASEL = threading.Lock()  # videos are read by several threads, and there is one surface


class _Easel:
    """A surface with a background, and gym-pusht's way to draw a space on it."""

    def __init__(self, background: Any, *, contacts: bool) -> None:
        parts = gym_parts()
        self._background = background
        self._surface = background.copy()
        self._options = parts.draw_options(self._surface)
        if not contacts:
            self._options.flags = parts.draw_options.DRAW_SHAPES

    def draw(self, scene: Scene) -> NDArray[np.uint8]:
        """Return what is drawn, (H, W, 4) BGRX; the array is overwritten by the next call."""
        self._surface.blit(self._background, (0, 0))
        scene.space.debug_draw(self._options)
        rows = np.frombuffer(self._surface.get_buffer(), dtype=np.uint8)
        return rows.reshape(CANVAS, -1)[:, : 4 * CANVAS].reshape(CANVAS, CANVAS, 4)


def _surface(color: tuple[int, int, int]) -> Any:
    surface = gym_parts().pygame.Surface((CANVAS, CANVAS), depth=32, masks=(0xFF0000, 0xFF00, 0xFF, 0))
    surface.fill(color)
    return surface


@cache
def _frame_easel(*, draw_anchor: bool) -> _Easel:
    parts = gym_parts()
    background = _surface((255, 255, 255))
    if draw_anchor:
        body = parts.env.get_goal_pose_body(np.array(ANCHOR_POSE))
        for shape in Scene().block_shapes:
            corners = [body.local_to_world(corner) for corner in shape.get_vertices()]
            parts.pygame.draw.polygon(
                background, parts.pygame.Color("LightGreen"), [(round(x), round(y)) for x, y in corners]
            )
    return _Easel(background, contacts=True)


@cache
def _mask_easel() -> _Easel:
    return _Easel(_surface((0, 0, 0)), contacts=False)


def _scene_of(state7: Any) -> Scene:
    scene = Scene()
    scene.place([*state7[: ANGLE + 1], 0.0, 0.0])
    scene.space.step(
        _SOME_TIME
    )  # shapes learn where they are, and contacts are found; without velocities nothing moves
    return scene


def render_state(state7: Any, size: int, *, draw_anchor: bool = True) -> NDArray[np.uint8]:
    """Return the frame (size, size, 3) RGB of a state (7,); its velocities do not matter.

    Args:
        state7: the state.
        size: side of the frame in px; the 512 px drawing is resized bilinearly, as published.
        draw_anchor: draw the published green T at its fixed place.
    """
    import cv2

    scene = _scene_of(state7)
    with _EASEL:
        resized = cv2.resize(_frame_easel(draw_anchor=draw_anchor).draw(scene), (size, size))
    return np.asarray(cv2.cvtColor(resized, cv2.COLOR_BGRA2RGB), dtype=np.uint8)


def render_masks(state7: Any, size: int) -> NDArray[np.uint8]:
    """Return the instance masks (size, size) of a state (7,): 0 background, 1 agent, 2 block, as far as they can be seen."""
    scene = _scene_of(state7)
    color = gym_parts().pygame.Color
    for shape in scene.space.shapes:
        shape.color = color(0, 0, 0)
    for shape in scene.agent.shapes:
        shape.color = color(255, 0, 0)  # gym-pusht lightens colours where it fills; these are as light as can be
    for shape in scene.block.shapes:
        shape.color = color(0, 255, 0)
    centres = ((np.arange(size) + 0.5) * CANVAS / size).astype(np.int64)
    with _EASEL:
        seen = _mask_easel().draw(scene)[centres[:, None], centres]
    masks = np.where(seen[..., 2] > 0, AGENT_MASK, np.where(seen[..., 1] > 0, BLOCK_MASK, 0))
    return masks.astype(np.uint8)
