"""Planning with the published predictor: candidates a second, beside straightforward loops, and where the time goes.

    python benchmarks/speed/planning.py [--device cpu] [--threads 1] [--samples 300] [--problems 2] [--patch-samples 8]
                                        [--rounds 3] [--precision fp32]

1. C-JEPA (6 layers, 16 heads, slots of 128) rolls candidates of 5 blocks out and compares them with a goal, by
   `ModelCost`, and by two plain loops over one episode at a time in fp32, with plain_models.py's network and one call of
   scipy's solver for each candidate and step: one that rolls all candidates of an episode out in one batch, and one that
   takes candidate after candidate. All take turns in this run; ratios are medians over the turns, on a CPU of processor
   time, which other programs disturb less.
2. A whole CEM search (8 iterations) by each of the first two: the chosen actions must agree.
3. Where a plan's time goes for slots (C-JEPA on VideoSAUR's) and for patches (DINO-WM on DINOv2's), weights not trained:
   encode (the frame of the start and that of the goal), predict, match; and what 50 episodes of the published search
   (2 plans of 300 x 30 candidates each) would take at that pace, beside the published ratio of 8.6.

What limits it: 0.36 billion multiplications a candidate, of which ours leaves out the fifth that nothing reads (most of
the last layer). Two thirds of our time are matrix products at the pace of torch's own (65..90 GFLOP/s on one core of the
machine that it was written on), so on such a CPU no more than about twice a batched loop can be reached in fp32; bfloat16
pays on GPUs and on CPUs with instructions for it only. On a CPU the ratio of patches to slots follows the operations; on a
GPU the short sequences of slots are bound by kernel launches.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from plain_models import PlainCJEPA
from scipy.optimize import linear_sum_assignment
from tabulate import tabulate
from torch import Tensor

from ocwm.config import compose, instantiate
from ocwm.flops import count_flops
from ocwm.goal_cost import Objective
from ocwm.interfaces import WorldModel
from ocwm.planning import ModelCost, Planner, PlannerConfig, PlanTimes
from ocwm.types import LatentBatch, LatentSpec, Observations
from ocwm_methods.cjepa import CJEPA

SLOTS, DIM, HORIZON, BLOCK, PROPRIO = 4, 128, 5, 10, 4
PLANS, CANDIDATES = 100, 300 * 30  # the published evaluation: 50 episodes, 2 plans of each
PUBLISHED = 5763 / 673  # seconds of DINO-WM over those of C-JEPA, arXiv 2602.11389
VIT_SMALL = "{hidden_size: 384, num_hidden_layers: 12, num_attention_heads: 6, patch_size: 14}"  # the published DINOv2


def cjepa() -> CJEPA:
    spec = LatentSpec(SLOTS, DIM, action_dim=BLOCK, proprio_dim=PROPRIO)
    return CJEPA(spec, history_frames=3, pred_frames=1, frameskip=5, num_masked=1).eval()


def matched(slots_SND: Tensor, reference_SND: Tensor) -> Tensor:
    """Slots in the order of the reference, candidate by candidate."""
    found = torch.empty_like(slots_SND)
    for row, (slots, reference) in enumerate(zip(slots_SND, reference_SND, strict=True)):
        costs = (slots[:, None] - reference[None]).square().sum(-1)
        mine, theirs = linear_sum_assignment(costs.cpu().numpy())
        found[row, theirs] = slots[mine]
    return found


class PlainCost:
    """What `ModelCost` computes, by a loop over problems; `at_once` candidates of one in a batch."""

    def __init__(self, model: CJEPA, history: LatentBatch, goal: LatentBatch, *, at_once: int | None) -> None:
        self.model, self.net, self.history, self.goal, self.at_once = (
            model,
            PlainCJEPA(model).eval(),
            history,
            goal,
            at_once,
        )

    @torch.no_grad()
    def __call__(self, candidates_PSHA: Tensor) -> Tensor:
        candidates_PSHA = candidates_PSHA.to(self.history.latents.device)
        rows = []
        for number, candidates in enumerate(candidates_PSHA):
            parts = candidates.split(self.at_once or len(candidates))
            rows.append(torch.cat([self.one(number, part) for part in parts]))
        return torch.stack(rows).cpu()

    def one(self, problem: int, candidates_SHA: Tensor) -> Tensor:
        model, net, samples = self.model, self.net, len(candidates_SHA)
        assert self.history.proprio is not None
        assert self.goal.proprio is not None
        slots = self.history.latents[problem].expand(samples, 1, SLOTS, DIM)
        proprio = self.history.proprio[problem].expand(samples, 1, PROPRIO)
        nodes = model.nodes(slots, actions=candidates_SHA[:, :1], proprio=proprio)
        actions = model.action_encoder(candidates_SHA)
        for step in range(HORIZON):
            window = nodes[:, -3:]
            times = net.time[:, -window.shape[1] - 1 :]
            tokens = torch.cat([window + times[:, :-1], net.queries(window, times[:, -1:])], dim=1)
            new = net.predict(tokens)[:, -1:].clone()
            new[:, 0, :SLOTS] = matched(new[:, 0, :SLOTS], nodes[:, -1, :SLOTS])
            if step < HORIZON - 1:
                new[:, 0, SLOTS + 1] = actions[:, step + 1]
            nodes = torch.cat([nodes, new], dim=1)
        goal = self.goal.latents[problem].expand(samples, SLOTS, DIM)
        own = (matched(nodes[:, -1, :SLOTS], goal) - goal).square().mean((1, 2))
        there = model.embed_proprio(self.goal.proprio[problem : problem + 1])[0]
        return own + (nodes[:, -1, SLOTS] - there).square().mean(-1)


def problems(count: int, tokens: int, dim: int, device: torch.device) -> tuple[LatentBatch, LatentBatch]:
    history, goal = (
        LatentBatch(torch.randn(count, 1, tokens, dim), proprio=torch.randn(count, 1, PROPRIO)).to(device)
        for _ in range(2)
    )
    return history, goal


def clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def spent(work: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Wall seconds, and those for ratios."""
    wall, started = time.perf_counter(), clock(device)
    work()
    took = clock(device) - started
    return time.perf_counter() - wall, took


