"""Runs the problems of a run with its controller: together, one by one, at other budgets, in pictures.

Shape letters: P problems.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ocwm.context import RunContext
from ocwm.distributed import alone, team
from ocwm.errors import BenchError
from ocwm.flops import count_flops
from ocwm.interfaces import WorldModel
from ocwm.planning import Bounds, Planner, PlannerConfig
from ocwm_tasks.pusht.control import NEVER, Controller, Outcomes, Problem, View, control
from ocwm_tasks.pusht.controllers import ModelController, SimulatorController
from ocwm_tasks.pusht.gallery import GALLERY_VERSION, choose, draw_gallery, imagined_states
from ocwm_tasks.pusht.observer import Observer
from ocwm_tasks.pusht.references import ControlReference, Random, Setting, SimulatorModel
from ocwm_tasks.pusht.stages import Stages
from ocwm_tasks.workers import worker_pool

if TYPE_CHECKING:
    from ocwm_tasks.pusht.task import PushtTask


@dataclass
class Runner:
    """Runs the problems of one run with its controller."""

    task: PushtTask
    context: RunContext
    stages: Stages
    problems: Sequence[Problem]

    def all(self) -> tuple[Outcomes, dict[str, float]]:
        """Run all problems; return what came of them and the seconds by part."""
        total = len(self.problems) * self.task.budget // team().size
        with self.context.progress("planning (actions)", total) as bar:
            if isinstance(self.context.model, SimulatorModel):
                outcomes = self._in_processes(bar.update)
                return outcomes, {"environment": outcomes.seconds}
            controller = self.controller()
            outcomes = self._together(controller, bar.update)
        parts = team().gather(controller.times.seconds if isinstance(controller, ModelController) else {})
        spent = {
            name: sum(part.get(name, 0.0) for part in parts) for name in dict.fromkeys(n for p in parts for n in p)
        }
        return outcomes, {**spent, "environment": outcomes.seconds}

    def latency(self) -> dict[str, Any]:
        """Seconds of single plans, made one by one: median and 95th percentile by part, the first (warm-up) apart.

        Where several processes share the run, the first makes them while the others stand still.
        """
        return team().by_first(self._latency)

    def _latency(self) -> dict[str, Any]:
        rows = []
        for problem in self.problems[: self.task.latency_plans + 1] if self.task.latency_plans else ():
            controller = self.controller()
            assert isinstance(controller, ModelController)
            outcomes = self._control([problem], controller, budget=self.task.take * self.task.action_block)
            rows.append({**controller.times.seconds, "environment": outcomes.seconds})
        if not rows:
            return {}
        warm, later = rows[0], rows[1:] or rows
        names = list(warm)
        return {
            "plans": len(later),
            "warm_up": warm,
            "median": {name: float(np.median([row[name] for row in later])) for name in names},
            "p95": {name: float(np.quantile([row[name] for row in later], 0.95)) for name in names},
        }

    def budget_curve(self) -> list[dict[str, float]]:
        """Success at other planner budgets, with the same share of elites."""
        found, share = [], self.task.planning.elites / self.task.planning.samples
        for samples, iterations in self.task.curve:
            elites = max(2, round(share * samples))
            config = replace(self.task.planning, samples=samples, iterations=iterations, elites=elites)
            total = len(self.problems) * self.task.budget // team().size
            with self.context.progress(f"planning {samples} x {iterations}", total) as bar:
                outcomes = self._together(self.controller(config), bar.update)
            hits = outcomes.joint_hit != NEVER
            found.append({"samples": samples, "iterations": iterations, "success": 100 * float(hits.mean())})
        return found

    def imagined(self, outcomes: Outcomes, rows: Sequence[int]) -> list[NDArray[np.float64] | None]:
        """What the model imagined in some problems, see `imagined_states`; None where poses can't be read from latents."""
        task, model = self.task, self.context.model
        if not isinstance(model, WorldModel) or self.stages.probe is None:
            return [None] * len(rows)
        probe = self.stages.probe
        slots = self.context.encoder.slot_of(torch.tensor([problem.episode for problem in self.problems]))
        if slots is None:
            return [None] * len(rows)
        return [
            imagined_states(
                self.problems[row],
                outcomes.states[row],
                outcomes.actions[row],
                model=model,
                observer=self._observer,
                probe=probe,
                slot_of=slots[row : row + 1, :2].numpy(),
                block=task.action_block,
                history=task.history,
                take=task.take,
            )
            for row in rows
        ]

    def gallery(self, outcomes: Outcomes) -> Path:
        """Draw the first problems, where reached and where not, and return the picture's path."""
        task = self.task
        chosen = choose(outcomes.joint_hit != NEVER, task.gallery)
        imagined = self.imagined(outcomes, chosen)
        parts = self.context.part("method", "task", "encoder", "trainer", "data")
        key = {**parts, "seeds": asdict(self.context.seeds), "version": GALLERY_VERSION}
        name = self.context.config.method.name

        def build(folder: Path) -> None:
            title = f"{name}, {task.label}"
            draw_gallery(
                folder / "gallery.png", outcomes, imagined, chosen=chosen, block=task.action_block, title=title
            )

        return self.context.stage("gallery", key, build) / "gallery.png"

    def floor(self) -> Outcomes:
        """What random actions reach."""
        spec = self.context.model.spec
        return self._together(Random(spec).controller(self._setting), None)

    @property
    def _setting(self) -> Setting:
        task = self.task
        steps = task.take * task.action_block
        return Setting(self.context.seeds.eval, task.action_block, steps, self.stages.action_statistics)

    @property
    def _observer(self) -> Observer:
        block = self.stages.action_statistics.repeated(self.task.action_block)
        return Observer(
            self.context.encoder, self.context.device, block, self.stages.proprio_statistics, self.task.frame_size
        )

    def _planner(self, config: PlannerConfig) -> Planner:
        statistics = self.stages.action_statistics.repeated(self.task.action_block)
        mean, std = torch.from_numpy(statistics.mean), torch.from_numpy(statistics.std)
        ones = torch.ones(self.task.action_dim)
        bounds = Bounds.normalised(-ones, ones, mean=mean, std=std)
        return Planner(config, action_dim=self.task.action_dim, block=self.task.action_block, bounds=bounds)

    def controller(self, config: PlannerConfig | None = None) -> Controller:
        """Build what acts; a planner with other settings than the task's where given."""
        task, model = self.task, self.context.model
        if isinstance(model, ControlReference):
            return model.controller(self._setting)
        planner = self._planner(task.planning if config is None else config)
        objective = task.objective(type(model))
        seed = self.context.seeds.eval
        if isinstance(model, SimulatorModel):
            return SimulatorController(self._observer, planner, objective, seed, task.take)
        if not isinstance(model, WorldModel):
            raise BenchError("this reference can't act", "Choose another one (bench list).")
        return ModelController(model, self._observer, planner, objective, seed, task.take)

    def _together(self, controller: Controller, advance: Callable[[int], object] | None) -> Outcomes:
        """Batches of problems; where several processes share the run, each takes some of the batches."""
        size = self.task.plans_together
        own = team().share(len(self.problems), unit=size)
        with team().together(), alone():
            parts = [self.problems[low : low + size] for low in range(own.start, own.stop, size)]
            found = [self._control(part, controller, advance=advance) for part in parts]
        return _joined([part for share in team().gather(found) for part in share])

    def _in_processes(self, advance: Callable[[int], object]) -> Outcomes:
        """Every problem by itself, on all cores: simulators can't be batched."""
        controller = self.controller()
        setting = (self.task.budget, self.task.action_block, self.task.history, self.task.protocol)
        by_itself = functools.partial(_alone, controller=controller, setting=setting)
        own, workers = team().share(len(self.problems)), self.context.own_workers
        found = []
        with team().together(), alone(), worker_pool(workers) as run:
            for outcomes in run(by_itself, self.problems[own.start : own.stop]):
                found.append(outcomes)
                advance(self.task.budget)
        return _joined([part for share in team().gather(found) for part in share])

    def _control(
        self,
        problems: Sequence[Problem],
        controller: Controller,
        *,
        budget: int | None = None,
        advance: Callable[[int], object] | None = None,
    ) -> Outcomes:
        task = self.task
        return control(
            problems,
            controller,
            budget=task.budget if budget is None else budget,
            block=task.action_block,
            history=task.history,
            published_reset=task.protocol != "held_out",
            until_success=task.protocol == "dino_wm",
            advance=advance,
        )


