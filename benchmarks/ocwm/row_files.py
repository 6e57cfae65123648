"""Arrays whose rows several processes compute, put together on disk.

Shape letters: V rows.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocwm.distributed import alone, team


def header(shape: tuple[int, ...]) -> bytes:
    """Return the start of an .npy file of float32 numbers."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue()


def join_rows(files: Sequence[Path], target: Path) -> None:
    """Put the rows of some .npy files of float32 numbers into one, and remove them."""
    if len(files) == 1:
        files[0].replace(target)
        return
    shapes = [np.load(path, mmap_mode="r").shape for path in files]
    with target.open("wb") as joined:
        joined.write(header((sum(shape[0] for shape in shapes), *shapes[0][1:])))
        for path in files:
            with path.open("rb") as source:
                np.lib.format.read_magic(source)
                np.lib.format.read_array_header_1_0(source)
                shutil.copyfileobj(source, joined, 2**24)
            path.unlink()  # so that the disk never holds all of it twice


def compute_rows(
    count: int, compute: Callable[[slice], NDArray[np.float32]], *, unit: int, work: Path, out: Path
) -> None:
    """Compute V rows and write them to `out`; where several processes share the run, each computes a part.

    Args:
        count: number of rows V.
        compute: gives some rows (rows, ...).
        unit: rows that are computed as one batch: parts are whole batches, so that every row comes out the same.
        work: folder that all processes see, for this array alone.
        out: .npy file; only the first process writes it.
    """
    processes = team()
    if processes.size == 1:
        np.save(out, compute(slice(0, count)))
        return
    files = [work / f"rows.{rank}-of-{processes.size}.npy" for rank in range(processes.size)]
    with processes.together(), alone():
        own = processes.share(count, unit=unit)
        rows: NDArray[Any] = compute(slice(own.start, own.stop))
        np.save(files[processes.rank], rows.astype("<f4", copy=False))
    if processes.first:
        join_rows(files, out)
