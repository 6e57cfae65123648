"""Ctrl-C and SIGTERM (a scheduler's time limit) stop a command, whatever the code that they hit makes of them."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stoppable() -> Iterator[Callable[[], None]]:
    """Raise KeyboardInterrupt where a signal asks to stop.

    An interrupt can get lost: imports and callbacks of the interpreter swallow it, libraries turn it into errors of
    their own. So an error after a signal counts as the interrupt, and the function that is given raises it where it
    got lost.
    """
    asked = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        asked = True
        raise KeyboardInterrupt

    def stop_here() -> None:
        if asked:
            raise KeyboardInterrupt

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop_here
    except Exception as error:
        if asked:
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
