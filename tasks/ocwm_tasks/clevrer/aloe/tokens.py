"""Questions as columns: token ids, labels and frame windows, in the published order and layout.

Sources: ALOE (arXiv 2012.08508) in the version of SlotFormer (arXiv 2210.05861, appendix), its vocabulary and layout.

Shape letters: Q questions, S sequences (one for a descriptive question, one for each choice of the others),
P text positions (question_len + choice_len), F frames that the reasoner reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ocwm.errors import BenchError, suggest
from ocwm_tasks.clevrer.scene import OBSERVED_FRAMES
from ocwm_tasks.clevrer.vocabulary import ANSWERS, QUESTION_WORDS

QUESTION_TYPES = ("descriptive", "explanatory", "predictive", "counterfactual")
DESCRIPTIVE, EXPLANATORY, PREDICTIVE, COUNTERFACTUAL = range(4)

PAD = 0
WORD_IDS = {word: number for number, word in enumerate(sorted(QUESTION_WORDS), start=1)}
ANSWER_IDS = {answer: number for number, answer in enumerate(sorted(ANSWERS), start=1)}
ANSWER_NAMES = ("", *sorted(ANSWERS))  # label 0 is never a target
CHOICE_IDS = {"wrong": 0, "correct": 1}
UNKNOWN = -1

ROLLED_OUT = 150  # a video with more latent frames than this carries a rollout


@dataclass(frozen=True)
class QuestionSet:
    """The questions of a split as arrays; all descriptive ones come first, then the others, each in file order.

    Attributes:
        scene: (Q,) int64 scene index.
        question_id: (Q,) int64, unique within a scene.
        type: (Q,) int64 index into QUESTION_TYPES.
        question: (S,) int64 row of the question that a sequence belongs to, ascending.
        choice_id: (S,) int64, UNKNOWN for descriptive questions.
        label: (S,) int64 answer class of descriptive questions, 1 correct or 0 wrong for choices; UNKNOWN where the
            file gives no answer.
        tokens: (S, P) int64 word ids, PAD elsewhere: `question PAD...` for descriptive questions,
            `question PAD... choice PAD...` for choices, the choice from column `question_len` on.
        question_len: columns of the question in front of a choice.
    """

    scene: NDArray[np.int64]
    question_id: NDArray[np.int64]
    type: NDArray[np.int64]
    question: NDArray[np.int64]
    choice_id: NDArray[np.int64]
    label: NDArray[np.int64]
    tokens: NDArray[np.int64]
    question_len: int

    def __len__(self) -> int:
        return len(self.scene)

    @property
    def is_choice(self) -> NDArray[np.bool_]:
        """(S,) whether a sequence is a choice of a multiple-choice question."""
        return np.asarray(self.choice_id != UNKNOWN)


def tokenize(text: str, *, length: int, where: str) -> list[int]:
    """Return the word ids of a text: lower case, `?` deleted, split at spaces, commas and apostrophes kept.

    Raises:
        BenchError: a word that the vocabulary does not have, or more than `length` words (nothing is cut).
    """
    words = [word for word in text.lower().replace("?", "").split(" ") if word]
    for word in words:
        if word not in WORD_IDS:
            raise BenchError(f"{where}: '{word}' in '{text}' is not in the vocabulary", suggest(word, WORD_IDS))
    if len(words) > length:
        raise BenchError(
            f"{where}: '{text}' has {len(words)} words, the reasoner takes {length}",
            "Raise task.aloe.question_len or task.aloe.choice_len.",
        )
    return [WORD_IDS[word] for word in words]


def encode_questions(
    scenes: Sequence[Mapping[str, Any]], *, question_len: int = 20, choice_len: int = 12
) -> QuestionSet:
    """Turn question scenes of the official format into arrays; no answers are needed.

    Args:
        scenes: `[{"scene_index", "questions": [...]}]`.
        question_len: text columns of the question; descriptive ones have question_len + choice_len.
        choice_len: text columns of a choice.

    Raises:
        BenchError: unknown question type, word or answer, or a text that is too long; scene and question are named.
    """
    ordered: list[tuple[int, Mapping[str, Any], int]] = []
    for scene in scenes:
        for question in scene["questions"]:
            kind = question["question_type"]
            where = _where(scene["scene_index"], question)
            if kind not in QUESTION_TYPES:
                raise BenchError(f"{where}: unknown question type '{kind}'", suggest(kind, QUESTION_TYPES))
            ordered.append((scene["scene_index"], question, QUESTION_TYPES.index(kind)))
    ordered.sort(key=lambda item: item[2] != DESCRIPTIVE)  # stable

    sequences: list[tuple[int, int, int]] = []  # question row, choice id, label
    rows: list[list[int]] = []
    total = question_len + choice_len
    for row, (scene_index, question, kind) in enumerate(ordered):
        where = _where(scene_index, question)
        if kind == DESCRIPTIVE:
            words = tokenize(question["question"], length=total, where=where)
            sequences.append((row, UNKNOWN, _label(question, ANSWER_IDS, where)))
            rows.append(words + [PAD] * (total - len(words)))
            continue
        words = tokenize(question["question"], length=question_len, where=where)
        words += [PAD] * (question_len - len(words))
        for choice in question["choices"]:
            option = tokenize(choice["choice"], length=choice_len, where=f"{where}, choice {choice['choice_id']}")
            sequences.append((row, choice["choice_id"], _label(choice, CHOICE_IDS, where)))
            rows.append(words + option + [PAD] * (choice_len - len(option)))
    columns = np.array(sequences, dtype=np.int64).reshape(-1, 3).T
    return QuestionSet(
        scene=np.array([scene_index for scene_index, _, _ in ordered], dtype=np.int64),
        question_id=np.array([question["question_id"] for _, question, _ in ordered], dtype=np.int64),
        type=np.array([kind for _, _, kind in ordered], dtype=np.int64),
        question=columns[0],
        choice_id=columns[1],
        label=columns[2],
        tokens=np.array(rows, dtype=np.int64).reshape(-1, total),
        question_len=question_len,
    )


@dataclass(frozen=True)
class FrameChoice:
    """Which video frames the reasoner reads: `count` frames, evenly spaced, from a start that may be drawn.

    Published (`window="published"`): 25 frames of the 128 observed ones, 5 apart, start 0..7; predictive questions
    read the same pattern moved to the end of the rollout where there is one, so that all others never see a
    predicted frame. With `window="full"` every question reads frames spread over all latent frames of the video,
    however many there are, by the same rule.

    Attributes:
        count: frames F that are read.
        window: "published" or "full".
    """

    count: int = 25
    window: str = "published"

    def __post_init__(self) -> None:
        if self.window not in ("published", "full"):
            raise BenchError(
                f"task.aloe.window='{self.window}' is unknown", suggest(self.window, ("published", "full"))
            )

    def span(self, length: int) -> int:
        """Number of latent frames that the pattern is spread over, for videos of `length` latent frames."""
        span = length if self.window == "full" else OBSERVED_FRAMES
        if self.count < 1 or self.count > span or length < span:
            raise BenchError(
                f"the reasoner reads {self.count} of {span} frames, and the latents have {length}",
                "Set task.aloe.frames to no more than the frames that there are.",
            )
        return span

    def starts(self, length: int) -> int:
        """Number of possible start frames, 0 .. starts - 1."""
        span = self.span(length)
        return span - (self.count - 1) * (span // self.count)

    def middle(self, length: int) -> int:
        """The start that evaluation uses when none is drawn: the lower median (3 of 0..7)."""
        return (self.starts(length) - 1) // 2

    def shifted(self, length: int) -> bool:
        """Whether predictive questions read other frames than the rest."""
        return self.window == "published" and length > ROLLED_OUT

    def frames(self, start: NDArray[np.int64], shifted: NDArray[np.bool_], *, length: int) -> NDArray[np.int64]:
        """Frames (W, F) of W windows.

        Args:
            start: (W,) start of each window.
            shifted: (W,) whether it is the window of predictive questions.
            length: latent frames of the videos.
        """
        span = self.span(length)
        shift = np.where(shifted & self.shifted(length), length - span, 0)
        return (start + shift)[:, None] + (span // self.count) * np.arange(self.count)


def _where(scene_index: int, question: Mapping[str, Any]) -> str:
    return f"scene {scene_index}, question {question['question_id']}"


def _label(item: Mapping[str, Any], known: Mapping[str, int], where: str) -> int:
    answer = item.get("answer")
    if answer is None:
        return UNKNOWN
    if answer not in known:
        raise BenchError(f"{where}: unknown answer '{answer}'", suggest(str(answer), known))
    return known[answer]
