"""Planners and objectives, on the random numbers that the published ones drew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
from torch import Tensor

from golden import Golden
from ocwm.goal_cost import Objective
from ocwm.planning import Planner, PlannerConfig
from ocwm.planning.draws import Draw
from ocwm.planning.searches import CEM
from ocwm.types import LatentBatch


def given(noise: Iterable[Tensor]) -> Draw:
    """Draw these tensors, one after the other."""
    left = iter(noise)

    def draw(shape: tuple[int, int, int]) -> Tensor:
        drawn = next(left)
        assert drawn.shape == shape
        return drawn

    return draw


def steps(search: CEM, cost: Callable[[Tensor], Tensor]) -> Iterator[dict[str, Tensor]]:
    """Mean, deviation, costs and elites of every iteration."""
    for _ in range(search.config.iterations):
        candidates = search.ask()
        costs = cost(candidates)
        search.tell(candidates, costs, None)
        yield {"mean": search.mean, "std": search.std, "cost": costs, "elite_indices": search.elites.int()}


def check_cem(golden: Golden) -> None:
    config = golden.config
    planner = Planner(
        PlannerConfig(
            samples=config["num_samples"],
            iterations=config["n_steps"],
            elites=config["topk"],
            std=config["var_scale"],
            horizon=config["horizon"],
        ),
        action_dim=config["action_dim"] * config["action_block"],
        block=config["action_block"],
    )
    problems = config["n_envs"]
    target = golden["in.target"]
    assert config["batch_size"] == 1
    noise = golden["in.noise"][:, :, 0].unflatten(0, (2, problems))  # solve, problem, iteration, S, H, A

    def cost(candidates: Tensor) -> Tensor:
        return (candidates - target[:, None]).square().mean((2, 3))

    first = planner.solve(cost, [given(noise[0, p]) for p in range(problems)])
    golden.compare("out.mean", first.actions)
    golden.compare("out.std", first.std)
    golden.compare("in.warm_start", first.actions[:, 1:])
    warm = planner.solve(cost, [given(noise[1, p]) for p in range(problems)], start=golden["in.warm_start"])
    golden.compare("out.warm_mean", warm.actions)
    golden.compare("out.warm_std", warm.std)

    mean = torch.zeros(target.shape[1:])
    final = []
    for problem in range(problems):
        search = CEM(planner.config, given(noise[0, problem]), mean)
        *_, last = steps(search, lambda candidates, aim=target[problem]: (candidates - aim).square().mean((1, 2)))
        final.append(last["cost"][last["elite_indices"]].mean())
    golden.compare("out.elite_cost", torch.stack(final))


def check_trace(golden: Golden) -> None:
    config = golden.config
    planning = PlannerConfig(
        samples=config["num_samples"],
        iterations=config["opt_steps"],
        elites=config["topk"],
        std=config["var_scale"],
        horizon=config["horizon"],
    )
    objective = Objective(matching="none", alpha=config["alpha"], base=config["base"], frames=config["mode"])
    goal = LatentBatch(golden["in.visual_goal"], proprio=golden["in.proprio_goal"])
    weights = golden.weights

    def cost(candidates: Tensor, problem: int) -> Tensor:
        """A linear world: every action adds to the latents."""
        visual, proprio = (torch.cumsum(candidates @ weights[name], dim=1) for name in ("W_v", "W_p"))
        start = golden["in.visual_0"][problem]
        rolled = LatentBatch(
            start + visual.unflatten(-1, start.shape[-2:]), proprio=golden["in.proprio_0"][problem] + proprio
        )
        return objective(rolled, LatentBatch(goal.latents[problem, None], proprio=goal.proprio[problem, None])).total

    traces = []
    for problem in range(config["n_evals"]):
        mean = torch.zeros(config["horizon"], config["action_dim"])
        if config["warm_len"]:
            mean[: config["warm_len"]] = golden["in.warm_start"][problem]
        search = CEM(planning, given(golden["in.noise"][:, problem]), mean)
        traces.append(list(steps(search, partial(cost, problem=problem))))
    for name in traces[0][0]:
        found = torch.stack([torch.stack([step[name] for step in trace]) for trace in traces], dim=1)
        golden.compare(f"out.{name}", found)


def check_objective(golden: Golden) -> None:
    predicted = LatentBatch(golden["in.visual"], proprio=golden["in.proprio"])
    goal = LatentBatch(golden["in.visual_goal"], proprio=golden["in.proprio_goal"])
    for alpha in golden.config["alphas"]:
        for frames in ("last", "all"):
            objective = Objective(matching="none", alpha=alpha, frames=frames, base=golden.config["base"])
            golden.compare(f"out.{frames}_alpha{alpha}", objective(predicted, goal).total)


CHECKS = {
    "planning_cem": check_cem,
    "dinowm_cem_trace": check_trace,
    "dinowm_plan_objective": check_objective,
}
