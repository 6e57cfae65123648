"""A training step of the ALOE reasoner, with and without a shared pass over the frames, side by side in one run.

    python benchmarks/speed/aloe_shared_pass.py [--device cpu] [--threads 1] [--videos 8] [--rounds 5]

Both answer the same questions about the same videos with the same weights: 11 descriptive questions and 8 choices for
each video, predictive ones at the end of the rollout. "packed" is what runs use; "one sequence a row" shows what
packing the text gives. Prints milliseconds for forward and backward, wall and processor time (which other programs on the
machine disturb less), medians over the rounds; and the same under bf16 autocast, which pays only where the processor
has bf16 instructions. The unshared pass copies the video tokens for every question, and they are most of its tokens.
"""

from __future__ import annotations

import argparse
import statistics
import time
from dataclasses import dataclass

import numpy as np
import torch
from tabulate import tabulate

from ocwm_tasks.clevrer.aloe import batches
from ocwm_tasks.clevrer.aloe.batches import AloeData, VideoLatents
from ocwm_tasks.clevrer.aloe.network import Aloe, AloeBatch, AloeSizes
from ocwm_tasks.clevrer.aloe.tokens import FrameChoice, QuestionSet

SLOTS, DIM, QUESTION_LEN, CHOICE_LEN, WORDS = 6, 64, 20, 12, 82
DESCRIPTIVE, CHOICES = 11, 8
SIZES = AloeSizes(
    frames=8, num_slots=SLOTS, slot_dim=DIM, head_dim=32, heads=2, layers=4, ffn_dim=256, dropout=0.0, mlp_dim=128
)


@dataclass(frozen=True)
class Case:
    name: str
    share_video: bool
    row_tokens: int
    autocast: bool = False


CASES = (
    Case("unshared (published)", share_video=False, row_tokens=0),
    Case("shared, one sequence a row", share_video=True, row_tokens=0),
    Case("shared, packed", share_video=True, row_tokens=batches.ROW_TOKENS),
    Case("shared, packed, bf16 autocast", share_video=True, row_tokens=batches.ROW_TOKENS, autocast=True),
)


def make_questions(videos: int, rng: np.random.Generator) -> QuestionSet:
    """Random words in the lengths of real questions (7-14) and choices (6-10)."""
    per_video = DESCRIPTIVE + CHOICES
    count = videos * per_video
    is_choice = np.tile(np.arange(per_video) >= DESCRIPTIVE, videos)
    columns = np.arange(QUESTION_LEN + CHOICE_LEN)
    asked = columns < rng.integers(7, 15, size=(count, 1))
    offered = (columns >= QUESTION_LEN) & (columns < QUESTION_LEN + rng.integers(6, 11, size=(count, 1)))
    tokens = rng.integers(1, WORDS, size=(count, len(columns))) * (asked | (offered & is_choice[:, None]))
    kind = np.tile(np.r_[np.zeros(DESCRIPTIVE, int), 1 + np.arange(CHOICES) % 3], videos)
    return QuestionSet(
        scene=np.repeat(np.arange(videos), per_video),
        question_id=np.tile(np.arange(per_video), videos),
        type=kind,
        question=np.arange(count),
        choice_id=np.where(is_choice, 0, -1),
        label=np.where(is_choice, rng.integers(0, 2, count), rng.integers(1, 22, count)),
        tokens=tokens,
        question_len=QUESTION_LEN,
    )


def make_batch(case: Case, questions: QuestionSet, latents: VideoLatents) -> AloeBatch:
    batches.ROW_TOKENS = case.row_tokens
    data = AloeData(
        questions, latents, frame_choice=FrameChoice(SIZES.frames), share_video=case.share_video, random_start=False
    )
    return data.gather(np.arange(len(questions.question)), np.random.default_rng(0))


def step(network: Aloe, batch: AloeBatch, *, autocast: bool) -> tuple[float, float]:
    """Wall and processor seconds of a forward and a backward pass."""
    wall, processor = time.perf_counter(), time.process_time()
    with torch.autocast(batch.tokens.device.type, torch.bfloat16, enabled=autocast):
        loss = network.loss(batch)["loss"]
    loss.backward()
    if batch.tokens.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(0)
    questions = make_questions(args.videos, rng)
    values = rng.standard_normal((args.videos, 160, SLOTS, DIM)).astype(np.float32)
    latents = VideoLatents(np.arange(args.videos), values)
    prepared = []
    for case in CASES:
        torch.manual_seed(0)
        network = Aloe(SIZES, share_video=case.share_video).to(args.device)
        prepared.append((case, network, make_batch(case, questions, latents).to(args.device)))
    times: dict[str, list[tuple[float, float]]] = {case.name: [] for case in CASES}
    for round_ in range(args.rounds + 1):  # the first round warms up; the cases take turns
        for case, network, batch in prepared:
            taken = step(network, batch, autocast=case.autocast)
            if round_:
                times[case.name].append(taken)
    rows: list[list[object]] = []
    for case, _, batch in prepared:
        wall, processor = (1e3 * statistics.median(part) for part in zip(*times[case.name], strict=True))
        rows.append([case.name, batch.tokens.numel(), wall, processor])
    for row in rows:
        row.append(float(rows[0][3]) / float(row[3]))  # type: ignore[arg-type]
    headers = ["step", "text tokens with padding", "wall ms", "processor ms", "times faster"]
    print(tabulate(rows, headers, floatfmt=".3g"))


if __name__ == "__main__":
    main()
