"""C-JEPA's rollout 128 -> 160 in fp32 and under bf16 autocast, side by side in one run.

    python benchmarks/speed/predictor_inference.py [--device cpu] [--threads 1] [--videos 16] [--rounds 5]

Prints clips and tokens a second, the ratio, and how far the two are apart. Two calls of the predictor do a rollout, both
residues of the stride in one batch. What limits it: on a CPU without bf16 instructions autocast only adds casts; on a GPU
the sequence is short (42 + 70 tokens), so small batches are bound by kernel launches.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from tabulate import tabulate

from ocwm.types import LatentSpec
from ocwm_methods.cjepa import CJEPA
from ocwm_tasks.clevrer.windows import extend

SLOTS, DIM, FRAMES, STEPS = 7, 128, 128, 32  # the published sizes


def measure(model: CJEPA, videos: torch.Tensor, *, autocast: bool, rounds: int) -> tuple[list[float], torch.Tensor]:
    seconds = []
    for _ in range(rounds + 1):  # the first round warms up
        started = time.perf_counter()
        with torch.autocast(videos.device.type, torch.bfloat16, enabled=autocast):
            rolled = extend(model, videos, steps=STEPS)
        if videos.device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return seconds[1:], rolled.float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--videos", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = CJEPA(LatentSpec(SLOTS, DIM)).to(args.device).eval()
    videos = torch.randn(args.videos, FRAMES, SLOTS, DIM, device=args.device)
    rows, results = [], {}
    for name, autocast in (("fp32", False), ("bf16 autocast", True)):
        seconds, results[name] = measure(model, videos, autocast=autocast, rounds=args.rounds)
        median = statistics.median(seconds)
        rows.append([name, median, args.videos / median, args.videos * STEPS * SLOTS / median])
    print(tabulate(rows, ["precision", "s a rollout", "videos/s", "predicted tokens/s"], floatfmt=".4g"))
    gap = (results["fp32"] - results["bf16 autocast"]).abs().max().item()
    print(f"fp32 / bf16 autocast: {rows[0][1] / rows[1][1]:.2f}; largest difference {gap:.3g}")


if __name__ == "__main__":
    main()
