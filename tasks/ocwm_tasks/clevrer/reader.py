"""Opens a folder of CLEVRER data, whatever its layout."""

from __future__ import annotations

from pathlib import Path

from ocwm_tasks.clevrer.dataset import Dataset, OfficialDataset
from ocwm_tasks.clevrer.embedded import MARKER, EmbeddedDataset
from ocwm_tasks.clevrer.layout_official import find_files


def open_dataset(root: str | Path) -> Dataset:
    """Return the data set in a folder: embedded where `embedded.json` lies in it, else the official layout.

    Raises:
        BenchError: the folder is missing, unreadable, or holds no CLEVRER data.
    """
    root = Path(root).expanduser().resolve()
    files = find_files(root)
    return EmbeddedDataset(root, files=files) if (root / MARKER).is_file() else OfficialDataset(root, files=files)
