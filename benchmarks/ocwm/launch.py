"""How this process was started: alone, or as one of several that share a run; read from the environment, without torch.

torchrun sets RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT. srun sets variables of its own, which submitit
reads; so does submitit's executor on one machine.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import Any

from ocwm.errors import BenchError

_TORCH = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_PORTS = (20000, 60000)


@dataclass(frozen=True)
class Launch:
    """This process among those that were started together.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        local_rank: number of this process on its machine, from 0.
        address, port: where the processes meet: a machine's name, and a port of it.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    address: str = ""
    port: int = 0


def launched() -> Launch:
    """Return how this process was started.

    Raises:
        BenchError: the variables contradict each other, or some are missing.
    """
    if "WORLD_SIZE" in os.environ and "RANK" in os.environ:
        return _by_torch()
    if "SUBMITIT_EXECUTOR" in os.environ:
        from submitit import JobEnvironment

        return _by_submitit(JobEnvironment(), "")
    # A batch script knows the number of tasks of its job too, but is alone: only srun's steps have a number of their own.
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        from submitit.slurm.slurm import SlurmJobEnvironment

        return _by_submitit(SlurmJobEnvironment(), os.environ.get("SLURM_STEP_ID", ""))
    return Launch()


def hush_torch() -> None:
    """Keep warnings of torch's C++ side off the screen, unless the user has chosen; call this before torch is imported.

    DistributedDataParallel looks for parameters without a gradient, which some methods have, and warns at all others.
    """
    if "RANK" in os.environ or "SLURM_STEP_NUM_TASKS" in os.environ or "SUBMITIT_EXECUTOR" in os.environ:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def _by_torch() -> Launch:
    size = _number("WORLD_SIZE")
    if size == 1:
        return Launch()
    if missing := [name for name in _TORCH if not os.environ.get(name)]:
        raise BenchError(
            f"WORLD_SIZE={size}, but {', '.join(missing)} is not set", "Start the processes with torchrun."
        )
    launch = Launch(_number("RANK"), size, _number("LOCAL_RANK"), os.environ["MASTER_ADDR"], _number("MASTER_PORT"))
    if not 0 <= launch.rank < size:
        raise BenchError(f"RANK={launch.rank} is not one of WORLD_SIZE={size}", "Start the processes with torchrun.")
    return launch


def _by_submitit(job: Any, step: str) -> Launch:
    if job.num_tasks == 1:
        return Launch()
    # Every process must come to the same port without asking, and two steps of a job to different ones.
    port = random.Random(f"{job.job_id}.{step}").randint(*_PORTS)
    return Launch(
        job.global_rank, job.num_tasks, job.local_rank, job.hostnames[0], int(os.environ.get("MASTER_PORT", port))
    )


def _number(name: str) -> int:
    text = os.environ[name]
    if not text.isdecimal():
        raise BenchError(f"{name}={text} is no number", "Start the processes with torchrun.")
    return int(text)
