"""Trains a small model twice: without a break in FOLDER/whole, and stopped at six random points in FOLDER/killed.

    python killed_training.py FOLDER

SIGKILL and SIGINT take turns. Each attempt is a forked process, so that torch is imported once. Prints the exit codes
of the attempts that were stopped; both folders end up with final.safetensors.
"""

import json
import os
import random
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ocwm import checkpoint
from ocwm.trainer import Interrupted, TrainerConfig, fit

STEPS = 200


@dataclass(frozen=True)
class Pair:
    inputs: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "Pair":
        return Pair(self.inputs.to(device), self.targets.to(device))


class NoisyPairs:
    """Items whose batches draw from the generator, and are counted in a pipe."""

    def __init__(self, pipe: int) -> None:
        self.pipe = pipe
        generator = np.random.default_rng(7)
        self.inputs = generator.normal(size=(100, 8)).astype(np.float32)
        self.targets = self.inputs[:, :3] ** 2

    def __len__(self) -> int:
        return len(self.inputs)

    def batch(self, indices: np.ndarray, generator: np.random.Generator) -> Pair:
        os.write(self.pipe, b".")
        noise = generator.normal(scale=0.01, size=(len(indices), 8)).astype(np.float32)
        return Pair(torch.from_numpy(self.inputs[indices] + noise), torch.from_numpy(self.targets[indices]))


class Regressor(nn.Module):
    """A network with dropout (torch's generator), a buffer that changes, and tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 32), nn.Linear(32, 3)
        )
        self.tied = self.layers[4]

    def loss(self, batch: Pair) -> dict[str, Tensor]:
        error = self.layers(batch.inputs) - batch.targets
        return {"loss": error.square().mean(), "absolute": error.abs().mean()}


def train(folder: Path, pipe: int) -> None:
    torch.manual_seed(3)
    model = Regressor()
    config = TrainerConfig(
        max_steps=STEPS,
        batch_size=16,
        lr=3e-3,
        schedule="warmup_cosine",
        warmup_fraction=0.1,
        grad_clip=1.0,
        log_every=7,
        eval_every=30,
        checkpoint_seconds=0.01,
    )
    report = fit(
        model,
        NoisyPairs(pipe),
        config,
        seed=5,
        folder=folder,
        device=torch.device("cpu"),
        validate=lambda model: {"dev": float(torch.rand(()) + model.layers[0].weight.sum())},
    )
    checkpoint.save(folder / "final.safetensors", model.state_dict(), {"curve": report.curve})


def attempt(folder: Path, pipe: int) -> int:
    """Fork a process that trains and writes a byte to `pipe` for each update; return its id."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        train(folder, pipe)
        code = 0
    except Interrupted as stop:
        code = 128 + stop.signal_number
    finally:
        os._exit(code)


def main() -> None:
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    torch.optim.AdamW(Regressor().parameters())  # imports much of torch: once here, not in every attempt
    chance = random.Random(11)
    codes = []
    for number in (signal.SIGKILL, signal.SIGINT) * 3:
        reading, writing = os.pipe()
        process = attempt(folder / "killed", writing)
        os.close(writing)
        for _ in range(chance.randrange(5, 25)):
            os.read(reading, 1)
        time.sleep(chance.uniform(0.0, 0.02))
        os.kill(process, number)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
        os.close(reading)
    for name in ("killed", "whole"):
        assert os.waitpid(attempt(folder / name, os.open(os.devnull, os.O_WRONLY)), 0)[1] == 0
    print(json.dumps(codes))


if __name__ == "__main__":
    main()
