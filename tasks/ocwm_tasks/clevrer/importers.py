"""Imports what is published for CLEVRER: ALOE checkpoints, and pickles of slots or rollouts.

Sources: SlotFormer (arXiv 2210.05861) and C-JEPA (arXiv 2602.11389).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from ocwm.importer import Converted, Imported, PickleImporter, Shapes, WeightsImporter
from ocwm_tasks.clevrer.aloe.network import Aloe, AloeSizes
from ocwm_tasks.clevrer.scene import OBSERVED_FRAMES, ROLLOUT_FRAMES
from ocwm_tasks.clevrer.slots_store import SlotStore, convert

_TAGS = 4  # a head is as wide as a word embedding and two indicators of two numbers each


class AloeImporter(WeightsImporter):
    """ALOE as a reasoner over slots."""

    marks: ClassVar[tuple[str, ...]] = (
        r"transformer_model\.CLS$",
        r"transformer_model\.q_embedding\.weight$",
        r"transformer_model\.mc_answer_mlp\.",
    )

    def convert(self, tensors: Mapping[str, Tensor]) -> Imported:
        """Keep every name: ours are the published ones."""
        shapes = Shapes(tensors, "ALOE")
        top = "transformer_model."
        width = shapes.size(f"{top}CLS", 2, axes=3)
        word_dim = shapes.size(f"{top}q_embedding.weight", 1, axes=2)
        head_dim = word_dim + _TAGS
        published = AloeSizes()
        text = published.question_len + published.choice_len
        tokens = shapes.size(f"{top}transformer_encoder.pos_embedding", 1, axes=3) - 1
        video = tokens - text
        known = video > 0 and video % published.num_slots == 0
        sizes: dict[str, Any] = {
            "layers": shapes.count(r"transformer_model\.transformer_encoder\.layers\.(\d+)\."),
            "ffn_dim": shapes.size(f"{top}transformer_encoder.layers.0.linear1.weight", 0, axes=2),
            "mlp_dim": shapes.size(f"{top}cls_answer_mlp.0.weight", 0, axes=2),
        }
        words = shapes.size(f"{top}q_embedding.weight", 0, axes=2)
        answers = shapes.size(f"{top}cls_answer_mlp.2.weight", 0, axes=2)
        slot_dim = shapes.size(f"{top}vision_in_proj.weight", 1, axes=2) - _TAGS // 2
        heads = max(1, width // head_dim)
        frames = video // published.num_slots if known else 1
        assumed = {"heads": heads, "head_dim": head_dim}
        notes = []
        if known:
            assumed |= {"num_slots": published.num_slots, "frames": frames}
            assumed |= {"question_len": published.question_len, "choice_len": published.choice_len}
        else:
            notes.append(f"frames x num_slots + question_len + choice_len is {tokens}; the file can't tell them apart")
        if (words, answers) != (published.words, published.answers):
            notes.append(
                f"{words} words and {answers} answers: another vocabulary than the published {published.words}"
            )

        settings = {**sizes, "head_dim": head_dim, "heads": heads, "word_dim": word_dim, "frames": frames}
        settings |= {"share_video": "false", "whiten": "false"}
        use = (
            *(f"task.aloe.{key}={value}" for key, value in settings.items()),
            "task.aloe.trainer.init={file}",
            "task.aloe.trainer.max_steps=0",
        )
        if (words, answers) != (published.words, published.answers) or not known:
            use = ()

        def build() -> Aloe:
            built = AloeSizes(
                frames=frames,
                num_slots=published.num_slots if known else 1,
                slot_dim=slot_dim,
                head_dim=head_dim,
                heads=heads,
                word_dim=word_dim,
                words=words,
                answers=answers,
                question_len=published.question_len if known else tokens - 1,
                choice_len=published.choice_len if known else 0,
                **sizes,
            )
            return Aloe(built)

        return Imported(
            title="an ALOE reasoner",
            tensors=tensors,
            build=build,
            sizes={"slot_dim": slot_dim, "width": width, **sizes, "words": words, "answers": answers},
            assumed=assumed,
            use=use,
            notes=notes,
        )


class SlotsImporter(PickleImporter):
    """Pickles of slots `{split: {video: (frames, slots, width)}}`; becomes the store that `encoder=precomputed` reads."""

    def convert(self, path: Path, folder: Path) -> Converted:
        """Write the store."""
        convert(path, folder)
        store = SlotStore(folder)
        frames, slots, width = store.shape
        notes = []
        if frames not in (OBSERVED_FRAMES, ROLLOUT_FRAMES):
            wanted = f"{OBSERVED_FRAMES} or {ROLLOUT_FRAMES}"
            notes.append(f"WARNING: videos have {frames} frames; the task clevrer wants {wanted}")
        rolled = frames > OBSERVED_FRAMES
        if rolled:
            notes.append(
                f"{frames - OBSERVED_FRAMES} frames follow the {OBSERVED_FRAMES} observed ones: a model's rollout "
                "(encoder.future=imagined, as in published files `rollout_*`), or real frames (encoder.future=real)"
            )
        return Converted(
            title="a rollout of slots" if rolled else "slots",
            facts={
                "videos": {name: len(store.split(name).videos) for name in store.splits},
                "frames": frames,
                "num_slots": slots,
                "slot_dim": width,
                "keys": {"video": "video_00000.mp4", "pixels": "0_pixels.mp4"}[store.keys],
                "sha256": store.identity,
            },
            use=(
                *("--task", "clevrer", "encoder=precomputed", "encoder.slots={file}"),
                *(("encoder.future=imagined",) if rolled else ()),
            ),
            notes=notes,
        )
