"""The quality gates of a pixel encoder: how well its slots part, follow and describe the objects of held-out videos.

`ocwm.encoder_quality` measures them.

Shape letters: T frames, N slots, n objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

NO_MASKS = "not measured: no masks"


@dataclass(frozen=True)
class EncoderQuality:
    """Figures of an encoder on the observed frames of held-out videos; None where they can't be measured.

    A slot's mask is where it claims more of a pixel than any other slot and than what all of them leave over. A video's
    IoU of a slot with an object is the sum of their shared pixels over the frames, by the sum of their united pixels.
    Each object is matched with a slot of its own so that the sum of these IoU is greatest. Objects that no observed
    frame shows don't count.

    Attributes:
        videos: held-out videos that were measured.
        frames: of each.
        fg_ari_video: adjusted Rand index over the pixels of objects in all frames of a video together, so that a slot
            that changes its object costs; mean over videos with two objects or more.
        fg_ari_frame: the same in each frame; mean over the frames that show two objects or more.
        miou: IoU of an object with its matched slot; mean over objects.
        mbo: IoU of an object with its best slot, which several may share; mean over objects.
        missed: share of objects whose IoU with their matched slot is below 0.2.
        switches: how often the slot that covers most of an object changes in a video; mean over objects that are not
            missed.
        modal_share: share of an object's frames in which its commonest slot covers most of it; mean over objects that
            are not missed.
        position_r2: of a linear probe from the matched slot to the object's position, ridge regression fitted on as many
            training videos (their missed objects left out): share of the variance explained, both coordinates
            together, over the frames in which an object is visible. Missed objects count.
        position_rmse: root of the mean squared distance in the data's units; the same frames.
        attributes: for each attribute the share of the same frames in which a linear probe, fitted likewise, names the
            right class.
        reconstruction: mean squared error of the decoded slots against the frames, in the decoder's range; None where
            the encoder decodes nothing.
        frames_per_second: that were encoded, reading the videos included.
        device: they were encoded on.
    """

    videos: int
    frames: int
    fg_ari_video: float | None = None
    fg_ari_frame: float | None = None
    miou: float | None = None
    mbo: float | None = None
    missed: float | None = None
    switches: float | None = None
    modal_share: float | None = None
    position_r2: float | None = None
    position_rmse: float | None = None
    attributes: Mapping[str, float | None] = field(default_factory=dict)
    reconstruction: float | None = None
    frames_per_second: float = 0.0
    device: str = "cpu"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for a record."""
        return asdict(self)


def quality_lines(quality: Mapping[str, Any]) -> list[str]:
    """Say for people what `EncoderQuality.as_dict` holds, in a few lines."""
    head = f"Encoder quality ({quality['videos']} dev videos of {quality['frames']} frames)"
    error = quality["reconstruction"]
    ends = [f"reconstruction error {error:.4g}"] if error is not None else []
    ends.append(f"{quality['frames_per_second']:,.0f} frames/s on {quality['device']}")
    if quality["miou"] is None:
        return [f"{head}: {'; '.join([NO_MASKS, *ends])}."]
    shown = {
        "FG-ARI of videos": quality["fg_ari_video"],
        "of frames": quality["fg_ari_frame"],
        "mIoU": quality["miou"],
        "mBO": quality["mbo"],
    }
    parts = [f"{name} {_figure(value)}" for name, value in shown.items()]
    followed = [
        f"objects missed {_percent(quality['missed'])}",
        f"switches of slots {_figure(quality['switches'])} an object",
        f"in its commonest slot {_percent(quality['modal_share'])}",
    ]
    probed = [f"position R2 {_figure(quality['position_r2'])} (RMSE {_figure(quality['position_rmse'])})"]
    probed += [f"{name} {_percent(value)}" for name, value in quality["attributes"].items()]
    return [
        f"{head}: {', '.join(parts)}; {', '.join(followed)}.",
        f"Linear probe of its slots: {', '.join(probed)}; {'; '.join(ends)}.",
    ]


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"
