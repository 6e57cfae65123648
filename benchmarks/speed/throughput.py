"""Training and inference throughput of every learned method, beside its straightforward version, in one run.

    python benchmarks/speed/throughput.py [--preset mini|paper] [--methods cjepa slotformer] [--seconds 3]
                                          [--threads 1] [--batch N] [--variants fp32 bf16 compile] [--set KEY=VALUE] [--json FILE]

An update is loss, gradients and fused AdamW on a batch of CLEVRER clips; inference is a rollout of 16 frames. The
straightforward version (plain_models.py) has the same sizes and weights, on nn.MultiheadAttention and
nn.TransformerEncoderLayer, and takes turns with ours; both run in the same precision, compiled or not. Runs on the CPU
in fp32 and, where there is a GPU, there in fp32, in bf16 and compiled (bf16). "ratio" is the median over the turns of its
time over ours (above 1: ours is faster), on a CPU of processor time, which other programs disturb less. Memory is what a
step allocates at most on top of the weights. What limits it: a rollout is a chain of small products, so on a GPU it
is bound by kernel launches. In training SlotFormer and OCVP encode ten windows where C-JEPA encodes one: at mini three
times its operations (8.5 and 2.8 GFLOP an update) at the same operations a second, and as places in a window are absolute,
nothing but the projection of the slots outlives a step.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from plain_models import plain
from tabulate import tabulate
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from ocwm import registry
from ocwm.config import compose, instantiate
from ocwm.device import set_threads
from ocwm.interfaces import WorldModel
from ocwm.types import LatentBatch, LatentSpec

STEPS = 16  # CLEVRER's frames 128..159 at stride 2
VARIANTS = ("fp32", "bf16", "compile")
MIB = 1024 * 1024


@dataclass(frozen=True)
class Row:
    """One line of the table; `peak_mib` on top of the weights, `ratio` None where there is nothing to compare with."""

    method: str
    mode: str
    device: str
    variant: str
    batch: int
    clips_per_second: float
    tokens_per_second: float
    peak_mib: float
    ratio: float | None


@dataclass(frozen=True)
class Case:
    """A method with its data on a device."""

    name: str
    model: WorldModel
    batch: LatentBatch

    @classmethod
    def build(
        cls, name: str, *, preset: str, batch: int | None, device: torch.device, overrides: Sequence[str] = ()
    ) -> Case:
        config = compose(method=name, task="clevrer", preset=preset, overrides=overrides).values
        encoder = instantiate(config.encoder)
        spec = LatentSpec(encoder.num_slots, encoder.slot_dim)
        torch.manual_seed(0)
        model = instantiate(config.method, spec).to(device)
        size = (batch or config.trainer.batch_size, model.clip.length, spec.num_slots, spec.slot_dim)
        return cls(name, model, LatentBatch(torch.randn(size).to(device)))

    @property
    def device(self) -> torch.device:
        return self.batch.latents.device


def training(
    model: nn.Module, loss: Callable[[LatentBatch], Tensor], batch: LatentBatch, precision: torch.autocast
) -> Callable[[], object]:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)

    def step() -> None:
        with precision:
            value = loss(batch)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    model.train()
    return step


def inference(
    model: nn.Module, rollout: Callable[[LatentBatch], object], history: LatentBatch, precision: torch.autocast
) -> Callable[[], object]:
    def step() -> None:
        with torch.no_grad(), precision:
            rollout(history)

    model.eval()
    return step


def clocks(device: torch.device) -> tuple[float, float]:
    """Wall time, and the clock for ratios."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    wall = time.perf_counter()
    return wall, wall if device.type == "cuda" else time.process_time()


