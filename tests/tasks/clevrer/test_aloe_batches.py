from __future__ import annotations

import numpy as np
import pytest
import torch

from ocwm.errors import BenchError
from ocwm_tasks.clevrer.aloe.batches import AloeData, VideoLatents, imagined_share, pack
from ocwm_tasks.clevrer.aloe.tokens import FrameChoice, QuestionSet, encode_questions


def choices(kind: str, number: int, *answers: str) -> dict:
    entries = [{"choice_id": k, "choice": "the cube exits", "answer": answer} for k, answer in enumerate(answers)]
    return {"question_id": number, "question_type": kind, "question": "what will happen", "choices": entries}


def scene(index: int) -> dict:
    questions = [
        {"question_id": 0, "question_type": "descriptive", "question": "how many cubes", "answer": "1"},
        {"question_id": 1, "question_type": "descriptive", "question": "are there any spheres", "answer": "no"},
        choices("explanatory", 2, "correct", "wrong"),
        choices("predictive", 3, "wrong", "correct"),
        choices("counterfactual", 4, "wrong"),
    ]
    return {"scene_index": index, "questions": questions}


QUESTIONS = encode_questions([scene(30), scene(10)])


def numbered(length: int, rows: int = 2) -> np.ndarray:
    """Latents (rows, length, 1, 1) that say which row and frame they are."""
    return (1000 * np.arange(rows)[:, None] + np.arange(length)).astype(np.float32)[..., None, None]


def data(latents: VideoLatents | None, questions: QuestionSet = QUESTIONS, **settings: object) -> AloeData:
    return AloeData(questions, latents, **{"frame_choice": FrameChoice(2), "random_start": False, **settings})


def seen_by(items: AloeData, item: int = 0) -> dict[int, list[float]]:
    """First values of the window that each question of an item looks at, by question id."""
    batch = items.batch(np.array([item]), np.random.default_rng(0))
    assert batch.video is not None
    window = {}
    for row in range(len(batch.window)):
        for owner in batch.owner[row].unique().tolist():
            if owner >= 0:
                count = int((batch.cls[:row] >= 0).sum()) + owner
                question = items.questions.question[batch.sequence[count]]
                window[int(items.questions.question_id[question])] = batch.video[batch.window[row], :, 0, 0].tolist()
    return window


@pytest.mark.parametrize("share_video", [False, True])
def test_items_are_questions_or_videos(share_video: bool) -> None:
    latents = VideoLatents(np.array([10, 30]), numbered(160))
    items = data(latents, share_video=share_video)
    assert len(items) == (2 if share_video else 10)
    everything = items.batch(np.arange(len(items)), np.random.default_rng(0))
    assert sorted(everything.sequence.tolist()) == list(range(14))


def test_a_video_is_read_once_for_predictive_questions_and_once_for_the_rest() -> None:
    latents = VideoLatents(np.array([10, 30]), numbered(160))
    items = data(latents, share_video=True)
    batch = items.batch(np.array([0, 1]), np.random.default_rng(0))
    assert batch.video is not None
    assert batch.video.shape == (4, 2, 1, 1)
    start = FrameChoice(2).middle(160)
    usual, moved = [float(start), start + 64.0], [start + 32.0, start + 96.0]
    assert seen_by(items, 0) == {0: usual, 1: usual, 2: usual, 4: usual, 3: moved}


def test_every_question_has_its_own_start_when_videos_are_not_shared() -> None:
    latents = VideoLatents(np.array([10, 30]), numbered(160))
    items = data(latents, random_start=True, frame_choice=FrameChoice(25))
    batch = items.batch(np.arange(10), np.random.default_rng(0))
    assert batch.video is not None
    assert batch.video.shape[0] == 10
    starts = batch.video[:, 0, 0, 0] % 1000
    assert len(set(starts.tolist())) > 4
    again = items.batch(np.arange(10), np.random.default_rng(0))
    assert torch.equal(batch.video, again.video)
    other = items.batch(np.arange(10), np.random.default_rng(1))
    assert not torch.equal(batch.video, other.video)


