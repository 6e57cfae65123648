"""The second protocol: a reasoner sees the first frames of a video and the model's rollout of the rest.

Shape letters: V videos, T all frames (160), H history frames, N slots, D slot dimension, n objects, R removals.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ocwm.errors import BenchError
from ocwm.interfaces import RolloutReference, WorldModel
from ocwm.types import LatentBatch
from ocwm_tasks.clevrer.executor import ERROR, NotExecutable, answer, judge
from ocwm_tasks.clevrer.scene import OBSERVED_FRAMES, ROLLOUT_FRAMES, Scene
from ocwm_tasks.clevrer.world import World

AFTER_ENTRANCE = 12  # observed frames after the last entrance: a history of 6 at stride 2
LEAST_PREFIX = 12

Float32 = NDArray[np.float32]
Ints = NDArray[np.int64]


def entrances(scene: Scene) -> Ints:
    """(n,) the first frame in which each object is in view; past the end for one that never is."""
    seen = scene.visible
    return np.where(seen.any(axis=0), seen.argmax(axis=0), len(scene.frames))


def prefixes(scenes: Sequence[Scene], *, fixed: int, least: int) -> Ints:
    """Observed frames of each video: `fixed`, or with 0 its last entrance + 12; at least what a model's history spans.

    Raises:
        BenchError: a fixed prefix that is too short for the model or longer than the observed frames.
    """
    least = max(least, LEAST_PREFIX)
    if fixed:
        if not least <= fixed <= OBSERVED_FRAMES:
            raise BenchError(f"task.prefix={fixed} does not work here", f"Choose 0 or {least}..{OBSERVED_FRAMES}.")
        return np.full(len(scenes), fixed)
    found = []
    for scene in scenes:
        first = entrances(scene)
        last = int(first[first < OBSERVED_FRAMES].max(initial=0))
        found.append(min(max(last + AFTER_ENTRANCE, least), OBSERVED_FRAMES))
    return np.array(found, dtype=np.int64)


@torch.no_grad()
def imagine_rest(
    model: WorldModel | RolloutReference,
    latents: Float32,
    prefix: Ints,
    *,
    device: torch.device,
    batch: int = 64,
    advance: Callable[[int], object] | None = None,
) -> Float32:
    """The first frames of each video, then the model's rollout to frame 159: (V, 160, N, D).

    Videos of like prefixes are rolled out together, all residues of the stride in one call.

    Args:
        model: in evaluation mode.
        latents: (V, T, N, D) true latents; only the prefix of each video is read, or all of it by a reference that may
            see the real future.
        prefix: (V,) observed frames.
        device: where the model is.
        batch: videos at a time.
        advance: told how many videos are finished.
    """
    out = np.array(latents[:, :ROLLOUT_FRAMES], dtype=np.float32)
    if isinstance(model, RolloutReference) and model.privileged == "future":
        return out
    if isinstance(model, WorldModel):
        model.eval()
    clip = model.clip
    span = np.arange(clip.stride)[:, None] + clip.stride * np.arange(-clip.history, 0)
    order = np.argsort(prefix, kind="stable")
    for low in range(0, len(order), batch):
        rows = order[low : low + batch]
        history = out[rows[:, None, None], prefix[rows, None, None] + span]
        steps = ROLLOUT_FRAMES - int(prefix[rows].min())
        sequences = LatentBatch(torch.from_numpy(history).flatten(0, 1).to(device))
        rolled = model.rollout(sequences, steps=-(-steps // clip.stride)).latents.cpu()
        by_residue = rolled.reshape(len(rows), clip.stride, *rolled.shape[1:])
        joined = by_residue.transpose(1, 2).flatten(1, 2).numpy()
        for place, row in enumerate(rows):
            out[row, prefix[row] :] = joined[place, : ROLLOUT_FRAMES - prefix[row]]
        if advance is not None:
            advance(len(rows))
    return out


def answerable(
    questions: Sequence[Mapping[str, Any]], worlds: Mapping[int, World], known: Mapping[int, World]
) -> tuple[list[dict[str, Any]], int]:
    """Leave out the questions that depend on an object that enters after the prefix.

    A question depends on it when its answer, or that of one of its choices, changes in a world in which the later
    entrants do not exist. Counterfactual questions of a video with later entrants are left out: what would happen without
    both an object and the entrants is not known.

    Args:
        questions: question scenes of the official format.
        worlds: true worlds by scene index.
        known: the same without the objects that enter later.

    Returns:
        The scenes with the questions that are left, and how many were left out.
    """
    kept, excluded = [], 0
    for scene in questions:
        index = scene["scene_index"]
        left = [q for q in scene["questions"] if _answers(q, worlds[index]) == _answers(q, known[index])]
        excluded += len(scene["questions"]) - len(left)
        kept.append({**scene, "questions": left})
    return kept, excluded


def without_entrants(scene: Scene, prefix: int) -> Scene:
    """The scene with only the objects that are in view before frame `prefix`."""
    stays = entrances(scene) < prefix
    number = np.cumsum(stays) - 1
    return replace(
        scene,
        objects=tuple(thing for thing, kept in zip(scene.objects, stays, strict=True) if kept),
        positions=scene.positions[:, stays],
        visible=scene.visible[:, stays],
        collisions=tuple(
            replace(c, a=int(number[c.a]), b=int(number[c.b])) for c in scene.collisions if stays[c.a] and stays[c.b]
        ),
        velocities=None if scene.velocities is None else scene.velocities[:, stays],
    )


def _answers(question: Mapping[str, Any], world: World) -> list[str]:
    """What the question's programs give; the removal in counterfactual ones plays no part in whom they name."""
    try:
        if "choices" not in question:
            return [str(answer(question, world))]
        return [str(judge(question, choice, world)) for choice in question["choices"]]
    except NotExecutable:
        return [ERROR]
