"""What each stage of a run costs: seconds, peak memory, parameters."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_INTERVAL_S = 0.1
_MIB = 1024 * 1024


class Costs:
    """Costs by stage: {"seconds", "cached", "peak_memory_mb", ...}.

    `peak_memory_mb` is the largest resident set, in MiB, of this process and those that it started (their shared
    pages counted twice). The figures of a cached stage are those of its making. Where several `processes` shared the
    work, seconds and memory are those of the first.
    """

    def __init__(self) -> None:
        self.stages: dict[str, dict[str, Any]] = {}

    @contextmanager
    def measure(self, stage: str) -> Iterator[dict[str, Any]]:
        """Measure the block and add it to the stage; the dict that is given has the block's own cost at the end."""
        cost: dict[str, Any] = {}
        memory = _MemoryWatch()
        started = time.perf_counter()
        with memory:
            yield cost
        cost.update(seconds=time.perf_counter() - started, peak_memory_mb=memory.peak / _MIB)
        if peak := _cuda_peak_mb():
            cost["peak_gpu_memory_mb"] = peak
        self.add(stage, cost, cached=False)

    def add(self, stage: str, cost: dict[str, Any], *, cached: bool) -> None:
        """Add the cost of one part of a stage; a stage counts as cached where all of its parts do."""
        total = self.stages.setdefault(stage, {"seconds": 0.0, "cached": True, "peak_memory_mb": 0.0})
        total["seconds"] = round(total["seconds"] + cost.get("seconds", 0.0), 3)
        total["cached"] = total["cached"] and cached
        for name in ("peak_memory_mb", "peak_gpu_memory_mb", "processes"):
            if name in cost:
                total[name] = round(max(total.get(name, 0.0), cost[name]), 1)

    def note(self, stage: str, **facts: float) -> None:
        """Add facts to a stage: parameters, tokens_per_frame, flops."""
        self.stages.setdefault(stage, {"seconds": 0.0, "cached": False, "peak_memory_mb": 0.0}).update(facts)


class _MemoryWatch:
    """Samples the resident memory of the process tree while it is entered."""

    def __init__(self) -> None:
        self.peak = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> None:
        self._sample()
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    def _watch(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            self._sample()

    def _sample(self) -> None:
        self.peak = max(self.peak, _resident_bytes(os.getpid()))


def _resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and its descendants, in bytes."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    except OSError:
        if pid != os.getpid():  # it ended between the two looks
            return 0
        # No /proc: the peak of the process's life, in KiB (on macOS in bytes).
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * resource.getpagesize() + sum(_resident_bytes(int(child)) for child in children)


def _cuda_peak_mb() -> float:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return 0.0
    return float(torch.cuda.max_memory_allocated()) / _MIB