def test_questions_can_read_rows_of_their_own() -> None:
    """A rollout without the removed object stands in a third row; the scene's own row stays the first."""
    latents = VideoLatents(np.array([10, 30, 30]), numbered(160, rows=3), row_of={(30, 4): 2})
    assert latents.rows(QUESTIONS).tolist() == [1, 1, 0, 0, 1, 1, 2, 0, 0, 0]
    windows = seen_by(data(latents, share_video=True), item=1)
    assert windows[4][0] >= 2000
    assert all(1000 <= windows[number][0] < 2000 for number in (0, 1, 2, 3))


def test_videos_without_latents_are_named() -> None:
    with pytest.raises(BenchError, match="1 videos with questions have no latents, the first is video 10"):
        data(VideoLatents(np.array([30]), numbered(128, rows=1)))


def test_thinning_takes_what_it_may_and_repeats_itself() -> None:
    items = data(None, share_video=True, sequences_per_item=3)
    first = items.sequences(np.array([0, 1]), np.random.default_rng(5))
    assert len(first) == len(set(first.tolist())) == 6
    assert (first == items.sequences(np.array([0, 1]), np.random.default_rng(5))).all()
    assert len(items.sequences(np.array([0, 1]))) == 14


def test_labels_and_flags_follow_the_sequences_into_the_rows() -> None:
    batch = data(None, share_video=True).batch(np.array([1, 0]), np.random.default_rng(0))
    order = batch.sequence.numpy()
    assert sorted(order.tolist()) == list(range(14))
    assert (batch.label.numpy() == QUESTIONS.label[order]).all()
    assert (batch.is_choice.numpy() == QUESTIONS.is_choice[order]).all()
    words = [
        batch.tokens[r, (batch.owner[r] == k)].tolist()
        for r in range(len(batch.cls))
        for k in range(batch.cls.shape[1])
    ]
    words = [row for row in words if row]
    assert words == [[0, *QUESTIONS.tokens[s][QUESTIONS.tokens[s] > 0].tolist()] for s in order]


@pytest.mark.parametrize("capacity", [0, 10, 64])
def test_packing_keeps_windows_apart_and_rows_within_bounds(capacity: int) -> None:
    rng = np.random.default_rng(0)
    lengths, window = rng.integers(3, 20, size=200), rng.integers(0, 5, size=200)
    row, offset = pack(lengths, window, capacity=capacity)
    assert set(row.tolist()) == set(range(row.max() + 1))
    for number in range(row.max() + 1):
        mine = np.flatnonzero(row == number)
        assert len(set(window[mine])) == 1
        order = mine[np.argsort(offset[mine])]
        ends = np.cumsum(lengths[order])
        assert offset[order].tolist() == [0, *ends[:-1].tolist()]
        assert ends[-1] <= capacity or len(mine) == 1
    if capacity == 64:
        assert lengths.sum() / (64 * (row.max() + 1)) > 0.85


def test_only_predictive_questions_read_imagined_frames_under_the_published_protocol() -> None:
    latents = VideoLatents(np.array([10, 30]), numbered(160))
    share = imagined_share(QUESTIONS, latents, FrameChoice(25))
    assert share == {"descriptive": 0.0, "explanatory": 0.0, "predictive": 0.24, "counterfactual": 0.0}
    observed = VideoLatents(np.array([10, 30]), numbered(128))
    assert set(imagined_share(QUESTIONS, observed, FrameChoice(25)).values()) == {0.0}


def test_imagined_share_counts_from_each_videos_prefix() -> None:
    latents = VideoLatents(np.array([10, 30]), numbered(160), first_imagined=np.array([160, 0]))
    share = imagined_share(QUESTIONS, latents, FrameChoice(10, "full"))
    assert set(share.values()) == {0.5}