def loops(args: argparse.Namespace, device: torch.device) -> None:
    model = cjepa().to(device)
    history, goal = problems(args.problems, SLOTS, DIM, device)
    ours = ModelCost(model, history, goal, Objective(), device=device, precision=args.precision)
    batch, single = (PlainCost(model, history, goal, at_once=size) for size in (None, 1))
    many = torch.randn(args.problems, args.samples, HORIZON, BLOCK)
    few = many[:, : max(1, args.samples // 10)]
    names = ("ours", "plain, all candidates of an episode", "plain, one candidate at a time")
    works = ((ours, many), (batch, many), (single, few))
    costs = [cost(candidates) for cost, candidates in works]
    apart = max(float((one[:, : few.shape[1]] - costs[0][:, : few.shape[1]]).abs().max()) for one in costs[1:])
    turns = [[spent(lambda c=cost, x=x: c(x), device) for cost, x in works] for _ in range(args.rounds)]
    rows = []
    for number, (name, (_, candidates)) in enumerate(zip(names, works, strict=True)):
        count = candidates.shape[0] * candidates.shape[1]
        rates = [count / turn[number][0] for turn in turns]
        ratios = [turn[number][1] / count / (turn[0][1] / many.shape[0] / many.shape[1]) for turn in turns]
        rows.append([name, 1e3 / statistics.median(rates), statistics.median(rates), statistics.median(ratios)])
    print(tabulate(rows, ["C-JEPA", "ms/candidate", "candidates/s", "time / ours"], floatfmt=".3g"))
    print(f"largest difference of a cost: {apart:.2g}")
    config = PlannerConfig(samples=min(args.samples, 64), iterations=8, elites=8)
    planner = Planner(config, action_dim=BLOCK, block=5)
    keys = [(0, number, 0) for number in range(args.problems)]
    plans = [planner.plan(cost, keys=keys).actions for cost in (ours, batch)]
    print(f"largest difference of a chosen action after CEM: {(plans[0] - plans[1]).abs().max():.2g}\n")


@dataclass(frozen=True)
class Subject:
    """A method on its published encoder."""

    name: str
    encode: Callable[[], object]
    model: WorldModel
    tokens: int
    dim: int
    samples: int

    @classmethod
    def build(cls, method: str, samples: int, device: torch.device) -> Subject:
        sizes = [f"encoder.random_sizes={VIT_SMALL}"] if method == "dino_wm" else []
        config = compose(
            method=method, task="pusht", preset="paper", overrides=["encoder.weights=random", *sizes]
        ).values
        encoder = instantiate(config.encoder)
        spec = LatentSpec(encoder.num_slots, encoder.slot_dim, action_dim=BLOCK, proprio_dim=PROPRIO)
        torch.manual_seed(0)
        model = instantiate(config.method, spec).to(device)
        frames = Observations(
            pixels=torch.randint(256, (1, 1, 3, 224, 224), dtype=torch.uint8).to(device),
            ids=torch.zeros(1, dtype=torch.int64),
        )
        return cls(
            f"{method} on {encoder.name}",
            lambda: encoder.encode(frames),
            model,
            spec.num_slots,
            spec.slot_dim,
            samples,
        )


def split(args: argparse.Namespace, device: torch.device) -> None:
    rows, totals = [], []
    for method, samples in (("cjepa", args.samples), ("dino_wm", args.patch_samples)):
        subject = Subject.build(method, samples, device)
        subject.encode()
        encode = 2 * statistics.median(spent(subject.encode, device)[0] for _ in range(args.rounds))
        history, goal = problems(1, subject.tokens, subject.dim, device)
        times = PlanTimes()
        cost = ModelCost(
            subject.model, history, goal, Objective(), device=device, precision=args.precision, times=times
        )
        candidates = torch.randn(1, samples, HORIZON, BLOCK)
        cost(candidates)
        times.seconds.clear()
        for _ in range(args.rounds):
            cost(candidates)
        predict, match = (times.seconds[stage] / args.rounds / samples for stage in ("predict", "match"))
        totals.append(PLANS * (encode + CANDIDATES * (predict + match)))
        work = count_flops(functools.partial(cost, candidates)) / samples / 1e9
        size = f"{subject.tokens} x {subject.dim}"
        rows.append([subject.name, size, work, encode, 1e3 * predict, 1e3 * match, totals[-1] / 60])
    heads = ["", "tokens", "GFLOP", "encode s/plan", "predict ms", "match ms", "50 episodes, min"]
    print(tabulate(rows, heads, floatfmt=".3g"))
    print("GFLOP, predict and match are those of a candidate.")
    print(
        f"patches / slots: time {totals[1] / totals[0]:.1f}, operations {rows[1][2] / rows[0][2]:.1f} "
        f"(time published, on a GPU and with the environment: {PUBLISHED:.1f})"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--problems", type=int, default=2)
    parser.add_argument("--patch-samples", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    args = parser.parse_args(arguments)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    device = torch.device(args.device)
    loops(args, device)
    split(args, device)


if __name__ == "__main__":
    main()
