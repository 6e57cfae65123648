"""Random numbers of planners, each problem's from a key of its own.

Shape letters: S candidates, H action blocks, A numbers of a block, L steps of the environment, C numbers of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

Key = Sequence[int]
Draw = Callable[[tuple[int, int, int]], Tensor]  # the next standard normal numbers of a problem, of shape (S, H, A)

_PLANNING = 0x91A7  # keeps this stream apart from others that are seeded with the same numbers


def keyed_draw(key: Key) -> Draw:
    """Return the random numbers of the problem with this key, e.g. (seed, episode, replan).

    They depend on the key alone: not on the machine, the device, or on what else is planned.
    """
    generator = np.random.default_rng([_PLANNING, len(key), *key])
    return lambda shape: torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))


def coloured(white_SLC: Tensor, beta: float) -> Tensor:
    """Noise of unit variance whose spectrum over the steps L falls as frequency^-beta, from white noise (S, L, C)."""
    steps = white_SLC.shape[1]
    frequencies = torch.fft.rfftfreq(steps)
    frequencies[0] = 1 / steps  # else a constant would be infinitely likely
    amplitudes = frequencies ** (-beta / 2)
    both_sides = torch.cat([amplitudes, amplitudes[1 : (steps + 1) // 2]])  # the other half mirrors it
    amplitudes = amplitudes / both_sides.square().mean().sqrt()
    shaped: Tensor = torch.fft.irfft(torch.fft.rfft(white_SLC, dim=1) * amplitudes[:, None], n=steps, dim=1)
    return shaped
