from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.tasks.clevrer.ball_worlds import DIM, SLOTS, encode, questions_of, random_starts, scene_of

from ocwm.types import LatentSpec
from ocwm_baselines.extrapolation import ConstantVelocity, CopyLast
from ocwm_tasks.clevrer.aloe.tokens import COUNTERFACTUAL, DESCRIPTIVE, PREDICTIVE
from ocwm_tasks.clevrer.symbolic.answers import NOT_EXECUTABLE, answer_questions
from ocwm_tasks.clevrer.symbolic.reasoner import SymbolicReasoner, idle_future
from ocwm_tasks.clevrer.symbolic.sources import ModelRemoval, ObservedRemoval, TrueRemoval
from ocwm_tasks.clevrer.windows import extend_all
from ocwm_tasks.clevrer.world import World

SPEC = LatentSpec(SLOTS, DIM)


class Case:
    """A fitted reasoner and test videos with all that is known of them."""

    def __init__(self):
        rng = np.random.default_rng(0)
        train = [scene_of(index, random_starts(rng), frames=128) for index in range(24)]
        latents, slot_of = encode(train)
        self.reasoner = SymbolicReasoner.fit(latents, train, slot_of)
        starts = [random_starts(rng) for _ in range(16)]
        self.scenes = [scene_of(1000 + k, start) for k, start in enumerate(starts)]
        self.without = [
            {ball: scene_of(1000 + k, start, removed=ball) for ball in range(len(start))}
            for k, start in enumerate(starts)
        ]
        self.latents, self.slot_of = encode(self.scenes)
        self.index = np.array([scene.index for scene in self.scenes])
        self.facts = {scene.index: World.from_scene(scene) for scene in self.scenes}
        self.questions = []
        for scene, without in zip(self.scenes, self.without, strict=True):
            # Balls that never come into view can't be asked about.
            seen = self.facts[scene.index].seen
            if len(seen) == len(scene.objects):
                self.questions.append(questions_of(scene, without=without))

    def truth(self, video, slot):
        """Latents of the simulations without an object."""
        parts = []
        for row, held in zip(video.tolist(), slot.tolist(), strict=True):
            ball = int(np.flatnonzero(self.slot_of[row] == held)[0])
            parts.append(encode([self.without[row][ball]])[0])
        return np.concatenate(parts)

    def rolled(self, model):
        """Observed frames and the model's rollout."""
        observed = self.latents[:, :128]
        predicted = extend_all(model, observed, steps=32, device=torch.device("cpu"))
        return np.concatenate([observed, predicted], axis=1)

    def ask(self, latents, removal):
        """Outcomes and counts."""
        reading = self.reasoner.read(latents)
        if latents.shape[1] == 128:
            reading = idle_future(reading)
        return answer_questions(
            self.reasoner, reading, self.questions, scene_index=self.index, removal=removal, facts=self.facts
        )


@pytest.fixture(scope="module")
def case():
    return Case()


def share(outcome, kind):
    mine = outcome.scored & (outcome.type == kind)
    return outcome.correct[mine].mean()


def test_the_truth_is_answered_right(case):
    outcome, counts = case.ask(case.latents, TrueRemoval(case.truth, batch=5))
    assert (outcome.type == COUNTERFACTUAL).sum() > 80
    assert share(outcome, DESCRIPTIVE) == 1.0
    assert share(outcome, PREDICTIVE) >= 0.95
    assert share(outcome, COUNTERFACTUAL) >= 0.95
    assert counts["removals"] == 4 * len(case.questions)
    assert counts["imagined_object_frames"] == 0


def test_references_fall_between_floor_and_truth(case):
    still = CopyLast(SPEC)
    line = ConstantVelocity(SPEC)
    floor, _ = case.ask(case.rolled(still), ModelRemoval(still))
    better, counts = case.ask(case.rolled(line), ModelRemoval(line))
    blind, _ = case.ask(case.latents[:, :128], ObservedRemoval())
    # What comes next can't be told from a picture that stands still; straight lines tell most of it.
    collides = (floor.type == PREDICTIVE) & (floor.label == 1)
    assert collides.sum() >= 5
    assert not floor.correct[collides].any()
    assert not blind.correct[collides].any()
    assert better.correct[collides].mean() > 0.7
    assert counts["imagined_object_frames"] > 0
    assert counts["model_calls"] > 0
    # Observed questions are answered from observed frames, whatever is imagined.
    assert share(floor, DESCRIPTIVE) == share(better, DESCRIPTIVE) == 1.0


def test_flips_compare_with_nothing_removed(case):
    outcome, _ = case.ask(case.latents, TrueRemoval(case.truth))
    mine = outcome.type == COUNTERFACTUAL
    assert (outcome.flips[~mine] == -1).all()
    row = 0
    for scene, without in zip(case.scenes, case.without, strict=True):
        if scene.index not in outcome.scene[mine]:
            continue
        factual = {(c.a, c.b) for c in scene.collisions}
        for removed, other in without.items():
            happens = {(c.a, c.b) for c in other.collisions}
            for a in range(4):
                for b in range(a + 1, 4):
                    if removed not in (a, b):
                        assert outcome.flips[mine][row] == (((a, b) in factual) != ((a, b) in happens))
                        row += 1
    by_flip = outcome.by_flip
    assert sum(len(items.right) for items in by_flip.values()) == mine.sum()
    unknown, _ = answer_questions(
        case.reasoner, case.reasoner.read(case.latents), case.questions, scene_index=case.index
    )
    assert (unknown.flips == -1).all()


def test_what_cannot_be_run_is_not_scored(case):
    reading = case.reasoner.read(case.latents[:, :128])
    outcome, counts = answer_questions(case.reasoner, reading, case.questions, scene_index=case.index)
    ahead = outcome.type != DESCRIPTIVE
    assert (outcome.prediction[ahead] == NOT_EXECUTABLE).all()
    assert not outcome.scored[ahead].any()
    assert outcome.scored[~ahead].all()
    assert counts["removals"] == 0


def test_questions_about_unread_videos_are_left_out(case):
    reading = case.reasoner.read(case.latents[:4])
    outcome, _ = answer_questions(case.reasoner, reading, case.questions, scene_index=case.index[:4])
    assert set(outcome.scene) <= set(case.index[:4])


def test_ambiguous_attributes_make_the_answer_wrong(case):
    reading = case.reasoner.read(case.latents)
    worlds = [replace(world, objects=(world.objects[0],) * len(world.objects)) for world in reading.worlds]
    outcome, _ = answer_questions(
        case.reasoner, replace(reading, worlds=tuple(worlds)), case.questions, scene_index=case.index
    )
    mine = outcome.type == PREDICTIVE
    assert not outcome.correct[mine].any()
    assert outcome.scored[mine].all()


def test_an_object_that_is_never_observed_is_none(case):
    observed = np.array([128] * len(case.latents))
    observed[0] = 2
    reading = case.reasoner.read(case.latents, observed=observed)
    seen = (reading.states.visible[0, :2] > 0.5).all(axis=0)
    assert len(reading.worlds[0].objects) == seen.sum()


def test_saved_and_loaded_reasoners_agree(case, tmp_path):
    case.reasoner.save(tmp_path)
    again = SymbolicReasoner.load(tmp_path)
    assert again.rules == case.reasoner.rules
    assert again.moving == case.reasoner.moving
    assert again.probe.report == case.reasoner.probe.report
    one, other = case.reasoner.read(case.latents), again.read(case.latents)
    np.testing.assert_array_equal(one.collisions.rows(), other.collisions.rows())
    assert [w.events for w in one.worlds] == [w.events for w in other.worlds]
