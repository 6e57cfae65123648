"""Several processes that share one run: what they agree on, and who does what.

All of them run the same program on the same work folder. The first one (rank 0) writes results, records and messages;
work that can be split is done in shares, everything else by each of them or by the first alone. One process means no
group, and every function here then does nothing but the work.

Importing this module does not import torch.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from ocwm.errors import BenchError
from ocwm.launch import Launch, launched

if TYPE_CHECKING:
    import torch
    from torch.distributed import ProcessGroup
    from torch.distributed.distributed_c10d import Store

T = TypeVar("T")
PATIENCE = timedelta(days=1)  # for work that the processes do not share, or not in equal parts
_POLL_S = 0.02, 0.5  # between two looks at what the first process says, at first and at most
JOIN, DONE, FAILED = "join", "done", "failed "


class ProcessLost(BenchError):
    """Another process of the run has ended, or does not answer; what is to be said of it, that process says."""


class ProcessFailed(BenchError):
    """Another process of the run has failed, and said why."""


@dataclass
class Team:
    """The processes of a run, as one of them sees it.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes.
        local_rank: number of this process on its machine, from 0.
        sharing: number of processes that may use the same cores as this one, itself counted.
        machines: number of machines.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    sharing: int = 1
    machines: int = 1
    reported: bool = False
    _store: Store | None = field(default=None, repr=False)
    _patient: ProcessGroup | None = field(default=None, repr=False)
    _turn: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def share(self, count: int, *, unit: int = 1) -> range:
        """Which of `count` items are this process's: whole units, so that batches are the same in any company."""
        units = -(-count // unit)
        low, high = (unit * -(-units * place // self.size) for place in (self.rank, self.rank + 1))
        return range(min(low, count), min(high, count))

    def rows(self, count: int) -> slice:
        """Which rows of a whole batch are this process's `count`."""
        return slice(self.rank * count, (self.rank + 1) * count)

    # What they agree on

    def most(self, *numbers: int) -> tuple[int, ...]:
        """Return the largest of each number over all processes.

        Raises:
            ProcessLost: see there.
        """
        if self.size == 1:
            return numbers
        import torch
        from torch import distributed

        both = torch.tensor(numbers, dtype=torch.int64)
        with connected():
            distributed.all_reduce(both, op=distributed.ReduceOp.MAX)
        return tuple(both.tolist())

    def average(self, values: torch.Tensor) -> torch.Tensor:
        """Replace values by their means over all processes, and return them."""
        if self.size > 1:
            from torch import distributed

            with connected():
                distributed.all_reduce(values)
            values /= self.size
        return values

    def gather(self, value: T) -> list[T]:
        """Return what every process gives, in the order of their ranks; they may come as late as they like."""
        if self.size == 1:
            return [value]
        from torch import distributed

        found: list[Any] = [None] * self.size
        with connected():
            distributed.all_gather_object(found, value, group=self._patient)
        return found

    def together(self) -> _Together:
        """Context that all processes leave, or none: where one raises, the others raise ProcessFailed."""
        return _Together(self)

    def by_first(self, work: Callable[[], T]) -> T:
        """Let the first process do something while the others wait, and return the result in all of them."""
        if self.size == 1:
            return work()
        from torch import distributed

        with self.together():
            result: list[Any] = [None]
            if self.first:
                with alone():
                    result = [work()]
        with connected():
            distributed.broadcast_object_list(result, src=0, group=self._patient)
        found: T = result[0]
        return found

    # What the first one says, for whoever comes to listen

    def next_turn(self) -> None:
        """Begin another run: what was said before belongs to the last one."""
        self._turn += 1

    def say(self, about: str, word: str) -> None:
        """Say how things stand with something; only the first process does."""
        if self._store is not None:
            with connected():
                self._store.set(f"{self._turn} {about}", word)

    def heard(self, about: str) -> str:
        """Return what the first process has said about something, "" for nothing yet."""
        assert self._store is not None
        key = f"{self._turn} {about}"
        with connected():
            return self._store.get(key).decode() if self._store.check([key]) else ""

    def waiting(self, for_what: str) -> Iterator[None]:
        """Yield again and again, more seldom with time.

        Raises:
            ProcessLost: after a day.
        """
        end, (pause, longest) = time.monotonic() + PATIENCE.total_seconds(), _POLL_S
        while time.monotonic() < end:
            yield
            time.sleep(pause)
            pause = min(1.5 * pause, longest)
        raise ProcessLost(f"the first process has not made {for_what} within a day", "Look at its messages.")


_ALONE = Team()
_whole = _team = _ALONE


def team() -> Team:
    """Return the processes that do the present work together; inside `alone` that is this one only."""
    return _team


def whole_team() -> Team:
    """Return all processes of the run, also inside `alone`."""
    return _whole


@contextmanager
def alone() -> Iterator[None]:
    """Work in this block is this process's only: nothing in it waits for the others."""
    global _team
    before, _team = _team, _ALONE
    try:
        yield
    finally:
        _team = before


@contextmanager
def processes(device: str, *, timeout_min: float) -> Iterator[Team]:
    """Join the processes that were started together, where there are several; leave them at the end.

    Where the block raises, the group is left as it is: this process ends, and the others notice.

    Args:
        device: name of the device to work on, see `choose_device`.
        timeout_min: minutes that a process waits for the others in a common step.

    Raises:
        BenchError: they do not find each other.
    """
    launch = launched()
    if launch.size == 1 or _whole.size > 1:
        yield _whole
        return
    yield join(launch, device, timeout=timedelta(minutes=timeout_min))
    leave()


def join(launch: Launch, device: str, *, timeout: timedelta) -> Team:
    """Join the other processes; see `processes`."""
    global _team, _whole
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    cuda = device != "cpu" and _has_cuda()
    os.environ.setdefault("MASTER_ADDR", launch.address)
    os.environ.setdefault("MASTER_PORT", str(launch.port))
    try:
        store, _, _ = next(rendezvous("env://", launch.rank, launch.size, timeout=timeout))
        store.set_timeout(timeout)
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if cuda else "gloo",
            store=PrefixStore("group", store),
            rank=launch.rank,
            world_size=launch.size,
            timeout=timeout,
        )
        patient = distributed.new_group(backend="gloo", timeout=PATIENCE)
    except RuntimeError as error:
        raise BenchError(
            f"process {launch.rank} of {launch.size} does not find the others at {launch.address}:{launch.port}: {error}",
            "Start all of them with one torchrun or srun; see docs/several_gpus.md.",
        ) from error
    made = Team(launch.rank, launch.size, launch.local_rank, _patient=patient)
    made._store = PrefixStore("words", store)
    known = made.gather((socket.gethostname(), _cores(), _gpu(launch.local_rank) if cuda else ""))
    made.sharing = sum(one[:2] == known[made.rank][:2] for one in known)
    made.machines = len({host for host, _, _ in known})
    gpus = [gpu for _, _, gpu in known if gpu]
    if len(set(gpus)) < len(gpus):
        raise BenchError(
            f"{len(gpus)} processes have {len(set(gpus))} GPU{'s' * (len(set(gpus)) > 1)} between them",
            "Start one process for each GPU, or set runtime.device=cpu.",
        )
    _team = _whole = made
    return made


def leave() -> None:
    """Leave the group, after the last of its processes has come here."""
    global _team, _whole
    from torch import distributed

    if _whole.size > 1:
        _whole.gather(None)  # the first process may hold what the others talk through
        _team = _whole = _ALONE
        distributed.destroy_process_group()


@contextmanager
def connected() -> Iterator[None]:
    """Turn the errors of lost connections into ProcessLost.

    Raises:
        ProcessLost: another process has ended or does not answer.
    """
    try:
        yield
    except RuntimeError as error:  # gloo has no class of its own for its errors
        if not _about_connections(error):
            raise
        raise ProcessLost(
            "another process of this run has ended, or does not answer", "Its own message says why."
        ) from error


def _about_connections(error: RuntimeError) -> bool:
    from torch import distributed

    if isinstance(error, distributed.DistError):
        return True
    return distributed.is_initialized() and ("gloo" in str(error) or "Connection" in str(error))


class _Together:
    def __init__(self, team: Team) -> None:
        self._team = team

    def __enter__(self) -> None:
        return

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        team = self._team
        # Ctrl-C and lost connections end the process: the others notice that.
        if team.size == 1 or isinstance(error, ProcessLost) or not isinstance(error, Exception | None):
            return
        texts = team.gather(None if error is None else _text(error))
        failed = [(rank, text) for rank, text in enumerate(texts) if text is not None]
        team.reported = bool(failed)
        if failed and error is None:
            rank, text = failed[0]
            raise ProcessFailed(f"process {rank} of {team.size}: {text}")


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def _gpu(local_rank: int) -> str:
    """Return what tells the GPU of a process apart from all others."""
    import torch

    from ocwm.device import gpu_index

    return str(torch.cuda.get_device_properties(gpu_index(local_rank)).uuid)


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
