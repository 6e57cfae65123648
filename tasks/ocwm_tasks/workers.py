"""Processes that share work on videos or episodes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


class Run(Protocol):
    """A `map` that keeps the order."""

    def __call__(self, work: Callable[[In], Out], items: Sequence[In], /) -> Iterator[Out]:
        """Yield what `work` makes of each item."""


@contextmanager
def worker_pool(workers: int) -> Iterator[Run]:
    """A parallel `map` that keeps the order and, unlike the pool's own, drops what has not begun when it fails.

    With one worker nothing but this process works. When it is interrupted, the processes stop after the item that they
    are at.
    """
    if workers <= 1:
        yield map
        return
    # Fresh processes: forking one that holds threads (torch, a progress bar) can hang.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_worker)

    def run(work: Callable[[In], Out], items: Sequence[In]) -> Iterator[Out]:
        waiting = [pool.submit(work, item) for item in items]
        return (future.result() for future in waiting)

    try:
        yield run
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leave an interrupt to the main process, and end with it however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
