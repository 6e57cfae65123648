"""Decodes the first frames of a video or of a folder of images.

Shape letters: T frames, H height, W width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocwm.errors import BenchError

_IMAGES = (".png", ".jpg", ".jpeg", ".bmp")
_HINT = "Give a video, or a folder of .png or .jpg images of one size."


def read_first_frames(path: Path, *, count: int) -> NDArray[np.uint8]:
    """Return the first frames (T, H, W, 3) RGB, `count` or as many as there are.

    Args:
        path: a video, or a folder of images, which are taken in the order of their names.
        count: most frames.

    Raises:
        BenchError: there are none, they can't be decoded, or they have several sizes.
    """
    if not path.exists():
        raise BenchError(f"no frames at {path}", _HINT)
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in _IMAGES)[:count]
        if not files:
            raise BenchError(f"{path} holds no images", _HINT)
    frames = [frame for file in files for frame in _decode(file, count=1 if path.is_dir() else count)]
    if len({frame.shape for frame in frames}) != 1:
        raise BenchError(f"the images of {path} have several sizes", _HINT)
    return np.stack(frames)


def _decode(path: Path, *, count: int) -> list[NDArray[np.uint8]]:
    import av

    frames: list[NDArray[np.uint8]] = []
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise BenchError(f"{path} holds no video", _HINT)
            for frame in container.decode(video=0):
                frames.append(frame.to_ndarray(format="rgb24"))
                if len(frames) == count:
                    break
    except (av.error.FFmpegError, OSError) as error:
        raise BenchError(f"can't decode {path}: {error.strerror}", _HINT) from error
    if not frames:
        raise BenchError(f"{path} holds no frame", _HINT)
    return frames
