"""A linear read-out of object states from latents: ridge regression in closed form, fitted on training videos.

Shape letters: V videos, T frames, N slots, n objects, D slot dimension, K target columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from ocwm_tasks.clevrer.scene import COLORS, MATERIALS, OBSERVED_FRAMES, SHAPES, ObjectProperty, Scene

Float64 = NDArray[np.float64]

STRENGTHS = (1e-8, 1e-6, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
SEEN = 0.5  # the regressed visibility from which on a slot counts as visible
_VIDEOS_AT_ONCE = 64
_GROUPS = (
    ("position", 2),
    ("visible", 1),
    ("color", len(COLORS)),
    ("material", len(MATERIALS)),
    ("shape", len(SHAPES)),
)


def _columns() -> dict[str, slice]:
    edges = np.cumsum([0, *(width for _, width in _GROUPS)])
    return {name: slice(int(edges[i]), int(edges[i + 1])) for i, (name, _) in enumerate(_GROUPS)}


COLUMNS = _columns()
WIDTH = sum(width for _, width in _GROUPS)


@dataclass(frozen=True)
class StateTargets:
    """True states in slot order.

    Attributes:
        positions: (V, T, N, 2) float32, anything where not visible.
        visible: (V, T, N) bool; False for slots that hold no object.
        color, material, shape: (V, N) int64 indices into the constants of `scene`, -1 for slots that hold no object.
    """

    positions: NDArray[np.float32]
    visible: NDArray[np.bool_]
    color: NDArray[np.int64]
    material: NDArray[np.int64]
    shape: NDArray[np.int64]

    def __getitem__(self, videos: slice) -> StateTargets:
        return StateTargets(
            self.positions[videos], self.visible[videos], self.color[videos], self.material[videos], self.shape[videos]
        )


@dataclass(frozen=True)
class SlotStates:
    """States read from latents.

    Attributes:
        positions: (V, T, N, 2) float32; without meaning where the slot is not visible.
        visible: (V, T, N) float32, about 1 where the slot shows an object and about 0 where not.
        color, material, shape: (V, N) int64, voted over the observed frames in which the slot is visible; -1 for a
            slot that never is.
    """

    positions: NDArray[np.float32]
    visible: NDArray[np.float32]
    color: NDArray[np.int64]
    material: NDArray[np.int64]
    shape: NDArray[np.int64]

    def properties(self, video: int, slot: int) -> ObjectProperty:
        """Colour, material and shape of a slot that was visible."""
        return ObjectProperty(
            COLORS[self.color[video, slot]], MATERIALS[self.material[video, slot]], SHAPES[self.shape[video, slot]]
        )


@dataclass(frozen=True)
class ProbeReport:
    """How well the probe reads unseen videos.

    Attributes:
        position_r2: share of the variance of visible positions that is explained (both coordinates together).
        position_error: mean distance in the data's units.
        visible, color, material, shape: accuracy; the attributes are counted once for every object.
        strength: ridge strength chosen for each group of targets.
    """

    position_r2: float
    position_error: float
    visible: float
    color: float
    material: float
    shape: float
    strength: dict[str, float]

    def as_dict(self) -> dict[str, object]:
        """Plain values, for a record."""
        return asdict(self)


@dataclass(frozen=True)
class RidgeProbe:
    """Latent -> state, `latent @ weights + intercept`.

    Attributes:
        weights: (D, K) float64.
        intercept: (K,) float64.
        empty: (D,) float32, the mean latent of slots that show nothing: what stands in for a removed object.
        report: quality on the held-out training videos.
    """

    weights: Float64
    intercept: Float64
    empty: NDArray[np.float32]
    report: ProbeReport

    def read(self, latents: NDArray[np.float32]) -> NDArray[np.float32]:
        """State columns (..., K) of latents (..., D)."""
        return latents @ self.weights.astype(np.float32) + self.intercept.astype(np.float32)

    def decode(
        self, latents: NDArray[np.float32], *, observed: int | NDArray[np.int64] = OBSERVED_FRAMES
    ) -> SlotStates:
        """States of latents (V, T, N, D).

        Args:
            latents: an array or a memory map.
            observed: attributes are voted over the first `observed` frames, one number or (V,).
        """
        videos, frames, slots = latents.shape[:3]
        positions = np.empty((videos, frames, slots, 2), dtype=np.float32)
        visible = np.empty((videos, frames, slots), dtype=np.float32)
        votes = np.arange(frames) < np.broadcast_to(observed, (videos,))[:, None]
        labels = {name: np.full((videos, slots), -1) for name in ("color", "material", "shape")}
        for part in _parts(videos):
            state = self.read(np.asarray(latents[part]))
            positions[part] = state[..., COLUMNS["position"]]
            visible[part] = state[..., COLUMNS["visible"]][..., 0]
            seen = (visible[part] > SEEN) & votes[part, :, None]
            for name, ids in labels.items():
                scores = np.einsum("vtnk,vtn->vnk", state[..., COLUMNS[name]], seen.astype(np.float32))
                ids[part] = np.where(seen.any(axis=1), scores.argmax(axis=-1), -1)
        return SlotStates(positions, visible, labels["color"], labels["material"], labels["shape"])


def targets_of(scenes: Sequence[Scene], slot_of: NDArray[np.int64], *, num_slots: int) -> StateTargets:
    """Scenes of equally many frames in slot order.

    Args:
        scenes: V scenes.
        slot_of: (V, n or more) the slot that holds each object.
        num_slots: N.
    """
    frames = scenes[0].positions.shape[0]
    positions = np.zeros((len(scenes), frames, num_slots, 2), dtype=np.float32)
    visible = np.zeros((len(scenes), frames, num_slots), dtype=np.bool_)
    labels = np.full((3, len(scenes), num_slots), -1)
    for video, scene in enumerate(scenes):
        slots = slot_of[video, : len(scene.objects)]
        positions[video][:, slots] = scene.positions
        visible[video][:, slots] = scene.visible
        labels[0, video, slots] = [COLORS.index(o.color) for o in scene.objects]
        labels[1, video, slots] = [MATERIALS.index(o.material) for o in scene.objects]
        labels[2, video, slots] = [SHAPES.index(o.shape) for o in scene.objects]
    visible &= np.isfinite(positions).all(axis=-1)
    return StateTargets(positions, visible, labels[0], labels[1], labels[2])


def fit_probe(
    latents: NDArray[np.float32],
    targets: StateTargets,
    *,
    held_out: float = 0.2,
    strengths: Sequence[float] = STRENGTHS,
    frame_step: int = 4,
) -> RidgeProbe:
    """Fit the probe on training videos.

    Visibility is regressed on every slot, the other columns on visible slots only. For each group of columns the
    ridge strength (relative to the mean variance of the inputs) that does best on the last `held_out` share of the
    videos is kept.

    Args:
        latents: (V, T, N, D), at least two videos.
        targets: the same videos, frames and slots.
        held_out: share of the videos to choose on and to report.
        strengths: ridge strengths to choose from.
        frame_step: every how many frames a row is taken; neighbouring frames tell the same.
    """
    videos = latents.shape[0]
    if videos < 2 or targets.visible.shape != latents.shape[:3]:
        raise ValueError(f"latents {latents.shape} and targets {targets.visible.shape} don't match, or too few videos")
    cut = min(videos - 1, max(1, round(videos * (1 - held_out))))
    fitted = _moments(latents, targets, range(cut), frame_step)
    unseen = _moments(latents, targets, range(cut, videos), frame_step)
    width = latents.shape[-1]
    weights, intercept, chosen = np.zeros((width, WIDTH)), np.zeros(WIDTH), {}
    for name, columns in COLUMNS.items():
        rows = "all" if name == "visible" else "visible"
        solutions = [_solve(fitted[rows], columns, strength, width=width) for strength in strengths]
        errors = [_error(unseen[rows], columns, *solution, width=width) for solution in solutions]
        best = int(np.argmin(errors))
        weights[:, columns], intercept[columns] = solutions[best]
        chosen[name] = float(strengths[best])
    hidden = fitted["all"] - fitted["visible"]
    empty = (hidden[0, 1 : 1 + width] / max(hidden[0, 0], 1.0)).astype(np.float32)
    blank = ProbeReport(np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, chosen)
    probe = RidgeProbe(weights, intercept, empty, blank)
    report = score(probe, latents[cut:], targets[slice(cut, None)])
    return RidgeProbe(weights, intercept, empty, report)


def score(probe: RidgeProbe, latents: NDArray[np.float32], targets: StateTargets) -> ProbeReport:
    """Quality of the probe on latents (V, T, N, D) with known states; nan where there is nothing to score."""
    states = probe.decode(latents, observed=latents.shape[1])
    seen, held = targets.visible, np.asarray(targets.visible.any(axis=1))
    truth = targets.positions[seen].astype(np.float64)
    error = states.positions[seen] - truth
    spread = np.square(truth - truth.mean(axis=0)).sum() if len(truth) else 0.0
    return ProbeReport(
        position_r2=float(1 - np.square(error).sum() / spread) if spread > 0 else float("nan"),
        position_error=float(np.linalg.norm(error, axis=-1).mean()) if len(truth) else float("nan"),
        visible=float(((states.visible > SEEN) == seen).mean()),
        color=_share(states.color, targets.color, held),
        material=_share(states.material, targets.material, held),
        shape=_share(states.shape, targets.shape, held),
        strength=probe.report.strength,
    )


def _share(read: NDArray[np.int64], truth: NDArray[np.int64], held: NDArray[np.bool_]) -> float:
    return float((read == truth)[held].mean()) if held.any() else float("nan")


def _parts(videos: int) -> Iterator[slice]:
    for low in range(0, videos, _VIDEOS_AT_ONCE):
        yield slice(low, min(low + _VIDEOS_AT_ONCE, videos))


def _moments(latents: NDArray[np.float32], targets: StateTargets, videos: range, frame_step: int) -> dict[str, Float64]:
    """Second moments of the rows [1, latent, target], of all slots and of the visible ones.

    Everything that ridge regression needs lies in them, so memory does not grow with the number of videos.
    """
    size = 1 + latents.shape[-1] + WIDTH
    sums = {"all": np.zeros((size, size)), "visible": np.zeros((size, size))}
    for part in _parts(len(videos)):
        chosen = slice(videos.start + part.start, videos.start + part.stop)
        inputs = np.asarray(latents[chosen, ::frame_step], dtype=np.float64)
        state = _columns_of(targets[chosen], frame_step)
        rows = np.concatenate([np.ones((*inputs.shape[:3], 1)), inputs, state], axis=-1)
        seen = targets.visible[chosen, ::frame_step]
        for name, picked in (("all", rows.reshape(-1, size)), ("visible", rows[seen])):
            sums[name] += picked.T @ picked
    return sums


def _columns_of(targets: StateTargets, frame_step: int) -> Float64:
    """Target columns (V, T, N, K): zeros where nothing is visible."""
    seen = targets.visible[:, ::frame_step]
    state = np.zeros((*seen.shape, WIDTH))
    state[..., COLUMNS["position"]] = targets.positions[:, ::frame_step]
    state[..., COLUMNS["visible"]] = 1.0
    for name, ids in (("color", targets.color), ("material", targets.material), ("shape", targets.shape)):
        width = COLUMNS[name].stop - COLUMNS[name].start
        state[..., COLUMNS[name]] = np.eye(width)[np.maximum(ids, 0)][:, None]
    state[~seen] = 0.0
    return state


def _solve(moments: Float64, columns: slice, strength: float, *, width: int) -> tuple[Float64, Float64]:
    """Ridge solution on standardised inputs, given back for raw ones."""
    count = max(moments[0, 0], 1.0)
    target = slice(1 + width + columns.start, 1 + width + columns.stop)
    mean_x, mean_y = moments[0, 1 : 1 + width] / count, moments[0, target] / count
    covariance = moments[1 : 1 + width, 1 : 1 + width] / count - np.outer(mean_x, mean_x)
    cross = moments[1 : 1 + width, target] / count - np.outer(mean_x, mean_y)
    variance = np.diagonal(covariance).copy()
    deviation = np.sqrt(np.where(variance > 1e-12 * max(variance.max(), 1e-12), variance, 1.0))
    scaled = covariance / np.outer(deviation, deviation)
    solution = np.linalg.solve(scaled + strength * np.eye(width), cross / deviation[:, None]) / deviation[:, None]
    return solution, mean_y - mean_x @ solution


def _error(moments: Float64, columns: slice, weights: Float64, intercept: Float64, *, width: int) -> float:
    """Mean squared error over the rows behind `moments`."""
    target = slice(1 + width + columns.start, 1 + width + columns.stop)
    solution = np.concatenate([intercept[None], weights])
    inputs, cross = moments[: 1 + width, : 1 + width], moments[: 1 + width, target]
    total = np.trace(moments[target, target]) - 2 * np.sum(solution * cross)
    return float((total + np.sum(solution * (inputs @ solution))) / max(moments[0, 0], 1.0))
