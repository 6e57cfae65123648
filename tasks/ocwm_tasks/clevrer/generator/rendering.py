"""Renders videos out of stored states: those that the data set was made without pictures of.

The same renderer, the same encoding: a video is the same whether it was rendered with the data or afterwards.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ocwm_tasks.clevrer.generator.layout import write_pictures
from ocwm_tasks.clevrer.generator.render import Motion, Renderer
from ocwm_tasks.clevrer.scene import ROLLOUT_FRAMES
from ocwm_tasks.workers import worker_pool


@dataclass(frozen=True)
class Untaken:
    """A video without pictures: its number and how its objects move, 160 frames or more."""

    index: int
    motion: Motion


@functools.cache
def renderer(width: int, height: int) -> Renderer:
    """The renderer of a process for one image size."""
    return Renderer(width, height)


def render_videos(
    root: Path,
    split: str,
    videos: Sequence[Untaken],
    *,
    width: int,
    height: int,
    workers: int,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Write frames and masks of videos into a folder, where `write_pictures` puts them.

    Errors: OSError when a file can't be written.
    """
    with worker_pool(min(workers, len(videos))) as run:
        for _ in run(functools.partial(_render, root, split, width, height), videos):
            if progress is not None:
                progress(1)


def _render(root: Path, split: str, width: int, height: int, video: Untaken) -> None:
    pictures = renderer(width, height).render(video.motion, frames=ROLLOUT_FRAMES)
    write_pictures(root, split, video.index, pictures)
