"""Decodes videos.

Shape letters: T frames, H height, W width.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ocwm.errors import BenchError

_HINT = "It is missing, truncated or no video: copy or download it again."


def frame_size(path: Path) -> tuple[int, int]:
    """Return height and width of a video's frames; nothing is decoded.

    Raises:
        BenchError: the file is missing or no video.
    """
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise BenchError(f"{path} holds no video", _HINT)
            stream = container.streams.video[0]
            return int(stream.height), int(stream.width)
    except av.error.FFmpegError as error:
        raise BenchError(f"can't decode {path}: {error.strerror}", _HINT) from error


def read_frames(path: Path, *, length: int) -> NDArray[np.uint8]:
    """Return all frames of a video, (T, H, W, 3) RGB.

    Args:
        path: the file.
        length: number of frames that it must have.

    Raises:
        BenchError: the file is missing, can't be decoded (truncated, no video), or has another length.
    """
    import av
    from av.video.reformatter import VideoReformatter

    frames: list[NDArray[np.uint8]] = []
    found = 0
    # One for all frames: `VideoFrame.to_ndarray` sets up a conversion with its threads anew for every frame, which for
    # small frames takes ten times as long as decoding them.
    colours = VideoReformatter()
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise BenchError(f"{path} holds no video", _HINT)
            for frame in container.decode(video=0):
                if found < length:  # a long video is counted, not kept
                    frames.append(np.asarray(colours.reformat(frame, format="rgb24", threads=1).to_ndarray(), np.uint8))
                found += 1
    except av.error.FFmpegError as error:
        if found:
            message = f"{path} breaks off after frame {found - 1} ({error.strerror}), expected {length} frames"
        else:
            message = f"can't decode {path}: {error.strerror}"
        raise BenchError(message, _HINT) from error
    if found != length:
        hint = "It may be truncated: copy or download it again." if found < length else "Take it out of the folder."
        raise BenchError(f"{path} has {found} frames, expected {length}", hint)
    return np.stack(frames)
