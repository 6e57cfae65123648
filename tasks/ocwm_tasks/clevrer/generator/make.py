"""Makes the embedded data set: simulates, renders and asks, on several processes.

Every video has a random stream of its own, from the seed, its split and its number. So the data does not depend on how
many processes share the work, and a split keeps its first videos when it grows (their questions change: they are
balanced over the split).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ocwm_tasks.clevrer.generator.candidates import Video, draw_video
from ocwm_tasks.clevrer.generator.config import GeneratorConfig
from ocwm_tasks.clevrer.generator.layout import (
    FIRST_INDEX,
    write_annotation,
    write_marker,
    write_pictures,
    write_questions,
    write_states,
)
from ocwm_tasks.clevrer.generator.questions import QuestionMaker, QuestionSource
from ocwm_tasks.clevrer.generator.rendering import renderer
from ocwm_tasks.clevrer.scene import ROLLOUT_FRAMES
from ocwm_tasks.workers import worker_pool

VERSION = 2  # of the numbers that the generator makes: any change that alters a byte of the data raises it

SPLITS = tuple(FIRST_INDEX)


def make_dataset(
    root: Path,
    config: GeneratorConfig,
    *,
    seed: int,
    workers: int,
    progress: Callable[[int], object] | None = None,
) -> None:
    """Write the whole data set into an empty folder, in the layout of `layout.py`.

    Args:
        root: an empty folder.
        config: settings.
        seed: of everything; the splits have streams of their own.
        workers: processes; 1 works without any further process.
        progress: called with 1 after each of the `config.videos(split)` videos of each split.

    Errors: OSError when a file can't be written (a full disk: errno ENOSPC), BenchError when the settings can't be met.
    When it is interrupted, the processes stop after the video that they are at.
    """
    with worker_pool(min(workers, sum(map(config.videos, SPLITS)))) as run:
        streams = {split: _stream(seed, split) for split in SPLITS}
        orders = {split: streams[split].permutation(config.videos(split)).tolist() for split in SPLITS}
        waiting = {
            split: run(functools.partial(_make_video, root, config, seed, split), orders[split]) for split in SPLITS
        }
        for split in SPLITS:
            questions = config.questions.of_training() if split == "train" else config.questions
            maker = QuestionMaker(questions, streams[split])
            made: dict[int, tuple[Video, dict[str, Any]]] = {}
            for row, video in zip(orders[split], waiting.pop(split), strict=True):
                # Asked here while the other processes make the next videos.
                asked = maker.ask(QuestionSource(FIRST_INDEX[split] + row, video.simulation, video.removals))
                made[row] = video, asked
                if progress is not None:
                    progress(1)
            write_states(root, split, [made[row][0] for row in sorted(made)])
            write_questions(root, split, [made[row][1] for row in sorted(made)])
    write_marker(root, config, seed=seed, version=VERSION)


def draw_again(config: GeneratorConfig, *, seed: int, split: str, index: int) -> Video:
    """Return a video of the data set by its number, without making the others. Errors: as `draw_video`."""
    return draw_video(_stream(seed, split, index - FIRST_INDEX[split]), config)


def _make_video(root: Path, config: GeneratorConfig, seed: int, split: str, row: int) -> Video:
    video = draw_video(_stream(seed, split, row), config)
    if row < config.rendered(split):
        index = FIRST_INDEX[split] + row
        pictures = renderer(config.width, config.height).render(video.simulation, frames=ROLLOUT_FRAMES)
        write_pictures(root, split, index, pictures)
        write_annotation(root, split, index, video.simulation)
    return video


def _stream(seed: int, split: str, *row: int) -> np.random.Generator:
    """The random stream of a video, or without a row that of its split's questions."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(SPLITS.index(split), *row)))