def alternate(steps: Sequence[Callable[[], object]], device: torch.device, seconds: float) -> list[list[float]]:
    """Let steps take turns for `seconds` each; wall times of the first, then clock times of every step."""
    times: list[list[float]] = [[] for _ in range(len(steps) + 1)]
    until = time.perf_counter() + seconds * len(steps)
    while not times[0] or time.perf_counter() < until:
        for number, step in enumerate(steps):
            wall, clock = clocks(device)
            step()
            wall_after, clock_after = clocks(device)
            times[number + 1].append(clock_after - clock)
            if not number:
                times[0].append(wall_after - wall)
    return times


def peak_mib(step: Callable[[], object], device: torch.device) -> float:
    """What a step allocates at most on top of what is there before it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return (torch.cuda.max_memory_allocated(device) - before) / MIB
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiled.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    now = peak = 0
    for event in sorted((e for e in events if e.get("name") == "[memory]"), key=lambda e: e["ts"]):
        now += event["args"]["Bytes"]
        peak = max(peak, now)
    return peak / MIB


def measure(case: Case, variant: str, *, seconds: float) -> Iterator[Row]:
    precision = torch.autocast(case.device.type, torch.bfloat16, enabled=variant != "fp32")
    compiled = torch.compile if variant == "compile" else lambda function: function
    model, batch, other = case.model, case.batch, plain(case.model)
    history = LatentBatch(batch.latents[:, : model.clip.history])

    def ours(clips: LatentBatch) -> Tensor:
        return model.loss(clips)["loss"]

    def extended(past: LatentBatch) -> Tensor:
        return model.rollout(past, steps=STEPS).latents

    for mode in ("training", "inference"):
        if mode == "training":
            steps = [training(model, compiled(ours), batch, precision)]
            if other is not None:
                steps.append(training(other, compiled(other.loss), batch, precision))
        else:
            steps = [inference(model, compiled(extended), history, precision)]
            if other is not None:
                steps.append(
                    inference(other, compiled(lambda past: other.rollout(past, steps=STEPS)), history, precision)
                )
        for step in steps:
            step()  # warms up, and compiles
        wall, *times = alternate(steps, case.device, seconds)
        size, frames, slots, _ = batch.latents.shape
        median = statistics.median(wall)
        yield Row(
            case.name,
            mode,
            case.device.type,
            variant,
            size,
            clips_per_second=size / median,
            tokens_per_second=size * slots * (frames if mode == "training" else STEPS) / median,
            peak_mib=peak_mib(steps[0], case.device),
            ratio=statistics.median(b / a for a, b in zip(*times, strict=True)) if other is not None else None,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="mini", help="sizes and batch: mini or paper")
    parser.add_argument("--methods", nargs="+", default=list(registry.plugins("method")))
    parser.add_argument("--seconds", type=float, default=3.0, help="for each measurement and each of the two versions")
    parser.add_argument("--threads", type=int, default=1, help="0: all cores")
    parser.add_argument("--batch", type=int, help="clips of a batch, default the preset's")
    parser.add_argument("--devices", nargs="+", default=["cpu"] + ["cuda"] * torch.cuda.is_available())
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, help="default: fp32 on a CPU, all on a GPU")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="overrides, as for bench run")
    parser.add_argument("--json", type=Path, help="write the rows and what they were measured on to this file")
    args = parser.parse_args()
    threads = set_threads(args.threads)
    rows = []
    for device in map(torch.device, args.devices):
        for name in args.methods:
            case = Case.build(name, preset=args.preset, batch=args.batch, device=device, overrides=args.set)
            for variant in args.variants or (VARIANTS if device.type == "cuda" else VARIANTS[:1]):
                rows += measure(case, variant, seconds=args.seconds)
    names = ["method", "mode", "device", "variant", "batch", "clips/s", "tokens/s", "peak MiB", "ratio to plain"]
    print(tabulate([list(asdict(row).values()) for row in rows], names, floatfmt=".4g", missingval="-"))
    if args.json is not None:
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
        machine = {"torch": torch.__version__, "threads": threads, "gpu": gpu, "preset": args.preset}
        args.json.write_text(json.dumps({**machine, "rows": [asdict(row) for row in rows]}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
