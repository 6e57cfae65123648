"""What a learned model may know of a problem: latents of the last frames, proprioception, past actions, and the goal's.

Shape letters: P problems, h observed frames, N slots, D slot dimension, k actions of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ocwm.interfaces import Encoder
from ocwm.types import LatentBatch, Observations
from ocwm_tasks.pusht.control import View
from ocwm_tasks.pusht.normalisation import Normalisation
from ocwm_tasks.pusht.observe import observe_frames, observe_states
from ocwm_tasks.pusht.rendering import render_state
from ocwm_tasks.pusht.state import proprio_of


@dataclass(frozen=True)
class Observer:
    """Turns views into what a world model takes.

    Attributes:
        encoder: of the run.
        device: to encode on.
        actions: normalisation of action blocks (2 k,).
        proprio: normalisation of proprioception (4,).
        frame_size: side in px of the frames that an encoder of pixels gets.
    """

    encoder: Encoder
    device: torch.device
    actions: Normalisation
    proprio: Normalisation
    frame_size: int

    def look(self, views: Sequence[View]) -> tuple[LatentBatch, LatentBatch]:
        """Encode views that have equally many frames.

        Returns:
            The history: latents (P, h, N, D), proprioception (P, h, 4) and past actions (P, h - 1, 2 k). And the goal, one
            frame of latents and proprioception; an encoder with a memory goes on from the history, so that its slots keep
            their objects.
        """
        states = np.stack([view.states for view in views])
        goals = np.stack([view.problem.goal for view in views])[:, None]
        ids = np.array([view.problem.episode for view in views])
        with torch.no_grad():
            history, carry = self.encoder.encode(self._observe(states, ids), None)
            goal, _ = self.encoder.encode(self._observe(goals, ids), carry)
        past = np.stack([view.actions for view in views])
        return (
            LatentBatch(
                history.latents.to(self.device),
                present=history.present,
                actions=self.normalised(past),
                proprio=self.embed(states),
            ),
            LatentBatch(goal.latents.to(self.device), present=goal.present, proprio=self.embed(goals)),
        )

    def encode(self, states: NDArray[np.float64], ids: NDArray[np.int64]) -> LatentBatch:
        """Latents and proprioception of states (B, T, 7) of the episodes `ids` (B,)."""
        with torch.no_grad():
            latents = self.encoder.encode(self._observe(states, ids), None)[0].latents
        return LatentBatch(latents.to(self.device), proprio=self.embed(states))

    def embed(self, states: NDArray[np.float64]) -> Tensor:
        """Normalised proprioception (P, h, 4) of states (P, h, 7)."""
        return self._tensor(self.proprio.apply(proprio_of(states)))

    def normalised(self, blocks: NDArray[np.float64]) -> Tensor:
        """Normalised blocks (..., 2 k) of actions (..., k, 2)."""
        flat = blocks.reshape(*blocks.shape[:-2], blocks.shape[-2] * blocks.shape[-1])
        return self._tensor(self.actions.apply(flat))

    def unnormalised(self, blocks: Tensor) -> NDArray[np.float64]:
        """Actions (P, n * k, 2) of normalised blocks (P, n, 2 k)."""
        actions = self.actions.invert(blocks.detach().cpu().double().numpy())
        return np.asarray(actions.reshape(len(blocks), -1, 2), dtype=np.float64)

    def _observe(self, states: NDArray[np.float64], ids: NDArray[np.int64]) -> Observations:
        if self.encoder.reads == "state":
            return observe_states(states, ids)
        frames = [[render_state(state, self.frame_size) for state in video] for video in states]
        observed = observe_frames(np.array(frames), ids)
        assert observed.pixels is not None
        return Observations(ids=observed.ids, pixels=observed.pixels.to(self.device))

    def _tensor(self, values: NDArray[np.float64] | NDArray[np.float32]) -> Tensor:
        # What is not known counts as average, as in training.
        return torch.from_numpy(np.nan_to_num(values, nan=0.0).astype(np.float32)).to(self.device)
