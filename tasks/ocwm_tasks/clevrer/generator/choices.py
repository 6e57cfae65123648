"""Candidates for the options of explanatory, predictive and counterfactual questions."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import numpy as np

from ocwm_tasks.clevrer.generator.facts import Facts
from ocwm_tasks.clevrer.generator.phrases import (
    Phrase,
    collision_phrase,
    counterfactual_question,
    entrance_phrase,
    exit_phrase,
    explanatory_question,
    pair_phrase,
    predictive_question,
    presence_phrase,
)
from ocwm_tasks.clevrer.scene import OBSERVED_FRAMES
from ocwm_tasks.clevrer.world import Event


@dataclass(frozen=True)
class Option:
    """One fact that could be an option.

    Attributes:
        subject: what the question is about: an event, a removed object, or nothing.
        content: what the option is about.
        form: kind of option.
        holds: whether the fact is true (before a "not" in the question turns it round).
        observed: whether it happens with nothing removed, where that could be taken for the answer.
        hints: what else must not go together with the answer, such as how near the two objects are.
    """

    subject: Hashable
    content: Hashable
    form: str
    holds: bool
    observed: bool | None = None
    hints: tuple[Hashable, ...] = ()


# Explanatory: subject = event, content = ("presence" | "entrance", object) or ("collision", event)


def explanatory_options(facts: Facts) -> list[Option]:
    """Causes of the collisions and exits of the video, and what is no cause of them.

    The objects that take part in the asked event are never offered as a cause: they always are one.
    """
    if not facts.clear_contacts:
        return []
    pairs = [e.objects for e in facts.world.observed if e.kind == "collision"]
    collisions = [e for e in facts.world.observed if e.kind == "collision" and pairs.count(e.objects) == 1]
    found = []
    for event in [*collisions, *facts.crossings["out"].values()]:
        causes = facts.world.ancestors[event]
        involved = {i for cause in causes for i in cause.objects}
        for i in facts.seen:
            if i not in event.objects:
                found.append(Option(event, ("presence", i), f"presence-{event.kind}", i in involved))
        for i, entrance in facts.crossings["in"].items():
            if i not in event.objects:
                found.append(Option(event, ("entrance", i), f"entrance-{event.kind}", entrance in causes))
        for other in collisions:
            if other != event:
                shared = bool(set(other.objects) & set(event.objects))
                form = f"{'shared-' if shared else ''}collision-{event.kind}"
                found.append(Option(event, ("collision", other), form, other in causes))
    return found


def word_explanatory(facts: Facts, event: Event, negated: bool, rng: np.random.Generator) -> Phrase:
    """Question about the causes of an event."""
    names = _names(facts, _either_way(event.objects, rng), rng)
    noun = exit_phrase(names[0], rng) if event.kind == "out" else collision_phrase(names[0], names[1], rng)
    return explanatory_question(noun, negated=negated)


def word_cause(facts: Facts, content: tuple[str, int | Event], rng: np.random.Generator) -> Phrase:
    """A possible cause."""
    kind, what = content
    if isinstance(what, Event):
        names = _names(facts, _either_way(what.objects, rng), rng)
        return collision_phrase(names[0], names[1], rng)
    name = _names(facts, (what,), rng)[0]
    return presence_phrase(name) if kind == "presence" else entrance_phrase(name, rng)


# Predictive: no subject, content = pair


def predictive_options(facts: Facts) -> list[Option]:
    """Pairs that collide after the observed frames, and pairs that don't."""
    return [
        Option(None, pair, "pair", happens, hints=tuple(enumerate(facts.approach(pair))))
        for pair, happens in facts.future.items()
    ]


def word_predictive(rng: np.random.Generator) -> Phrase:
    """Question about what comes next."""
    return predictive_question(rng)


# Counterfactual: subject = removed object, content = pair


def counterfactual_options(facts: Facts) -> list[Option]:
    """Pairs that collide, or don't, when an object is removed; balanced against what happens with it."""
    found = []
    for removed, verdicts in facts.without.items():
        for pair, happens in verdicts.items():
            frame = facts.collided.get(pair)
            seen = frame is not None and frame < OBSERVED_FRAMES
            found.append(Option(removed, pair, "pair", happens, frame is not None, hints=(("seen", seen),)))
    return found


def word_counterfactual(facts: Facts, removed: int, negated: bool, rng: np.random.Generator) -> Phrase:
    """Question about a world without an object."""
    return counterfactual_question(_names(facts, (removed,), rng)[0], rng, negated=negated)


def word_pair(facts: Facts, pair: tuple[int, int], rng: np.random.Generator) -> Phrase:
    """A collision of a pair as an option, either object first."""
    first, second = _names(facts, _either_way(pair, rng), rng)
    return pair_phrase(first, second, rng)


def _either_way(objects: tuple[int, ...], rng: np.random.Generator) -> tuple[int, ...]:
    return objects if rng.random() < 0.5 else objects[::-1]


def _names(facts: Facts, objects: tuple[int, ...], rng: np.random.Generator) -> list[Phrase]:
    names = [facts.names.pick(i, rng) for i in objects]
    return [name for name in names if name is not None]
