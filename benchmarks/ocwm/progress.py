"""Progress bars and messages; both go to stderr, so that stdout holds results only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from ocwm.distributed import whole_team


class Progress(Protocol):
    """Something that counts finished work."""

    def update(self, n: int = 1) -> object:
        """Count `n` more units as done."""


@contextmanager
def progress(label: str, total: int) -> Iterator[Progress]:
    """Show a bar while the block runs; silent when stderr is not a terminal, and in all processes but the first."""
    from tqdm import tqdm

    silent = not sys.stderr.isatty() or not whole_team().first
    with tqdm(total=total, desc=label, disable=silent, leave=False, dynamic_ncols=True) as bar:
        yield bar


def say(text: str) -> None:
    """Print one line for the user, above a bar that may be running; of several processes the first one speaks."""
    if not whole_team().first:
        return
    if sys.stderr.isatty():
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr)
    else:
        print(text, file=sys.stderr, flush=True)
