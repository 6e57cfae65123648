"""What the training loop costs beside a bare loop that does the same updates, side by side in one run.

    python benchmarks/speed/trainer_overhead.py [--device cuda] [--threads 1] [--rounds 5]

Both do: pick a shuffled batch, loss, backward, clip, fused AdamW. `fit` adds schedule, learning curve, finite-loss
check, signals, and the checkpoint at the end. Prints milliseconds per update, of wall time and of processor time
(which other programs on the machine disturb less), and the ratios; medians over the rounds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ocwm.trainer import TrainerConfig, fit
from ocwm.types import LatentBatch


@dataclass(frozen=True)
class Case:
    name: str
    width: int
    layers: int
    frames: int
    batch_size: int
    steps: int


CASES = (
    Case("tiny (the loop itself)", width=16, layers=1, frames=2, batch_size=4, steps=300),
    Case("mini world model", width=128, layers=4, frames=16, batch_size=16, steps=20),
)
SLOTS = 6


class Clips:
    def __init__(self, case: Case) -> None:
        generator = torch.Generator().manual_seed(0)
        self.latents = torch.randn(2000, case.frames, SLOTS, case.width, generator=generator)

    def __len__(self) -> int:
        return len(self.latents)

    def batch(self, indices: np.ndarray, generator: np.random.Generator) -> LatentBatch:
        return LatentBatch(self.latents[torch.from_numpy(indices)])


class Predictor(nn.Module):
    def __init__(self, case: Case) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(case.width, 4, 4 * case.width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, case.layers, enable_nested_tensor=False)

    def loss(self, batch: LatentBatch) -> dict[str, Tensor]:
        tokens = batch.latents.flatten(1, 2)
        loss = (self.encoder(tokens) - tokens).square().mean()
        return {"loss": loss, "future": loss.detach()}


def clocks() -> np.ndarray:
    return np.array([time.perf_counter(), time.process_time()])


def bare(case: Case, data: Clips, device: torch.device) -> np.ndarray:
    model = Predictor(case).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    order = np.random.default_rng(0).permutation(len(data))
    generator = np.random.default_rng(1)
    start = clocks()
    for step in range(case.steps):
        first = step * case.batch_size % (len(data) - case.batch_size)
        batch = data.batch(order[first : first + case.batch_size], generator).to(device)
        loss = model.loss(batch)["loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    loss.item()
    return clocks() - start


def with_fit(case: Case, data: Clips, device: torch.device) -> np.ndarray:
    model = Predictor(case)
    config = TrainerConfig(
        max_steps=case.steps, batch_size=case.batch_size, lr=1e-4, grad_clip=1.0, schedule="warmup_cosine"
    )
    with tempfile.TemporaryDirectory() as folder:
        start = clocks()
        fit(model, data, config, seed=0, folder=Path(folder), device=device)
        return clocks() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    print(f"{'case':<24} {'clock':<10} {'bare ms':>9} {'fit ms':>9} {'ratio':>7}")
    for case in CASES:
        data = Clips(case)
        bare(case, data, device)  # warm up
        rounds = [(bare(case, data, device), with_fit(case, data, device)) for _ in range(options.rounds)]
        times = 1e3 * np.array(rounds) / case.steps  # (rounds, loop, clock)
        for number, clock in enumerate(("wall", "processor")):
            plain, fitted = np.median(times[:, :, number], axis=0)
            ratio = np.median(times[:, 1, number] / times[:, 0, number])
            print(f"{case.name:<24} {clock:<10} {plain:9.3f} {fitted:9.3f} {ratio:7.3f}")


if __name__ == "__main__":
    main()
