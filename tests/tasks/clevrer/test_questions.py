"""Generated questions: the official schema, answers out of programs, nothing asked that is too close to call, balance."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from ocwm_tasks.clevrer.executor import answer, judge
from ocwm_tasks.clevrer.generator.balance import as_if_nothing_removed, describe, family, items, render
from ocwm_tasks.clevrer.generator.facts import Facts, Margins
from ocwm_tasks.clevrer.generator.multiple_choice import CAP
from ocwm_tasks.clevrer.generator.phrases import Names, words
from ocwm_tasks.clevrer.generator.questions import QuestionConfig, QuestionMaker, QuestionSource
from ocwm_tasks.clevrer.generator.selection import Counts, Place, Tally, draw
from ocwm_tasks.clevrer.generator.simulation import Setup, Simulation, Start, simulate
from ocwm_tasks.clevrer.scene import Collision, ObjectProperty, Scene
from ocwm_tasks.clevrer.vocabulary import ANSWERS, QUESTION_WORDS
from ocwm_tasks.clevrer.world import World

KINDS = [
    ObjectProperty(color, material, shape)
    for color in ("red", "blue", "gray", "cyan")
    for material in ("metal", "rubber")
    for shape in ("sphere", "cylinder", "cube")
]
ASKS = {"explanatory": 2, "predictive": 2, "counterfactual": 3}


def video(index: int) -> QuestionSource:
    """Four objects: one or two roll in towards others that rest, some of them in line."""
    rng = np.random.default_rng(index)
    objects = tuple(KINDS[k] for k in rng.choice(len(KINDS), 5, replace=False))
    y = rng.uniform(-0.25, 0.25, 4)
    starts = (
        Start(0, (-4.5, y[0]), (2.6 + rng.uniform(-0.8, 0.8), 0.0)),
        Start(0, (-0.5, 0.0), angle=rng.uniform(0, 6)),
        Start(0, (0.7, y[1]), angle=rng.uniform(0, 6)),
        Start(0, (1.9, y[2] * 2), angle=rng.uniform(0, 6)),
        Start(int(rng.integers(20, 70)), (-0.8 + y[3], -4.0), (0.0, 1.6)),
    )
    setup = Setup(objects, starts)
    return QuestionSource(index, simulate(setup), {i: simulate(setup, removed=i) for i in range(5)})


def make_questions(
    sources: Sequence[QuestionSource], config: QuestionConfig, *, rng: np.random.Generator
) -> list[dict]:
    maker = QuestionMaker(config, rng)
    return [maker.ask(source) for source in sources]


@pytest.fixture(scope="module")
def sources() -> list[QuestionSource]:
    return [video(index) for index in range(24)]


@pytest.fixture(scope="module")
def scenes(sources) -> list[dict]:
    return make_questions(sources, QuestionConfig(**ASKS), rng=np.random.default_rng(0))


def world_of(source: QuestionSource, *, frames: int = 160) -> World:
    """The world as it is read back from an annotation, built without the generator."""
    run, shown = source.simulation, np.arange(frames)
    removed = {
        i: frozenset(frozenset((c.a, c.b)) for c in other.collisions if c.frame < 160)
        for i, other in source.removals.items()
    }
    collisions = tuple(c for c in run.collisions if c.frame < frames)
    positions = run.positions[shown].round(4)
    scene = Scene(source.index, run.objects, shown, positions, run.visible[shown], collisions, "world")
    return World.from_scene(scene, counterfactual=removed)


def test_schema(scenes):
    assert [scene["scene_index"] for scene in scenes] == list(range(24))
    assert scenes[3]["video_filename"] == "video_00003.mp4"
    order = ["descriptive", "explanatory", "predictive", "counterfactual"]
    for scene in scenes:
        assert [q["question_id"] for q in scene["questions"]] == list(range(len(scene["questions"])))
        kinds = [order.index(q["question_type"]) for q in scene["questions"]]
        assert kinds == sorted(kinds)
        assert sum(kind == 0 for kind in kinds) <= 11
        for question in scene["questions"]:
            if question["question_type"] == "descriptive":
                assert question.keys() == {
                    *("question_id", "question", "question_type", "question_subtype", "program", "answer")
                }
                assert question["answer"] in ANSWERS
                continue
            assert question.keys() == {"question_id", "question", "question_type", "program", "choices"}
            assert 2 <= len(question["choices"]) <= (2 if question["question_type"] == "predictive" else 4)
            for number, choice in enumerate(question["choices"]):
                assert choice.keys() == {"choice_id", "choice", "program", "answer"}
                assert choice["choice_id"] == number
                assert choice["answer"] in ("correct", "wrong")
    assert json.loads(json.dumps(scenes)) == scenes


def test_every_type_is_asked(scenes):
    asked = Counter(q.get("question_subtype", q["question_type"]) for s in scenes for q in s["questions"])
    subtypes = {"count", "exist", "query_color", "query_material", "query_shape"}
    assert asked.keys() == {*subtypes, "explanatory", "predictive", "counterfactual"}


def test_only_words_that_aloe_knows_and_no_more_than_fit(scenes):
    for item in items(scenes):
        question, *choice = item.text.split(" | ")
        limits = (20, 12) if choice else (32,)
        for text, limit in zip((question, *choice), limits, strict=True):
            assert set(words(text)) <= set(QUESTION_WORDS), text
            assert len(words(text)) <= limit, text


def test_every_answer_comes_out_of_its_program(sources, scenes):
    for source, scene in zip(sources, scenes, strict=True):
        full, observed = world_of(source), world_of(source, frames=128)
        for question in scene["questions"]:
            kind = question["question_type"]
            if kind == "descriptive":
                assert answer(question, observed) == question["answer"]
            for choice in question.get("choices", ()):
                known = observed if kind == "explanatory" else full
                assert judge(question, choice, known) == choice["answer"]


def test_same_seed_same_questions(sources):
    first, again, other = (
        make_questions(sources[:6], QuestionConfig(**ASKS), rng=np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert again == first
    assert other != first


def test_no_option_twice_in_a_question(scenes):
    for scene in scenes:
        for question in scene["questions"]:
            said = [tuple(sorted(words(choice["choice"]))) for choice in question.get("choices", ())]
            assert len(set(said)) == len(said)


def test_options_are_balanced(sources, scenes):
    right = Counter(
        (q["question_type"], "negate" in q["program"], choice["answer"])
        for s in scenes
        for q in s["questions"]
        for choice in q.get("choices", ())
    )
    assert sum(right.values()) > 150
    for kind, negated, _ in right:
        assert abs(right[kind, negated, "correct"] - right[kind, negated, "wrong"]) <= 2 * CAP
    report = as_if_nothing_removed(scenes, {s.index: world_of(s) for s in sources})
    assert report["n"] > 80
    # Four cells, for questions with and without "not".
    assert len(report["cells"]) == 4
    assert max(report["cells"].values()) - min(report["cells"].values()) <= 2 * CAP


def test_settings_say_how_much_is_asked(sources):
    config = QuestionConfig(0, 1, 0, 0, 0, 0, 1, 1, choice_shares=(1.0, 0.0, 0.0), predictive_choices=3)
    scenes = make_questions(sources[:10], config, rng=np.random.default_rng(0))
    asked = Counter((q["question_type"], len(q.get("choices", ()))) for s in scenes for q in s["questions"])
    assert asked["descriptive", 0] == 10
    assert {key for key in asked if key[0] == "counterfactual"} <= {("counterfactual", 2)}
    assert all(number <= 3 for _, number in asked)
    assert make_questions([], config, rng=np.random.default_rng(0)) == []


# What may be asked


def moving_pair(gap: np.ndarray, contacts: tuple[int, ...], *, kick: float = 1.0) -> Simulation:
    """Two spheres with a given gap (192,) and collisions at given frames."""
    frames = 192
    positions = np.zeros((frames, 2, 2), np.float32)
    positions[:, 1, 0] = 0.6 + gap
    velocities = np.zeros_like(positions)
    for frame in contacts:
        velocities[frame:, 1, 0] += kick
    gaps = np.full((frames, 2, 2), np.inf, np.float32)
    gaps[:, 0, 1] = gaps[:, 1, 0] = gap
    everywhere = np.ones((frames, 2), bool)
    angles = np.zeros((frames, 2), np.float32)
    collisions = tuple(Collision(frame, 0, 1) for frame in contacts)
    return Simulation(
        objects=(KINDS[0], KINDS[6]),
        positions=positions,
        angles=angles,
        velocities=velocities,
        angular_velocities=angles,
        visible=everywhere,
        present=everywhere,
        collisions=collisions,
        gaps=gaps,
    )


def pulled_to(frame: int, nearest: float) -> np.ndarray:
    """A gap that shrinks to `nearest` at a frame and grows again."""
    return (nearest + 0.02 * np.abs(np.arange(192) - frame)).astype(np.float32)


@pytest.mark.parametrize(
    ("gap", "contacts", "kick", "expected"),
    [
        (pulled_to(140, 0.0), (140,), 1.0, {(0, 1): True}),
        (pulled_to(140, 0.3), (), 1.0, {(0, 1): False}),
        (pulled_to(140, 0.05), (), 1.0, {}),  # a near miss
        (pulled_to(100, 0.05), (), 1.0, {(0, 1): False}),  # near, but long before
        (pulled_to(140, 0.0), (140,), 0.05, {}),  # touched without any effect
        (pulled_to(158, 0.0), (158,), 1.0, {}),  # too late to be seen
        (pulled_to(163, 0.0), (163,), 1.0, {}),  # first contact right after the end
        (pulled_to(188, 0.0), (188,), 1.0, {}),  # first contact after the end
        (pulled_to(140, 0.0), (90, 140), 1.0, {}),  # had been in touch before
    ],
)
def test_only_clear_futures_are_asked_about(gap, contacts, kick, expected):
    facts = Facts(QuestionSource(0, moving_pair(gap, contacts, kick=kick), {}), Margins())
    assert dict(facts.future) == expected


def test_pairs_that_cannot_be_seen_are_not_asked_about():
    run = moving_pair(pulled_to(140, 0.0), (140,))
    for hidden in (127, 140):
        visible = run.visible.copy()
        visible[hidden, 0] = False
        assert not Facts(QuestionSource(0, replace(run, visible=visible), {}), Margins()).future


@pytest.mark.parametrize(
    ("gap", "contacts", "expected"),
    [
        (pulled_to(30, 0.0), (30,), {(0, 1): True}),
        (pulled_to(30, 0.3), (), {(0, 1): False}),
        (pulled_to(30, 0.05), (), {}),
        (pulled_to(158, 0.0), (158,), {}),
    ],
)
def test_only_clear_removals_are_asked_about(gap, contacts, expected):
    third = ObjectProperty("yellow", "metal", "cube")
    run = moving_pair(gap, contacts)
    far = np.full((192, 1, 2), 9, np.float32)
    column = np.ones((192, 1), bool)
    run = replace(
        run,
        objects=(*run.objects, third),
        positions=np.concatenate([run.positions, far], axis=1),
        velocities=np.concatenate([run.velocities, 0 * far], axis=1),
        visible=np.concatenate([run.visible, column], axis=1),
        present=np.concatenate([run.present, column], axis=1),
        gaps=np.pad(run.gaps, ((0, 0), (0, 1), (0, 1)), constant_values=np.inf),
    )
    facts = Facts(QuestionSource(0, run, {2: run}), Margins())
    assert facts.without == {2: expected}


def test_names_are_unique_and_mostly_short():
    objects = (KINDS[0], KINDS[1], ObjectProperty("red", "rubber", "cube"), ObjectProperty("blue", "metal", "cube"))
    names = Names(objects, (0, 1, 2, 3))
    rng = np.random.default_rng(0)
    said = Counter(names.pick(0, rng).text for _ in range(300))  # type: ignore[union-attr]
    assert said.keys() == {"sphere", "red sphere", "metal sphere", "red metal sphere"}
    assert said["sphere"] > 150
    assert {names.pick(2, rng).text for _ in range(50)} >= {"rubber object"}  # type: ignore[union-attr]
    assert names.pick(0, rng, avoid="shape") is None  # red metal is also the cylinder
    assert names.pick(3, rng, avoid="shape").text == "blue object"  # type: ignore[union-attr]


# Balance


def test_tally_evens_out_a_lopsided_supply():
    """Nine in ten candidates with "red" say yes; of those chosen about half do."""
    rng = np.random.default_rng(0)
    tally, chosen = Tally(2), []
    for _ in range(250):
        pool = [("red" if rng.random() < 0.5 else "blue") for _ in range(12)]
        truths = [bool(rng.random() < (0.9 if color == "red" else 0.2)) for color in pool]
        marks = [tally.read(f"Are there any {color} cubes?", "exist") for color in pool]
        residuals = np.array([[-0.5, 0.5] if truth else [0.5, -0.5] for truth in truths])
        best = int(tally.drifts(marks, residuals).argmin())
        tally.add(marks[best], residuals[best])
        chosen.append((pool[best], truths[best]))
    for color in ("red", "blue"):
        answers = [truth for c, truth in chosen if c == color]
        assert len(answers) > 50
        assert abs(np.mean(answers) - 0.5) < 0.05


def test_counts_hold_back_a_cell_that_is_ahead():
    counts = Counts(cap=3, pull=0.5)
    ahead, behind = Place("plain", (True,)), Place("plain", (False,))
    for _ in range(3):
        assert counts.weight([ahead]) > 0
        counts.add([ahead])
    assert counts.weight([ahead]) == 0
    assert counts.weight([behind]) == 1
    counts.add([ahead], -1)
    assert 0 < counts.weight([ahead]) < counts.weight([behind])
    assert draw([0.0, 0.0], np.random.default_rng(0)) is None
    assert draw([0.0, 2.0], np.random.default_rng(0)) == 1


def planted(leak: bool, seed: int) -> list[dict]:
    rng = np.random.default_rng(seed)
    scenes = []
    for index in range(80):
        colors = [str(rng.choice(["red", "blue"])) for _ in range(2)]
        said = [(c == "red") if leak else bool(rng.random() < 0.5) for c in colors]
        questions = [
            {
                "question_type": "descriptive",
                "question_subtype": "exist",
                "question": f"Are there any {color} cubes?",
                "answer": "yes" if yes else "no",
            }
            for color, yes in zip(colors, said, strict=True)
        ]
        scenes.append({"scene_index": index, "questions": questions})
    return scenes


def test_text_only_classifier_finds_what_text_tells():
    leaky = describe(planted(True, 1), train=planted(True, 0))
    clean = describe(planted(False, 1), train=planted(False, 0))
    assert leaky["text_only"]["exist"] == 1.0
    assert clean["text_only"]["exist"] < 0.6
    assert leaky["questions"] == {"exist": 160}
    assert leaky["families"]["exist"].keys() == {"are there any objects"}


def test_as_if_nothing_were_removed(sources):
    """A question whose truth the removal turns round, and one whose truth it leaves."""
    source = sources[0]
    full = world_of(source)
    pairs = {frozenset(e.objects) for e in full.events if e.kind == "collision"}
    removed, gone = next(
        (i, pair) for i, happens in (full.counterfactual or {}).items() for pair in pairs - happens if i not in pair
    )
    full_name = [
        ["objects", o.color, "filter_color", o.material, "filter_material", o.shape, "filter_shape", "unique"]
        for o in full.objects
    ]
    a, b = sorted(gone)
    choice = ["all_events", *full_name[a], "filter_collision", *full_name[b], "filter_collision", "unique"]
    question = {
        "question": "Without the object, what will happen?",
        "question_type": "counterfactual",
        "program": ["all_events", *full_name[removed], "get_counterfact", "belong_to"],
        "choices": [{"choice": "The objects collide", "program": choice, "answer": "wrong"}],
    }
    report = as_if_nothing_removed([{"scene_index": 0, "questions": [question]}], {0: full})
    assert report == {"score": 0.0, "flipped": 1.0, "n": 1, "cells": {"collides, removed: passes": 1}}
    assert as_if_nothing_removed([{"scene_index": 0, "questions": [question]}], {})["n"] == 0


def test_description_as_text(sources, scenes):
    report = describe(scenes, worlds={s.index: world_of(s) for s in sources})
    text = render(report, families=True)
    for part in ("count", "explanatory", "predictive", "counterfactual", "as if nothing were removed", "24 videos"):
        assert part in text
    unanswered = [{"scene_index": 1, "questions": [{"question": "How many objects are moving?"}]}]
    unanswered[0]["questions"][0] |= {"question_type": "descriptive", "question_subtype": "count"}
    assert "count" in render(describe(unanswered))


def test_family_leaves_out_what_an_object_is_like():
    question = "If the red metal cube is removed, what will happen?"
    assert family(question) == "if the object is removed, what will happen"
    assert family("What color is the sphere's cube?") == "what color is the object's object"


def test_training_videos_may_be_asked_more(sources):
    config = QuestionConfig(
        count=1, exist=1, query_color=1, query_material=0, query_shape=0, more_in_training={"count": 2, "exist": 2}
    )
    more = make_questions(sources[:4], config.of_training(), rng=np.random.default_rng(0))
    for scene in more:
        kinds = Counter(q.get("question_subtype", q["question_type"]) for q in scene["questions"])
        assert kinds["count"] == kinds["exist"] == 3
        assert kinds["query_color"] <= 1
        assert kinds["counterfactual"] <= config.counterfactual
        assert len({q["question"] for q in scene["questions"] if "question_subtype" in q}) == sum(
            kinds[k] for k in ("count", "exist", "query_color")
        )
