"""Batches of question sequences with the video windows that they need.

Shape letters: V rows of latents (mostly one for each video), T latent frames, N slots, D slot dimension,
Q questions, S sequences, W windows, F frames of a window, R text rows, L tokens of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from ocwm.errors import BenchError
from ocwm_tasks.clevrer.aloe.network import AloeBatch
from ocwm_tasks.clevrer.aloe.tokens import PAD, PREDICTIVE, QUESTION_TYPES, UNKNOWN, FrameChoice, QuestionSet
from ocwm_tasks.clevrer.scene import OBSERVED_FRAMES

ROW_TOKENS = 64  # of a packed text row: where attention on a CPU is fastest, at 6 % of padding


@dataclass(frozen=True)
class VideoLatents:
    """The latents that questions are answered from.

    Attributes:
        index: (V,) int64 scene index of each row.
        latents: (V, T, N, D) float32 array or memory map; T is 128 without a rollout, 160 with one.
        row_of: (scene index, question id) -> row, for questions that read other latents than their video's, such as
            the rollout without the object that a counterfactual question removes. Such rows may stand anywhere;
            a video's own row is the first one with its scene index.
        first_imagined: (V,) int64 first frame of each row that a model imagined; None = frame 128.
    """

    index: NDArray[np.int64]
    latents: NDArray[np.float32]
    row_of: Mapping[tuple[int, int], int] = field(default_factory=dict)
    first_imagined: NDArray[np.int64] | None = None

    @property
    def length(self) -> int:
        """Latent frames T."""
        return int(self.latents.shape[1])

    def rows(self, questions: QuestionSet) -> NDArray[np.int64]:
        """(Q,) row that each question reads.

        Raises:
            BenchError: questions about videos that have no latents; the first one is named.
        """
        own = {int(scene): row for row, scene in reversed(list(enumerate(self.index)))}
        scenes = questions.scene.tolist()
        missing = sorted(set(scenes) - own.keys())
        if missing:
            raise BenchError(
                f"{len(missing)} videos with questions have no latents, the first is video {missing[0]}",
                "Encode all videos of the split, or drop their questions.",
            )
        pairs = zip(scenes, questions.question_id.tolist(), strict=True)
        return np.array([self.row_of.get(pair, own[pair[0]]) for pair in pairs], dtype=np.int64)


class AloeData:
    """Training and evaluation items of the reasoner; the trainer's data protocol.

    An item is a question (with all its choices), or with `share_video` a whole video (with all its questions).

    Args:
        questions: what is asked.
        latents: what is seen; None for a reasoner that reads only the text.
        frame_choice: which frames are seen.
        share_video: items are videos.
        random_start: draw the start frame of every window (published, in training and evaluation); else the middle
            one of the possible starts.
        sequences_per_item: draw at most this many sequences of an item for a batch; None = all.
    """

    def __init__(
        self,
        questions: QuestionSet,
        latents: VideoLatents | None,
        *,
        frame_choice: FrameChoice,
        share_video: bool = False,
        random_start: bool = True,
        sequences_per_item: int | None = None,
    ) -> None:
        self.questions = questions
        self.latents = latents
        self.frame_choice = frame_choice
        self.random_start = random_start
        self.sequences_per_item = sequences_per_item
        self.share_video = share_video
        self._rows = np.zeros(len(questions), dtype=np.int64) if latents is None else latents.rows(questions)
        owner = questions.scene[questions.question] if share_video else questions.question
        self._items = np.split(
            np.argsort(owner, kind="stable"), np.cumsum(np.unique(owner, return_counts=True)[1])[:-1]
        )
        # Padding moves to the end of the text, where it can be cut off; the columns remember the layout.
        self._columns = np.argsort(questions.tokens == PAD, axis=1, kind="stable")
        self._tokens = np.take_along_axis(questions.tokens, self._columns, axis=1)
        self._lengths = 1 + (questions.tokens != PAD).sum(axis=1)  # with CLS

    def __len__(self) -> int:
        return len(self._items) if len(self.questions) else 0

    def sequences(self, indices: NDArray[np.int64], generator: np.random.Generator | None = None) -> NDArray[np.int64]:
        """(S,) rows of the question set that belong to the items, thinned out by `generator` where one is given."""
        return np.concatenate(self._drawn(indices, generator))

    def _drawn(self, indices: NDArray[np.int64], generator: np.random.Generator | None) -> list[NDArray[np.int64]]:
        chosen = [self._items[index] for index in indices]
        most = self.sequences_per_item
        if generator is not None and most is not None:
            chosen = [s if len(s) <= most else generator.choice(s, most, replace=False) for s in chosen]
        return chosen

    def batch(self, indices: NDArray[np.int64], generator: np.random.Generator) -> AloeBatch:
        """The sequences of some items; start frames and the choice of sequences come from `generator`."""
        return self.part(indices, generator, slice(None))

    def part(self, indices: NDArray[np.int64], generator: np.random.Generator, rows: slice) -> AloeBatch:
        """The sequences of some items of a batch, with the same draws as in the whole of it."""
        chosen = self._drawn(indices, generator)
        return self.gather(np.concatenate(chosen[rows]), generator, whole=np.concatenate(chosen))

    def gather(
        self, sequences: NDArray[np.int64], generator: np.random.Generator, *, whole: NDArray[np.int64] | None = None
    ) -> AloeBatch:
        """The batch of some sequences; `batch.sequence` says in which order they stand there.

        `whole` are the sequences of the whole batch that these are a part of: starts are drawn for all of them.
        """
        questions = self.questions
        video, window = self._windows(sequences, generator, sequences if whole is None else whole)
        packable = self.share_video or video is None
        row, offset = pack(self._lengths[sequences], window, capacity=ROW_TOKENS if packable else 0)
        order = np.lexsort((offset, row))
        sequences, window, row, offset = sequences[order], window[order], row[order], offset[order]
        lengths = self._lengths[sequences]
        first = np.flatnonzero(offset == 0)
        number = np.arange(len(row)) - first[row]  # of a sequence in its row
        shape = len(first), int((offset + lengths).max())

        # One entry for each token: which sequence, which word of it (0 = CLS), where it goes.
        of = np.repeat(np.arange(len(row)), lengths)
        word = np.arange(len(of)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        place = row[of], offset[of] + word
        columns = np.where(word == 0, UNKNOWN, self._columns[sequences[of], word - 1])
        tokens, position, segment = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.bool_)
        owner, cls = np.full(shape, UNKNOWN), np.full((shape[0], int(number.max()) + 1), UNKNOWN)
        is_choice = questions.is_choice[sequences]
        tokens[place] = np.where(word == 0, PAD, self._tokens[sequences[of], word - 1])
        position[place] = columns + 1
        segment[place] = ~is_choice[of] | (columns >= questions.question_len)
        owner[place] = number[of]
        cls[row, number] = offset
        return AloeBatch(
            video=video,
            window=torch.from_numpy(window[first]),
            tokens=torch.from_numpy(tokens),
            position=torch.from_numpy(position),
            choice_segment=torch.from_numpy(segment),
            owner=torch.from_numpy(owner),
            cls=torch.from_numpy(cls),
            sequence=torch.from_numpy(sequences),
            is_choice=torch.from_numpy(is_choice),
            label=torch.from_numpy(questions.label[sequences]),
        )

    def _windows(
        self, sequences: NDArray[np.int64], generator: np.random.Generator, whole: NDArray[np.int64]
    ) -> tuple[torch.Tensor | None, NDArray[np.int64]]:
        """Windows (W, F, N, D) and the window (S,) of each sequence.

        Questions of a video share a window where they read the same frames of the same row; without `share_video`
        each question has its own, with its own start.
        """
        if self.latents is None:
            return None, np.zeros(len(sequences), dtype=np.int64)
        question = self.questions.question[sequences]
        length = self.latents.length
        shifted = (self.questions.type[question] == PREDICTIVE) & self.frame_choice.shifted(length)
        known, first, window = np.unique(self._window_keys(sequences), return_index=True, return_inverse=True)
        if self.random_start:
            keys = np.unique(self._window_keys(whole))
            drawn = generator.integers(self.frame_choice.starts(length), size=len(keys))
            start = drawn[np.searchsorted(keys, known)]
        else:
            start = np.full(len(first), self.frame_choice.middle(length))
        frames = self.frame_choice.frames(start, shifted[first], length=length)
        slots = self.latents.latents[self._rows[question[first], None], frames]
        return torch.from_numpy(np.ascontiguousarray(slots, dtype=np.float32)), window.astype(np.int64)

    def _window_keys(self, sequences: NDArray[np.int64]) -> NDArray[np.int64]:
        """(S,) number of the window that each sequence reads; those of other items have other numbers."""
        question = self.questions.question[sequences]
        if self.latents is None or not self.share_video:
            return question
        shifted = (self.questions.type[question] == PREDICTIVE) & self.frame_choice.shifted(self.latents.length)
        return np.asarray(2 * self._rows[question] + shifted)


def pack(
    lengths: NDArray[np.int64], window: NDArray[np.int64], *, capacity: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pack sequences into rows, the longest first, each into the first row of its window that has room.

    Args:
        lengths: (S,) tokens of each sequence.
        window: (S,) window of each sequence; a row belongs to one window.
        capacity: tokens of a row; longer sequences get a row of their own.

    Returns:
        (S,) row and (S,) offset in the row of each sequence.
    """
    row, offset = np.empty_like(lengths), np.empty_like(lengths)
    open_rows: dict[int, list[tuple[int, int]]] = {}  # window -> [(row, tokens used)]
    count = 0
    for i in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[i])
        rows = open_rows.setdefault(int(window[i]), [])
        for k, (number, used) in enumerate(rows):
            if used + length <= capacity:
                rows[k] = (number, used + length)
                row[i], offset[i] = number, used
                break
        else:
            rows.append((count, length))
            row[i], offset[i] = count, 0
            count += 1
    return row, offset


def imagined_share(questions: QuestionSet, latents: VideoLatents, frame_choice: FrameChoice) -> dict[str, float]:
    """Share of imagined frames among the frames that the questions of each type read, at the middle start.

    Returns:
        question type -> share in 0..1, for the types that are asked. Under the published protocol it is 0 for all
        types but predictive: no world model can change the answers to those.
    """
    rows, length = latents.rows(questions), latents.length
    middle = np.full(len(questions), frame_choice.middle(length))
    frames = frame_choice.frames(middle, questions.type == PREDICTIVE, length=length)
    first = np.full(len(latents.index), OBSERVED_FRAMES) if latents.first_imagined is None else latents.first_imagined
    share = (frames >= first[rows, None]).mean(axis=1)
    return {
        name: float(share[questions.type == number].mean())
        for number, name in enumerate(QUESTION_TYPES)
        if (questions.type == number).any()
    }
