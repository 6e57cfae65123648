"""How objects and events are named and questions worded: text and program side by side.

Text uses only the words of the ALOE vocabulary; programs are in the language of the official question files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

import numpy as np

from ocwm_tasks.clevrer.scene import ObjectProperty

T = TypeVar("T")

ATTRIBUTES = ("color", "material", "shape")
LONGER_NAME_SHARE = 0.3  # of the names say more than is needed
ORDERS = ("first", "second", "last")


def words(text: str) -> list[str]:
    """Split a question or a choice as the ALOE vocabulary does: lower case, no question marks, split at spaces."""
    return [piece for piece in text.lower().replace("?", "").split(" ") if piece]


def pick(rng: np.random.Generator, items: Sequence[T]) -> T:
    """One of the items, each as likely as the others."""
    return items[int(rng.random() * len(items))]


@dataclass(frozen=True)
class Phrase:
    """A piece of a question: its text and the program that it stands for."""

    text: str
    program: tuple[str, ...]


def noun(thing: ObjectProperty, attributes: Sequence[str]) -> Phrase:
    """Name objects by some attributes of one of them: ("blue cube", objects blue filter_color cube filter_shape)."""
    said = [name for name in ATTRIBUTES if name in attributes]
    values = [getattr(thing, name) for name in said]
    text = " ".join(values if "shape" in said else [*values, "object"])
    steps = [token for name, value in zip(said, values, strict=True) for token in (value, f"filter_{name}")]
    return Phrase(text, ("objects", *steps))


class Names:
    """Every way to name each of the seen objects so that no other one fits."""

    def __init__(self, objects: Sequence[ObjectProperty], seen: Sequence[int]) -> None:
        self._ways: dict[tuple[int, str | None], tuple[list[Phrase], list[Phrase]]] = {}
        for i in seen:
            unique = [
                said
                for size in (1, 2, 3)
                for said in combinations(ATTRIBUTES, size)
                if sum(all(getattr(objects[j], a) == getattr(objects[i], a) for a in said) for j in seen) == 1
            ]
            names = [Phrase(n.text, (*n.program, "unique")) for n in (noun(objects[i], said) for said in unique)]
            for avoid in (None, *ATTRIBUTES):
                ways = [k for k, said in enumerate(unique) if avoid not in said]
                shortest = [k for k in ways if len(unique[k]) == len(unique[ways[0]])]
                longer = [k for k in ways if k not in shortest]
                self._ways[i, avoid] = [names[k] for k in shortest], [names[k] for k in longer]

    def pick(self, i: int, rng: np.random.Generator, *, avoid: str | None = None) -> Phrase | None:
        """A name of object i: mostly one of the shortest. None when it has none without the attribute to `avoid`."""
        shortest, longer = self._ways[i, avoid]
        if not shortest:
            return None
        return pick(rng, longer if longer and rng.random() < LONGER_NAME_SHARE else shortest)


# Events


def crossing(name: Phrase, kind: str) -> tuple[str, ...]:
    """Program of the one event at which the named object comes in or goes out."""
    return ("events", *name.program, f"filter_{kind}", "unique")


def collision(first: Phrase, second: Phrase, *, events: str = "events") -> tuple[str, ...]:
    """Program of the one collision of two named objects."""
    return (events, *first.program, "filter_collision", *second.program, "filter_collision", "unique")


VERBS = {"in": "enter", "out": "exit"}
BORDERS = {"start": "begins", "end": "ends"}


def when(kind: str, name: Phrase | None) -> Phrase:
    """A moment: "", "when the video begins", "when the … enters the scene", with the program of its frame.

    Args:
        kind: always, start, end, in or out.
        name: of the object, for in and out.
    """
    if kind == "always":
        return Phrase("", ("null",))
    if name is None:
        return Phrase(f" when the video {BORDERS[kind]}", (kind, "get_frame"))
    return Phrase(f" when the {name.text} {VERBS[kind]}s the scene", (*crossing(name, kind), "get_frame"))


def span(side: str, kind: str, name: Phrase) -> Phrase:
    """Time "before the … enters the scene", with the program of the events in it; side is before or after."""
    text = f" {side} the {name.text} {VERBS[kind]}s the scene"
    return Phrase(text, ("events", *crossing(name, kind), f"filter_{side}"))


# Multiple choice


def collision_phrase(first: Phrase, second: Phrase, rng: np.random.Generator) -> Phrase:
    """A collision as a noun."""
    text = (
        f"the collision between the {first.text} and the {second.text}"
        if rng.random() < 0.5
        else f"the {first.text}'s colliding with the {second.text}"
    )
    return Phrase(text, collision(first, second))


def exit_phrase(name: Phrase, rng: np.random.Generator) -> Phrase:
    """An exit as a noun."""
    return Phrase(f"the {name.text}'s {pick(rng, ('exit', 'exiting the scene'))}", crossing(name, "out"))


def entrance_phrase(name: Phrase, rng: np.random.Generator) -> Phrase:
    """An entrance as a noun."""
    return Phrase(f"the {name.text}'s {pick(rng, ('entrance', 'entering the scene'))}", crossing(name, "in"))


def presence_phrase(name: Phrase) -> Phrase:
    """The presence of an object."""
    return Phrase(f"the presence of the {name.text}", name.program)


def pair_phrase(first: Phrase, second: Phrase, rng: np.random.Generator) -> Phrase:
    """A collision that may happen, as a sentence."""
    text = (
        f"The {first.text} and the {second.text} collide"
        if rng.random() < 0.5
        else f"The {first.text} collides with the {second.text}"
    )
    return Phrase(text, collision(first, second, events="all_events"))


def explanatory_question(event: Phrase, *, negated: bool) -> Phrase:
    """Which of the following is (not) responsible for an event."""
    text = f"Which of the following is {'not ' if negated else ''}responsible for {event.text}?"
    program = ("events", *event.program, "filter_ancestor", "belong_to")
    return Phrase(text, (*program, "negate") if negated else program)


SUBJECTS = ("what", "which event", "which of the following")


def predictive_question(rng: np.random.Generator) -> Phrase:
    """What comes after the video."""
    return Phrase(f"{pick(rng, SUBJECTS).capitalize()} will happen next?", ("unseen_events", "belong_to"))


def counterfactual_question(removed: Phrase, rng: np.random.Generator, *, negated: bool) -> Phrase:
    """What happens, or does not, when an object is removed."""
    ask = f"{pick(rng, SUBJECTS)} will {'not ' if negated else ''}happen"
    text = pick(
        rng,
        (
            f"Without the {removed.text}, {ask}?",
            f"If the {removed.text} is removed, {ask}?",
            f"{ask[0].upper()}{ask[1:]} without the {removed.text}?",
            f"{ask[0].upper()}{ask[1:]} if the {removed.text} is removed?",
        ),
    )
    program = ("all_events", *removed.program, "get_counterfact", "belong_to")
    return Phrase(text, (*program, "negate") if negated else program)