def _alone(problem: Problem, controller: Controller, setting: tuple[int, int, int, str]) -> Outcomes:
    torch.set_num_threads(1)  # one problem a process
    budget, block, history, protocol = setting
    return control(
        [problem],
        controller,
        budget=budget,
        block=block,
        history=history,
        published_reset=protocol != "held_out",
        until_success=protocol == "dino_wm",
    )


def _joined(parts: Sequence[Outcomes]) -> Outcomes:
    def all_of(name: str) -> Any:
        return np.concatenate([getattr(part, name) for part in parts])

    return Outcomes(
        states=all_of("states"),
        actions=all_of("actions"),
        goals=all_of("goals"),
        joint_hit=all_of("joint_hit"),
        block_hit=all_of("block_hit"),
        seconds=sum(part.seconds for part in parts),
    )


def sizes(run: Runner, model: WorldModel) -> dict[str, float]:
    """What a candidate costs: FLOPs of one of its steps, and the tokens of a frame times their width."""
    controller = run.controller()
    assert isinstance(controller, ModelController)
    problem = run.problems[0]
    frames = np.concatenate([problem.past_states, problem.goal[None]])[-run.task.history :]  # any state costs the same
    history, _ = controller.observer.look([View(problem, frames, problem.past_actions, 0, 0)])
    blocks = torch.zeros(1, run.task.planning.horizon, run.task.action_dim, device=run.context.device)
    assert history.actions is not None
    seen = replace(history, actions=torch.cat([history.actions, blocks], dim=1))
    with torch.no_grad():
        flops = count_flops(lambda: model.rollout(seen, steps=run.task.planning.horizon))
    return {"flops": flops / run.task.planning.horizon, "token_width": model.spec.slot_dim}
