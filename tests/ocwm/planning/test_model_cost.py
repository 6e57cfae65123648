"""The cost of candidates under a world model, whatever they are evaluated with, and within how much memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from ocwm.errors import BenchError
from ocwm.interfaces import WorldModel
from ocwm.planning import ModelCost, Objective, Planner, PlannerConfig, PlanTimes
from ocwm.planning.memory import peak_bytes
from ocwm.planning.model_cost import CACHE_BYTES
from ocwm.types import ClipSpec, LatentBatch, LatentSpec

CPU = torch.device("cpu")
PROBLEMS, SAMPLES, HORIZON, SLOTS, DIM, ACTIONS = 3, 10, 2, 4, 8, 6


class Pushed(WorldModel):
    """Actions move every slot and the body, through a layer that is wide enough for memory to matter."""

    capabilities: ClassVar[frozenset[str]] = frozenset({"actions", "proprio"})

    def __init__(self, spec: LatentSpec, *, most: int = 10**9) -> None:
        super().__init__(spec)
        torch.manual_seed(0)
        self.push = nn.Sequential(nn.Linear(spec.action_dim, 2000), nn.Tanh(), nn.Linear(2000, spec.slot_dim))
        self.body = nn.Linear(spec.proprio_dim, 5) if spec.proprio_dim else None
        self.most = most
        self.sizes: list[int] = []

    @property
    def clip(self) -> ClipSpec:
        return ClipSpec(1, 1)

    def loss(self, batch: LatentBatch) -> dict[str, Tensor]:
        raise NotImplementedError  # plans are made with it; nothing trains it

    def rollout(self, history: LatentBatch, *, steps: int) -> LatentBatch:
        self.sizes.append(len(history))
        if len(history) > self.most:
            raise torch.OutOfMemoryError("too many")
        assert history.actions is not None
        moved = self.push(history.actions)[:, -steps:].cumsum(1)
        proprio = None
        if self.body is not None:
            proprio = self.embed_proprio(history.proprio[:, -1:]) + moved[..., :5]
        return LatentBatch(history.latents[:, -1:] + moved[:, :, None], proprio=proprio)

    def embed_proprio(self, proprio: Tensor) -> Tensor:
        return self.body(proprio)


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


HISTORY = LatentBatch(drawn(PROBLEMS, 1, SLOTS, DIM), proprio=drawn(PROBLEMS, 1, 3, seed=1))
GOAL = LatentBatch(drawn(PROBLEMS, 1, SLOTS, DIM, seed=2), proprio=drawn(PROBLEMS, 1, 3, seed=3))
CANDIDATES = drawn(PROBLEMS, SAMPLES, HORIZON, ACTIONS, seed=4)
EVERY = slice(None)


def build(rows: slice = EVERY, *, most: int = 10**9, memory: int | None = None) -> ModelCost:
    """The cost for some of the problems."""
    model = Pushed(LatentSpec(SLOTS, DIM, action_dim=ACTIONS, proprio_dim=3), most=most)
    some = [LatentBatch(batch.latents[rows], proprio=batch.proprio[rows]) for batch in (HISTORY, GOAL)]
    return ModelCost(model, *some, Objective(), device=CPU, memory=memory)


def sizes(cost: ModelCost, candidates: Tensor = CANDIDATES) -> list[int]:
    """How many candidates were rolled out together, after the few that memory is measured with."""
    cost.model.sizes.clear()
    cost(candidates)
    return cost.model.sizes[1:]


@contextmanager
def room_for(candidates: int) -> Iterator[int]:
    """The bytes that so many candidates take."""
    cost = build()
    with torch.no_grad():
        cost(CANDIDATES)  # measured
        yield candidates * peak_bytes(lambda: cost(CANDIDATES[:, :4].contiguous()), CPU) // 4


def test_the_cost_is_that_of_the_rollout() -> None:
    cost = build()
    wanted = torch.empty(PROBLEMS, SAMPLES)
    with torch.no_grad():
        for problem in range(PROBLEMS):
            goal = LatentBatch(
                GOAL.latents[problem, None], proprio=cost.model.embed_proprio(GOAL.proprio[problem, None])
            )
            for sample in range(SAMPLES):
                history = LatentBatch(HISTORY.latents[problem, None], proprio=HISTORY.proprio[problem, None])
                actions = CANDIDATES[problem, sample, None]
                rolled = cost.model.rollout(replace(history, actions=actions), steps=HORIZON)
                wanted[problem, sample] = Objective()(rolled, goal).total
        torch.testing.assert_close(cost(CANDIDATES), wanted)


def test_past_actions_stand_before_the_candidates() -> None:
    model = Pushed(LatentSpec(SLOTS, DIM, action_dim=ACTIONS))
    seen: list[Tensor] = []
    model.rollout = lambda history, *, steps: seen.append(history.actions) or LatentBatch(history.latents[:, -1:])
    past = drawn(PROBLEMS, 2, ACTIONS, seed=5)
    history = LatentBatch(drawn(PROBLEMS, 3, SLOTS, DIM), actions=past)
    ModelCost(model, history, LatentBatch(GOAL.latents), Objective(), device=CPU)(CANDIDATES)
    for problem, actions in enumerate(seen[1:]):
        assert torch.equal(actions[:, :2], past[problem].expand(SAMPLES, -1, -1))
        assert torch.equal(actions[:, 2:], CANDIDATES[problem])


def test_costs_do_not_depend_on_the_problems_beside() -> None:
    together = build()(CANDIDATES)
    for problem in range(PROBLEMS):
        rows = slice(problem, problem + 1)
        assert torch.equal(build(rows)(CANDIDATES[rows]), together[rows])


@pytest.mark.parametrize("name", ["cem", "icem", "mppi", "gradient"])
def test_plans_depend_on_neither_chunks_nor_problems_beside(name: str) -> None:
    planner = Planner(
        PlannerConfig(planner=name, samples=SAMPLES, iterations=3, horizon=HORIZON, elites=3), action_dim=ACTIONS
    )
    keys = [(0, number, 0) for number in (11, 12, 13)]
    together = planner.plan(build(), keys=keys)
    for problem in range(PROBLEMS):
        rows = slice(problem, problem + 1)
        alone = planner.plan(build(rows), keys=keys[rows])
        assert torch.equal(alone.actions, together.actions[rows])
    with room_for(3) as memory:
        chunked = build(memory=memory)
        few = planner.plan(chunked, keys=keys)
    assert max(chunked.model.sizes[1:]) <= 4  # the first call measures
    torch.testing.assert_close(few.actions, together.actions, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("room", "chunks"), [(2, [2] * 5), (4, [4, 4, 2]), (6, [5, 5]), (1, [1] * 10), (25, [10])])
def test_chunks_are_as_large_as_the_memory_allows(room: int, chunks: list[int]) -> None:
    with room_for(room) as memory:
        assert sizes(build(memory=memory)) == chunks * PROBLEMS
    assert sizes(build(memory=1)) == [1] * SAMPLES * PROBLEMS


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("memory", [200_000, 800_000])
def test_the_memory_is_kept_to(memory: int, gradient: bool) -> None:
    candidates = drawn(PROBLEMS, 200, HORIZON, ACTIONS)

    def taken(cost: ModelCost) -> int:
        cost.evaluate(candidates[:, :4], gradient=gradient)  # measures
        with torch.no_grad():
            return peak_bytes(lambda: cost.evaluate(candidates, gradient=gradient), CPU)

    outputs = 2 * candidates.nbytes * (2 if gradient else 1)
    held = taken(build(memory=memory))
    assert 0.3 * memory < held <= memory + outputs
    assert taken(build()) > 2 * (800_000 + outputs)


def test_without_a_budget_a_chunk_fits_the_caches() -> None:
    candidates = drawn(1, 3000, HORIZON, ACTIONS)
    cost = build(slice(0, 1))
    cost(candidates[:, :4])
    with torch.no_grad():
        assert peak_bytes(lambda: cost(candidates), CPU) < 1.05 * CACHE_BYTES
    found = sizes(cost, candidates)
    assert len(found) > 1
    assert max(found) - min(found) <= 3  # equal parts


def test_a_chunk_that_is_out_of_memory_is_halved() -> None:
    whole = build()(CANDIDATES)
    cost = build(most=4)
    torch.testing.assert_close(cost(CANDIDATES), whole)
    assert cost.model.sizes[:2] == [4, 10]
    assert set(sizes(cost)) <= {2, 4, 5}
    assert sizes(cost) == sizes(cost)  # it learned what fits
    assert 10 not in cost.model.sizes


def test_a_single_candidate_that_does_not_fit_is_named() -> None:
    with pytest.raises(BenchError, match=r"single candidate does not fit the memory\. Choose a smaller world model"):
        build(most=0)(CANDIDATES)


def test_gradients_are_those_of_the_whole() -> None:
    with room_for(3) as memory:
        cost = build(memory=memory)
    leaves = CANDIDATES.clone().requires_grad_()
    weights = drawn(PROBLEMS, SAMPLES, seed=6)
    (cost(leaves) * weights).sum().backward()
    model = cost.model
    rows = torch.arange(PROBLEMS).repeat_interleave(SAMPLES)
    others = CANDIDATES.clone().requires_grad_()
    history = LatentBatch(HISTORY.latents[rows], proprio=HISTORY.proprio[rows], actions=others.flatten(0, 1))
    goal = LatentBatch(GOAL.latents[rows], proprio=model.embed_proprio(GOAL.proprio[rows]).detach())
    whole = Objective()(model.rollout(history, steps=HORIZON), goal).total
    (whole * weights.flatten()).sum().backward()
    torch.testing.assert_close(leaves.grad, others.grad)


def test_times_are_kept_by_stage() -> None:
    times = PlanTimes()
    model = Pushed(LatentSpec(SLOTS, DIM, action_dim=ACTIONS, proprio_dim=3))
    cost = ModelCost(model, HISTORY, GOAL, Objective(), device=CPU, times=times)
    cost(CANDIDATES)
    assert set(times.seconds) == {"probe", "predict", "match"}
    once = dict(times.seconds)
    cost(CANDIDATES)
    assert times.seconds["probe"] == once["probe"]
    assert times.seconds["predict"] > once["predict"] > 0


def test_rollouts_in_bfloat16_have_costs_in_fp32() -> None:
    whole = build()(CANDIDATES)
    cost = ModelCost(build().model, HISTORY, GOAL, Objective(), device=CPU, precision="bf16")
    rounded = cost(CANDIDATES)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, whole)
    torch.testing.assert_close(rounded, whole, rtol=0.05, atol=0.05)


def test_what_does_not_fit_is_named() -> None:
    model = Pushed(LatentSpec(SLOTS, DIM, action_dim=ACTIONS))
    deaf = Pushed(LatentSpec(SLOTS, DIM, action_dim=ACTIONS))
    deaf.capabilities = frozenset({"proprio"})
    without = LatentBatch(HISTORY.latents)
    goal = LatentBatch(GOAL.latents)
    with pytest.raises(BenchError, match="takes none"):
        ModelCost(deaf, without, goal, Objective(), device=CPU)
    with pytest.raises(BenchError, match=r"precision 'fp16'\. Choose fp32 or bf16"):
        ModelCost(model, without, goal, Objective(), device=CPU, precision="fp16")
    with pytest.raises(BenchError, match="3 histories of 1 frames with 0 action blocks between them, and 2 goals"):
        ModelCost(model, without, LatentBatch(GOAL.latents[:2]), Objective(), device=CPU)
    two = LatentBatch(HISTORY.latents.expand(-1, 2, -1, -1))
    with pytest.raises(BenchError, match="2 frames with 0 action blocks"):
        ModelCost(model, two, goal, Objective(), device=CPU)
    cost = ModelCost(model, without, goal, Objective(), device=CPU)
    with pytest.raises(BenchError, match=r"for 3 problems and blocks of 6 numbers"):
        cost(CANDIDATES[:2])
    with pytest.raises(BenchError, match=r"for 3 problems and blocks of 6 numbers"):
        cost(CANDIDATES[..., :5])
