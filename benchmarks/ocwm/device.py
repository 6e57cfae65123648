"""Where tensors live, and how many threads torch uses."""

from __future__ import annotations

import ctypes
import os
import re

import torch

from ocwm.distributed import whole_team
from ocwm.errors import BenchError


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def choose_device(name: str) -> torch.device:
    """Return the device of a name: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N".

    Where several processes share a run, each of a machine has a GPU of its own.

    Raises:
        BenchError: there is no such device on this machine.
    """
    team = whole_team()
    if team.size > 1 and name.startswith("cuda:"):
        raise BenchError(f"runtime.device={name} is one GPU for {team.size} processes", "Set runtime.device=cuda.")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        if team.size == 1 or name == "cpu":
            return torch.device(name)
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise BenchError(f"unknown device '{name}'", "runtime.device is auto, cpu, cuda or cuda:N.")
    device = torch.device(name)
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            have = f"it has {count} CUDA device{'s' * (count > 1)}" if count else "it has no CUDA device"
            raise BenchError(f"runtime.device is '{name}' but this machine can't offer that: {have}", "Use auto.")
    if device.type == "cuda" and team.size > 1:
        device = torch.device("cuda", gpu_index(team.local_rank))
        torch.cuda.set_device(device)
    return device


def gpu_index(local_rank: int) -> int:
    """Return the number of the GPU of one of the processes of a machine; where it sees one GPU only, that is its own.

    Raises:
        BenchError: there are more processes than GPUs.
    """
    count = torch.cuda.device_count()
    if local_rank >= count > 1:
        raise BenchError(
            f"process {local_rank} of this machine has no GPU: there are {count}", "Start fewer processes."
        )
    return local_rank if count > 1 else 0


def keep_freed_memory() -> bool:
    """Tell the C library to keep large blocks that are freed, where it is glibc; return whether it does.

    It gives them back to the system at once, and a training on a CPU asks for the same ones at every update: every page
    is then a fault anew. Convolutions suffer most (benchmarks/speed/allocator.py).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:
        return False
    trim_threshold, top_pad, mmap_max = -1, -2, -4  # names of the settings in malloc.h
    settings = ((mmap_max, 0), (trim_threshold, 2**31 - 1), (top_pad, 2**28))
    return all(bool(mallopt(name, value)) for name, value in settings)


def set_threads(threads: int) -> int:
    """Set torch's number of threads (0: every core that the process may use, in equal parts) and return it.

    Raises:
        BenchError: the number is negative.
    """
    if threads < 0:
        raise BenchError(f"runtime.threads is {threads}", "Use 0 (every core) or more.")
    count = threads or max(1, available_cores() // whole_team().sharing)
    torch.set_num_threads(count)
    return count
