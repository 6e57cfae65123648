"""The cost of an update: AdamW, torch's Muon and this project's, side by side in one run.

    python benchmarks/speed/optimizers.py [--device cpu] [--threads 1] [--rounds 30]

The weights are those of the predictor of presets mini and standard. Prints milliseconds an update and its ratio to torch's
Muon. What limits it: torch orthogonalises one matrix after the other in bfloat16, which many CPUs only emulate; here
matrices of one shape are a batch, so the products are few and in fp32. On a GPU both are bound by kernel launches.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from tabulate import tabulate
from torch import nn

from ocwm.muon import Muon, matrices
from ocwm.types import LatentSpec
from ocwm_methods.cjepa import CJEPA

SLOTS, DIM = 6, 64


def model(device: str) -> nn.Module:
    torch.manual_seed(0)
    made = CJEPA(LatentSpec(SLOTS, DIM), depth=4, heads=4, mlp_dim=256, num_masked=1).to(device)
    for parameter in made.parameters():
        parameter.grad = torch.randn_like(parameter)
    return made


def adamw(made: nn.Module) -> Callable[[], object]:
    return torch.optim.AdamW(made.parameters(), fused=True).step


def torch_muon(made: nn.Module) -> Callable[[], object]:
    hidden = list(matrices(made))
    others = [p for p in made.parameters() if not any(p is q for q in hidden)]
    both = torch.optim.Muon(hidden), torch.optim.AdamW(others, fused=True)
    return lambda: [optimizer.step() for optimizer in both]


def own_muon(made: nn.Module) -> Callable[[], object]:
    gradients = {p: p.grad for p in made.parameters()}
    optimizer = Muon([{"params": list(gradients)}], matrices(made), lr=1e-3, weight_decay=0.01)

    def step() -> None:
        optimizer.step()
        for parameter, gradient in gradients.items():  # the update takes those of the matrices away
            parameter.grad = gradient

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    medians = {}
    for name, build in {"AdamW": adamw, "Muon of torch": torch_muon, "Muon, batched": own_muon}.items():
        step, seconds = build(model(args.device)), []
        for _ in range(args.rounds + 3):  # the first rounds warm up
            started = time.perf_counter()
            step()
            if args.device == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
        medians[name] = 1000 * statistics.median(seconds[3:])
    reference = medians["Muon of torch"]
    rows = [[name, ms, ms / reference] for name, ms in medians.items()]
    print(tabulate(rows, ["optimiser", "ms an update", "ratio to Muon of torch"], floatfmt=".3g"))


if __name__ == "__main__":
    main()
