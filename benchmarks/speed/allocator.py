"""What keeping freed memory saves a training on a CPU: the same updates in two processes, side by side.

    python benchmarks/speed/allocator.py [--threads 1] [--updates 10] [--rounds 3]

glibc's allocator gives large blocks back to the system when they are freed, so that every update of a training touches
new pages; `ocwm.device.keep_freed_memory`, which runs and trainings call first, makes it keep them. Prints seconds for
an update, medians over the rounds, and the ratio: near 1 for transformers over a few slots, large for convolutions over
frames. The price is that a process never shrinks; its peak is printed too.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch
from torch import Tensor, nn

from ocwm.device import keep_freed_memory


def convolutions() -> tuple[nn.Module, Tensor]:
    """Four convolutions over 36 frames of 64 x 96 pixels, as small slot encoders have them."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 5, 2, 2), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Conv2d(32, 32, 3, 1, 1), nn.ReLU()]
    return nn.Sequential(*layers), torch.randn(36, 3, 64, 96)


def transformer() -> tuple[nn.Module, Tensor]:
    """Four layers over 24 clips of 16 frames with 6 slots, as small world models have them."""
    layer = nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 4, enable_nested_tensor=False), torch.randn(24, 96, 64)


CASES = {"convolutions": convolutions, "transformer": transformer}


def measure(case: str, *, keep: bool, threads: int, updates: int) -> None:
    """Print seconds for an update and the peak memory in MB, as JSON."""
    torch.set_num_threads(threads)
    if keep:
        assert keep_freed_memory(), "the C library has no such settings"
    torch.manual_seed(0)
    model, inputs = CASES[case]()
    optimizer = torch.optim.AdamW(model.parameters())
    taken = []
    for _ in range(updates + 2):
        started = time.perf_counter()
        model(inputs).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        taken.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": statistics.median(taken[2:]), "peak_mb": peak}))


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs=2, metavar=("CASE", "KEEP"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        case, keep = options.only
        measure(case, keep=keep == "keep", threads=options.threads, updates=options.updates)
        return
    for case in CASES:
        found: dict[str, list[dict[str, float]]] = {"give back": [], "keep": []}
        for _ in range(options.rounds):
            for name, rows in found.items():
                command = [sys.executable, __file__, "--only", case, name]
                command += ["--threads", str(options.threads), "--updates", str(options.updates)]
                rows.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        seconds = {name: statistics.median(row["seconds"] for row in rows) for name, rows in found.items()}
        peak = {name: max(row["peak_mb"] for row in rows) for name, rows in found.items()}
        print(
            f"{case}: {seconds['give back'] * 1e3:.0f} ms an update as it is, {seconds['keep'] * 1e3:.0f} ms with memory "
            f"kept: {seconds['give back'] / seconds['keep']:.2f}x; peak {peak['give back']:.0f} and {peak['keep']:.0f} MB"
        )


if __name__ == "__main__":
    main()
