"""Overlaps of slots and objects on hand-made masks: perfect, swapped, missed, shared."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ocwm.encoder_quality import segmentation_figures
from ocwm.errors import BenchError
from ocwm.segmentation import Overlap, claims, count_overlaps, foreground_ari, match_objects


def overlap(labels: object, truth: object, *, slots: int, objects: int) -> Overlap:
    """Of label maps (T, H, W): 0 nothing, k + 1 slot k; and of object maps alike."""
    claimed, things = torch.tensor(labels), torch.tensor(truth, dtype=torch.uint8)
    masks = torch.stack([(claimed == k + 1).float() for k in range(slots)], dim=1)[None]
    return Overlap(count_overlaps(masks, things[None], objects=objects)[0])


def figures(one: Overlap) -> dict[str, float | None]:
    return segmentation_figures([one], [match_objects(one)])


TRUTH = [[[1, 1, 0, 2, 2, 2]], [[1, 1, 0, 2, 2, 2]], [[1, 1, 0, 2, 2, 2]], [[1, 1, 0, 2, 2, 2]]]


def test_perfect_slots() -> None:
    one = overlap([[[3, 3, 0, 1, 1, 1]]] * 4, TRUTH, slots=3, objects=2)
    match = match_objects(one)
    assert match.slot_of.tolist() == [2, 0]
    assert match.iou.tolist() == [1, 1]
    assert figures(one) == {
        "fg_ari_video": 1.0,
        "fg_ari_frame": 1.0,
        "miou": 1.0,
        "mbo": 1.0,
        "missed": 0.0,
        "switches": 0.0,
        "modal_share": 1.0,
    }


def test_slots_that_swap_their_objects_once() -> None:
    one = overlap([[[1, 1, 0, 2, 2, 2]]] * 3 + [[[2, 2, 0, 1, 1, 1]]], TRUTH, slots=2, objects=2)
    found = figures(one)
    # Slot 0 holds object 0 in 6 of its 8 pixels, and 3 of object 1's: 6 / (9 + 8 - 6).
    assert found["miou"] == pytest.approx((6 / 11 + 9 / 14) / 2)
    assert found["fg_ari_frame"] == 1.0  # every frame by itself is right
    assert found["fg_ari_video"] is not None
    assert found["fg_ari_video"] < 0.5
    assert found["switches"] == 1.0
    assert found["modal_share"] == 0.75
    assert found["missed"] == 0.0


def test_an_object_that_no_slot_shows_gets_a_free_one_and_is_missed() -> None:
    one = overlap([[[2, 2, 0, 0, 0, 0]]] * 4, TRUTH, slots=3, objects=2)
    match = match_objects(one)
    assert match.slot_of[0] == 1
    assert match.slot_of[1] in (0, 2)
    assert match.missed.tolist() == [False, True]
    found = figures(one)
    assert found["missed"] == 0.5
    assert found["miou"] == found["mbo"] == 0.5
    assert (found["switches"], found["modal_share"]) == (0.0, 1.0)  # of the object that is not missed


def test_a_slot_that_covers_two_objects() -> None:
    one = overlap([[[1, 1, 0, 1, 1, 1]]] * 4, TRUTH, slots=2, objects=2)
    found = figures(one)
    assert match_objects(one).slot_of.tolist() == [1, 0]  # the larger one keeps the slot
    assert found["miou"] == pytest.approx((0 + 3 / 5) / 2)
    assert found["mbo"] == pytest.approx((2 / 5 + 3 / 5) / 2)
    assert found["missed"] == 0.5
    assert found["fg_ari_video"] == 0.0


def test_two_slots_on_one_object_cost_the_rand_index() -> None:
    one = overlap([[[1, 2, 0, 3, 3, 3]]] * 4, TRUTH, slots=3, objects=2)
    found = figures(one)
    assert found["fg_ari_frame"] is not None
    assert 0 < found["fg_ari_frame"] < 1
    assert found["miou"] == pytest.approx((1 / 2 + 1) / 2)


def test_objects_never_to_be_seen_count_nowhere_and_still_have_a_slot() -> None:
    one = overlap([[[3, 3, 0, 1, 1, 1]]] * 4, TRUTH, slots=3, objects=3)
    match = match_objects(one)
    assert sorted(match.slot_of.tolist()) == [0, 1, 2]
    assert np.isnan(match.iou[2])
    assert not match.missed[2]
    assert figures(one)["miou"] == 1.0


def test_a_single_object_has_no_rand_index() -> None:
    one = overlap([[[1, 1, 0]]], [[[1, 1, 0]]], slots=2, objects=2)
    assert foreground_ari(one.table[0]) is None
    assert figures(one)["fg_ari_video"] is None


def test_more_objects_than_slots_are_refused() -> None:
    one = overlap([[[1, 1, 0, 1, 1, 1]]] * 4, TRUTH, slots=1, objects=2)
    with pytest.raises(BenchError, match=r"2 objects, and the encoder has 1 slots.*encoder.num_slots=2"):
        match_objects(one)


def test_small_soft_masks_are_enlarged_and_what_they_leave_is_background() -> None:
    masks = torch.tensor([[[[0.9, 0.1], [0.2, 0.1]], [[0.0, 0.8], [0.2, 0.1]]]])
    assert claims(masks, (2, 2)).tolist() == [[[1, 2], [0, 0]]]
    enlarged = claims(masks, (6, 6))
    assert enlarged.shape == (1, 6, 6)
    assert [int(enlarged[0, y, x]) for y, x in ((0, 0), (0, 5), (5, 0), (5, 5))] == [1, 2, 0, 0]


def test_videos_of_a_batch_are_counted_apart() -> None:
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(3, 4, 2, 5, 7, generator=generator).softmax(dim=2)
    truth = torch.randint(0, 4, (3, 4, 10, 14), generator=generator).to(torch.uint8)
    together = count_overlaps(masks, truth, objects=3)
    assert together.shape == (3, 4, 3, 4)
    for i in range(3):
        np.testing.assert_array_equal(count_overlaps(masks[i : i + 1], truth[i : i + 1], objects=3)[0], together[i])
    assert (together.sum(axis=(2, 3)) == 140).all()
