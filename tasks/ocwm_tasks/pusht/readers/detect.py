"""Recognises what lies in a folder of Push-T data."""

from __future__ import annotations

import os
from pathlib import Path

from ocwm.errors import BenchError
from ocwm_tasks.pusht.play.make import MARKER
from ocwm_tasks.pusht.readers.data_set import PushtData
from ocwm_tasks.pusht.readers.diffusion_policy import DiffusionPolicyData, find_zarr
from ocwm_tasks.pusht.readers.dino_wm import DinoWmData
from ocwm_tasks.pusht.readers.lerobot import INFO, LeRobotData
from ocwm_tasks.pusht.readers.play_data import PlayData
from ocwm_tasks.pusht.readers.swm_arrow import SwmArrowData, find_arrow
from ocwm_tasks.pusht.readers.swm_hdf5 import SwmHdf5Data, find_hdf5

_LAYOUTS = (
    "Expected pusht_noise (train/states.pth), pusht_expert_train and _val (arrow tables or .h5), "
    "pusht_cchi_v7_replay.zarr, or a folder that `bench data make` wrote."
)


def open_data(root: str | Path) -> PushtData:
    """Return the data set in a folder (or in a single .h5 file), whatever its layout; nothing of it is read yet.

    Raises:
        BenchError: it is missing, unreadable, or holds no Push-T data.
    """
    root = Path(root).expanduser().resolve()
    try:
        if root.is_file():
            return _known(root, SwmHdf5Data(root) if find_hdf5(root) else None)
        with os.scandir(root):  # fails where the root itself can't be read
            pass
        return _known(root, _in_folder(root))
    except FileNotFoundError as error:
        raise BenchError(f"the data folder {root} does not exist", "Set task.root to a folder of data.") from error
    except PermissionError as error:
        raise BenchError(f"can't read {error.filename}: permission denied", "Check its permissions.") from error


def _in_folder(root: Path) -> PushtData | None:
    if (root / MARKER).is_file():
        return PlayData(root)
    if find_zarr(root):
        return DiffusionPolicyData(root)
    if any((root / split / "states.pth").is_file() for split in ("train", "val")):
        return DinoWmData(root)
    if (root / INFO).is_file():
        return LeRobotData(root)
    if find_hdf5(root):
        return SwmHdf5Data(root)
    if find_arrow(root):
        return SwmArrowData(root)
    return None


def _known(root: Path, found: PushtData | None) -> PushtData:
    if found is None:
        raise BenchError(f"{root} holds no Push-T data", _LAYOUTS)
    if found.origins == ("val",):
        raise BenchError(f"{root} holds a validation set without its training set", "Put both into one folder.")
    return found
