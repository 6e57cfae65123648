"""The cost of action sequences under a world model: roll them out, compare with a goal.

Shape letters: P problems, S candidates, H action blocks, A numbers of a block, T observed frames, N slots, D slot
dimension, R rows: candidates of a chunk, of one problem or several.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ocwm.errors import BenchError
from ocwm.goal_cost import Objective
from ocwm.interfaces import WorldModel
from ocwm.planning.memory import free_bytes, peak_bytes
from ocwm.types import LatentBatch

Precision = Literal["fp32", "bf16"]

_PROBED = 4  # candidates that are rolled out to see what one takes
_SHARE = 0.7  # of the free memory, as the rest is broken into pieces
# On a CPU a chunk is to stay within the last level of its caches; more only makes every operation slower.
CACHE_BYTES = 24 * 1024 * 1024


@dataclass
class PlanTimes:
    """Wall seconds by stage: "predict" (rollouts), "match" (comparison with the goal), "probe" (measuring memory), and
    whatever else is timed by the caller.
    """

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def time(self, stage: str, device: torch.device | None = None) -> Iterator[None]:
        """Add the time of the block to a stage; on CUDA until its work is done."""
        _finish(device)
        started = time.perf_counter()
        yield
        _finish(device)
        self._add(stage, time.perf_counter() - started)

    @contextmanager
    def rest(self, stage: str) -> Iterator[None]:
        """Add what is left of the block's time beside the stages within it."""
        before, started = sum(self.seconds.values()), time.perf_counter()
        yield
        self._add(stage, time.perf_counter() - started - (sum(self.seconds.values()) - before))

    def _add(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds


class ModelCost:
    """A cost function for planners; call it with candidates (P, S, H, A) on the CPU, get costs (P, S) there.

    Candidates are rolled out in chunks. How large they can be is measured once for each kind of call; a chunk that is out
    of memory all the same is halved. On a CPU a chunk fits the caches and holds candidates of one problem only, so that
    costs do not depend on what else is planned, bit for bit; on CUDA it holds several problems where there is room, and
    costs differ by rounding.

    Args:
        model: with the capability "actions"; put on `device` and into evaluation mode.
        history: T observed frames of P problems, encoded: latents (P, T, N, D), proprio (P, T, ...) and the action blocks
            between them (P, T - 1, A), None for one frame.
        goal: latents (P, 1, N, D) and proprio (P, 1, ...), not embedded.
        objective: what is compared.
        device: to compute on.
        precision: of the rollouts: "fp32", or "bf16" (autocast). Costs are fp32.
        memory: bytes that a chunk may take, default a share of what is free.
        times: where times are added up.

    Raises:
        BenchError: the model takes no actions, or history and goal do not fit each other.
    """

    def __init__(
        self,
        model: WorldModel,
        history: LatentBatch,
        goal: LatentBatch,
        objective: Objective,
        *,
        device: torch.device,
        precision: Precision = "fp32",
        memory: int | None = None,
        times: PlanTimes | None = None,
    ) -> None:
        if not model.spec.action_dim or "actions" not in model.capabilities:
            raise BenchError("planning needs a world model with actions, and this one takes none", "Choose another.")
        if precision not in ("fp32", "bf16"):
            raise BenchError(f"planning in precision '{precision}'", "Choose fp32 or bf16.")
        observed = history.latents.shape[1]
        past = history.actions if history.actions is not None else history.latents.new_zeros(len(history), 0, 0)
        if len(goal) != len(history) or past.shape[:2] != (len(history), observed - 1):
            raise BenchError(
                f"{len(history)} histories of {observed} frames with {past.shape[1]} action blocks between them, and "
                f"{len(goal)} goals",
                "Give every history a goal, and the action block between every two of its frames.",
            )
        self.model = model.to(device).eval()
        self.history = history.to(device)
        self.objective = objective
        self.device = device
        self.precision = precision
        self.memory = memory
        self.times = times if times is not None else PlanTimes()
        self._limits: dict[tuple[int, bool], int] = {}
        goal = goal.to(device)
        takes_proprio = bool(model.spec.proprio_dim) and "proprio" in model.capabilities
        embedded = None
        if takes_proprio and goal.proprio is not None:
            with torch.no_grad():  # one by one: products of other sizes are rounded in other ways
                embedded = torch.cat([model.embed_proprio(one) for one in torch.split(goal.proprio, 1)])
        self.goal = LatentBatch(goal.latents, proprio=embedded)

    def __call__(self, candidates: Tensor) -> Tensor:
        """Costs (P, S) of candidates (P, S, H, A); differentiable if they want a gradient.

        Raises:
            BenchError: the candidates do not fit the problems or the model, or not even one fits the memory.
        """
        wanted = (len(self.history), self.model.spec.action_dim)
        if (candidates.shape[0], candidates.shape[-1]) != wanted:
            raise BenchError(
                f"candidates of shape {tuple(candidates.shape)} for {wanted[0]} problems and blocks of {wanted[1]} numbers"
            )
        if candidates.requires_grad:
            return _WithGradient.apply(candidates, self)  # type: ignore[no-any-return, no-untyped-call]
        return self.evaluate(candidates)[0]

    def evaluate(self, candidates: Tensor, *, gradient: bool = False) -> tuple[Tensor, Tensor | None]:
        """Costs (P, S) of candidates (P, S, H, A) and, if wanted, the gradient of each in its candidate (P, S, H, A)."""
        samples, rows = candidates.shape[1], candidates.detach().flatten(0, 1)
        problem = torch.arange(len(rows)) // samples
        kind = (candidates.shape[2], gradient)
        if kind not in self._limits:
            self._limits[kind] = self._measure(rows[:_PROBED], problem[:_PROBED], gradient)
        costs, gradients, done = [], [], 0
        while done < len(rows):
            end = self._end(done, samples, len(rows), self._limits[kind])
            try:
                cost, slope = self._chunk(rows[done:end], problem[done:end], gradient, self.times)
            except torch.OutOfMemoryError as error:
                self._limits[kind] = self._smaller(end - done, error)
                continue
            costs.append(cost)
            gradients.append(slope)
            done = end
        joined = torch.cat([g for g in gradients if g is not None]).view_as(candidates) if gradient else None
        return torch.cat(costs).view(candidates.shape[:2]), joined

    def _end(self, done: int, samples: int, rows: int, limit: int) -> int:
        """Where the chunk that starts at row `done` ends: with its problem or within, in equal parts."""
        if self.device.type != "cpu" and done % samples == 0 and limit >= 2 * samples:
            return min(done + limit // samples * samples, rows)
        parts = -(-samples // limit)
        return min(done + -(-samples // parts), (done // samples + 1) * samples)

    def _chunk(
        self, actions_RHA: Tensor, problem_R: Tensor, gradient: bool, times: PlanTimes
    ) -> tuple[Tensor, Tensor | None]:
        """Costs (R,) and, if wanted, their gradients (R, H, A), on the CPU."""
        actions = actions_RHA.to(self.device).requires_grad_(gradient)
        problem = problem_R.to(self.device)
        with torch.set_grad_enabled(gradient):
            with times.time("predict", self.device):
                predicted = self._rollout(actions, problem)
            with times.time("match", self.device):
                cost = self.objective(predicted, _select(self.goal, problem)).total
            if not gradient:
                return cost.cpu(), None
            with times.time("predict", self.device):
                slope = torch.autograd.grad(cost.sum(), actions)[0]
        return cost.detach().cpu(), slope.cpu()

    def _rollout(self, actions: Tensor, problem: Tensor) -> LatentBatch:
        history = _select(self.history, problem)
        steps = actions.shape[1]
        if history.actions is not None:
            actions = torch.cat([history.actions, actions], dim=1)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            rolled = self.model.rollout(replace(history, actions=actions), steps=steps)
        proprio = None if rolled.proprio is None else rolled.proprio.float()
        return LatentBatch(rolled.latents.float(), proprio=proprio)

    def _measure(self, actions: Tensor, problem: Tensor, gradient: bool) -> int:
        """How many candidates fit a chunk, from what a few of them take."""
        rows, apart = len(actions), PlanTimes()
        with self.times.time("probe", self.device):
            try:
                taken = peak_bytes(lambda: self._chunk(actions, problem, gradient, apart), self.device) / rows
            except torch.OutOfMemoryError as error:
                return self._smaller(rows, error)
        budget = self.memory if self.memory is not None else int(_SHARE * free_bytes(self.device))
        if self.device.type == "cpu":
            budget = min(budget, CACHE_BYTES)
        return max(1, int(budget / max(taken, 1)))

    def _smaller(self, rows: int, error: torch.OutOfMemoryError) -> int:
        if rows == 1:
            raise BenchError(
                "the rollout of a single candidate does not fit the memory",
                "Choose a smaller world model or horizon, or another runtime.device.",
            ) from error
        torch.cuda.empty_cache()  # nothing without CUDA
        return rows // 2


class _WithGradient(torch.autograd.Function):
    """Costs whose gradients are computed chunk by chunk with them: a cost depends on its own candidate only."""

    @staticmethod
    def forward(ctx: Any, candidates: Tensor, cost: ModelCost) -> Tensor:
        costs, gradients = cost.evaluate(candidates, gradient=True)
        ctx.save_for_backward(gradients)
        return costs

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None]:
        (gradients,) = ctx.saved_tensors
        return outer[..., None, None] * gradients, None


def _select(batch: LatentBatch, problem: Tensor) -> LatentBatch:
    """The rows (R, ...) of a batch (P, ...) that belong to these problems (R,)."""
    chosen: dict[str, Any] = {
        f.name: value[problem] for f in fields(batch) if isinstance(value := getattr(batch, f.name), Tensor)
    }
    return LatentBatch(**chosen)


def _finish(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
