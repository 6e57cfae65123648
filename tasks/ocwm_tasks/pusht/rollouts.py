"""How far imagined futures are off, under the recorded actions.

Shape letters: C clips, h history frames, K predicted frames, N slots, D slot dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ocwm.errors import BenchError
from ocwm.interfaces import WorldModel
from ocwm.types import ClipSpec, LatentBatch
from ocwm_tasks.pusht.clips import ClipSet
from ocwm_tasks.pusht.episodes import Episodes
from ocwm_tasks.pusht.probe import PoseProbe
from ocwm_tasks.pusht.stages import Latents, Stages
from ocwm_tasks.pusht.state import AGENT, BLOCK

_BATCH = 256


@dataclass(frozen=True)
class RolloutErrors:
    """Errors of C rollouts at some horizons, (C, horizons) each; positions in px, None where they can't be read."""

    slots: NDArray[np.float64]
    agent: NDArray[np.float64] | None
    block: NDArray[np.float64] | None
    episodes: NDArray[np.int64]


def rollout_errors(
    stages: Stages, name: str, model: WorldModel, *, history: int, horizons: Sequence[int], count: int
) -> RolloutErrors:
    """Roll `count` clips of a split, spread evenly over it, and compare with what came.

    Args:
        stages: of the run.
        name: of the split.
        model: in evaluation mode.
        history: observed frames h, as in planning.
        horizons: predicted frames, i.e. action blocks.
        count: number of clips C, or fewer where there are not so many.

    Raises:
        BenchError: no episode is long enough.
    """
    episodes, latents = stages.splits[name], stages.latents(name)
    clips = ClipSet(
        latents.latents,
        episodes.actions,
        episodes.proprio,
        episodes.offsets,
        ClipSpec(history, max(horizons), model.clip.stride),
        action_normalisation=stages.action_statistics,
        proprio_normalisation=stages.proprio_statistics,
    )
    chosen = np.unique(np.linspace(0, len(clips) - 1, count).astype(np.int64))
    predicted, truth = [], []
    rng = np.random.default_rng(0)  # the clips draw nothing
    with torch.no_grad():
        for low in range(0, len(chosen), _BATCH):
            batch = clips.batch(chosen[low : low + _BATCH], rng).to(stages.context.device)
            seen = LatentBatch(
                batch.latents[:, :history],
                actions=batch.actions,
                proprio=None if batch.proprio is None else batch.proprio[:, :history],
            )
            predicted.append(model.rollout(seen, steps=max(horizons)).latents.cpu().numpy())
            truth.append(batch.latents[:, history:].cpu().numpy())
    imagined, real = np.concatenate(predicted), np.concatenate(truth)
    at = [horizon - 1 for horizon in horizons]
    slots = np.square(imagined - real).mean(axis=(2, 3), dtype=np.float64)[:, at]
    numbers = clips.episodes[chosen]
    agent, block = _positions(stages.probe, imagined, latents, episodes, clips, chosen, at, history)
    return RolloutErrors(slots, agent, block, episodes.ids[numbers])


def _positions(
    probe: PoseProbe | None,
    imagined: NDArray[np.float32],
    latents: Latents,
    episodes: Episodes,
    clips: ClipSet,
    chosen: NDArray[np.int64],
    at: Sequence[int],
    history: int,
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None]:
    """Distances in px of imagined agents and blocks, (C, horizons) each."""
    if probe is None:
        return None, None
    numbers = clips.episodes[chosen]
    pose = probe.read(imagined[:, at], latents.slot_of[numbers])
    ahead = clips.clip.stride * (history + np.asarray(at))
    states = episodes.states[(episodes.offsets[numbers] + clips.starts[chosen])[:, None] + ahead]
    agent, block = (
        np.asarray(np.linalg.norm(read - states[..., part], axis=-1))
        for read, part in ((pose.agent, AGENT), (pose.block, BLOCK))
    )
    return agent, block


def check_stride(model: WorldModel, *, block: int) -> None:
    """Refuse a model whose frames are not an action block apart.

    Raises:
        BenchError: naming both settings.
    """
    if model.clip.stride != block:
        raise BenchError(
            f"method.frameskip={model.clip.stride}, but task.action_block={block}",
            "A latent frame must be one action block after the last: set both to the same.",
        )
