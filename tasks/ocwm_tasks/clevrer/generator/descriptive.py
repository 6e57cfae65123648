"""Candidates for questions about what is seen: counts, yes-no questions, and attributes of one object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ocwm_tasks.clevrer.executor import ERROR, run
from ocwm_tasks.clevrer.generator.facts import ORDER_FRAMES, Facts
from ocwm_tasks.clevrer.generator.phrases import ATTRIBUTES, ORDERS, VERBS, Phrase, noun, pick, span, when
from ocwm_tasks.clevrer.scene import COLORS, MATERIALS, SHAPES, ObjectProperty
from ocwm_tasks.clevrer.vocabulary import ANSWERS

SUBTYPES = ("count", "exist", "query_color", "query_material", "query_shape")

Said = tuple[str, ...]

# Attributes said of a group of objects; repeated where they should come up more often. Broad groups give more counts than 0
# and 1, so that they carry most of the questions about numbers.
_GROUPS: tuple[Said, ...] = ((), (), (), ("material",), ("material",), ("shape",), ("shape",), ("color",))
_PAIRS: tuple[Said, ...] = (("material", "shape"), ("color", "shape"), ("color", "material"))

# Of the questions about the one object that moves or rests, in which the name alone would do. They can be answered by finding
# an object by what is said of it; the others also take its motion.
NAMED_SHARE = 0.95

# Wanted shares of the answers 0 to 5, by how many objects a group can have: the most frequent answer is the same in all.
COUNT_SHARES = {
    "wide": (0.20, 0.26, 0.24, 0.17, 0.09, 0.04),
    "shape": (0.28, 0.34, 0.25, 0.10, 0.03, 0.0),
    "narrow": (0.46, 0.49, 0.05, 0.0, 0.0, 0.0),
}


@dataclass(frozen=True)
class Candidate:
    """A question that could be asked.

    Attributes:
        subtype: see `SUBTYPES`.
        frame: the wording without its objects.
        text, program, answer: the question.
        support: which shares its answers should have.
    """

    subtype: str
    frame: str
    text: str
    program: tuple[str, ...]
    answer: str
    support: str = ""


@dataclass(frozen=True)
class _Draft:
    frame: str
    text: str
    program: tuple[str, ...]
    support: str = ""


def candidates(facts: Facts, subtype: str, number: int, rng: np.random.Generator) -> list[Candidate]:
    """Draw up to `number` different questions of a subtype that have a clear answer; fewer when the video offers fewer."""
    makers: Sequence[Callable[[Facts, str, np.random.Generator], _Draft | None]]
    makers = _ATTRIBUTE_MAKERS if subtype.startswith("query_") else _GROUP_MAKERS
    found: dict[str, Candidate] = {}
    for _ in range(3 * number):
        draft = pick(rng, makers)(facts, subtype, rng)
        if draft is None or draft.text in found:
            continue
        value = run(draft.program, facts.world)
        if value != ERROR and str(value) in ANSWERS:
            found[draft.text] = Candidate(subtype, draft.frame, draft.text, draft.program, str(value), draft.support)
            if len(found) == number:
                break
    return list(found.values())


# Moments and spans


@dataclass(frozen=True)
class _Moment:
    """`row` is the sample (None: the whole video), `thing` the object that names the moment."""

    kind: str
    row: int | None
    phrase: Phrase
    thing: int | None = None


def _moment(facts: Facts, rng: np.random.Generator, *, avoid: str | None = None) -> _Moment | None:
    kind = pick(rng, ("always", "start", "end", "in", "in", "out"))
    if kind == "always":
        return _Moment(kind, None, when(kind, None))
    if kind in ("start", "end"):
        return _Moment(kind, 0 if kind == "start" else len(facts.world.frames) - 1, when(kind, None))
    known = facts.crossings[kind]
    if not known:
        return None
    i = pick(rng, sorted(known))
    name = facts.names.pick(i, rng, avoid=avoid)
    frame = known[i].frame
    return None if name is None or frame is None else _Moment(kind, facts.world.sample(frame), when(kind, name), i)


def _clear(facts: Facts, members: Sequence[int], moment: _Moment) -> bool:
    """Whether it is beyond doubt which of the objects move at the moment."""
    at_sample, overall = facts.clear_motion
    clear = overall if moment.row is None else at_sample[moment.row]
    return all(clear[i] for i in members)


def _span(facts: Facts, rng: np.random.Generator, *, collisions: bool) -> tuple[str, Phrase] | None:
    """A span before or after an entrance or exit: kind and wording. With `collisions`, none may be near its border."""
    kind = pick(rng, ("in", "in", "out"))
    known = facts.crossings[kind]
    if not known:
        return None
    i = pick(rng, sorted(known))
    frame = known[i].frame
    assert frame is not None
    if collisions and any(
        e.kind == "collision" and e.frame is not None and abs(e.frame - frame) <= ORDER_FRAMES
        for e in facts.world.observed
    ):
        return None
    name = facts.names.pick(i, rng)
    side = pick(rng, ("before", "after"))
    return None if name is None else (f"{side}-{kind}", span(side, kind, name))


# Groups: counting and existence


def _group(facts: Facts, rng: np.random.Generator, subtype: str) -> tuple[Phrase, str]:
    """A group of objects by some attributes, mostly of an object in the video; and the support of its count."""
    said = pick(rng, _PAIRS) if rng.random() < (0.1 if subtype == "count" else 0.35) else pick(rng, _GROUPS)
    if rng.random() < 0.75:
        thing = facts.world.objects[pick(rng, facts.seen)]
    else:
        thing = ObjectProperty(pick(rng, COLORS), pick(rng, MATERIALS), pick(rng, SHAPES))
    support = "wide" if said in ((), ("material",)) else "shape" if said == ("shape",) else "narrow"
    return noun(thing, said), support


def _members(facts: Facts, group: Phrase) -> list[int]:
    members = run(group.program, facts.world)
    return [int(i) for i in members]


def _names_them(time: Phrase, group: Phrase) -> bool:
    """Whether the group lies within the single object that the time is named by: "… cubes … when the cube enters the scene"."""
    if "unique" not in time.program:
        return False
    start = time.program.index("objects")
    return set(time.program[start : time.program.index("unique")]) <= set(group.program)


def _moving_group(facts: Facts, subtype: str, rng: np.random.Generator) -> _Draft | None:
    moment = _moment(facts, rng)
    if moment is None:
        return None
    kind, time = moment.kind, moment.phrase
    group, support = _group(facts, rng, subtype)
    members = _members(facts, group)
    if not _clear(facts, members, moment) or _names_them(time, group):
        return None
    state = pick(rng, ("moving", "stationary"))
    if state == "moving" and moment.thing in members and (subtype == "exist" or support != "wide"):
        return None  # what is coming in moves: the answer is known without the video
    program = (*group.program, *time.program, f"filter_{state}")
    if subtype == "exist":
        text = f"Are there any {state} {group.text}s{time.text}?"
        return _Draft(f"exist-{state}-{kind}", text, (*program, "exist"))
    if rng.random() < 0.5:
        text = f"How many {group.text}s are {state}{time.text}?"
    else:
        text = f"How many {state} {group.text}s are there{time.text}?"
    return _Draft(f"count-{state}-{kind}", text, (*program, "count"), support)


def _crossing_group(facts: Facts, subtype: str, rng: np.random.Generator) -> _Draft | None:
    kind = pick(rng, ("in", "in", "out"))
    group, support = _group(facts, rng, subtype)
    during = _span(facts, rng, collisions=False) if rng.random() < 0.65 else ("all", Phrase("", ("events",)))
    if during is None:
        return None
    part, time = during
    if _names_them(time, group):
        return None
    program = (*time.program, *group.program, f"filter_{kind}")
    if subtype == "exist":
        text = f"Are there any {group.text}s that {VERBS[kind]} the scene{time.text}?"
        return _Draft(f"exist-{kind}-{part}", text, (*program, "exist"))
    text = f"How many {group.text}s {VERBS[kind]} the scene{time.text}?"
    return _Draft(f"count-{kind}-{part}", text, (*program, "count"), support)


def _collision_group(facts: Facts, subtype: str, rng: np.random.Generator) -> _Draft | None:
    if not facts.clear_contacts:
        return None
    during = _span(facts, rng, collisions=True) if rng.random() < 0.75 else ("all", Phrase("", ("events",)))
    if during is None:
        return None
    part, time = during
    program = (*time.program, "objects", "filter_collision")
    if subtype == "exist":
        text = f"Are there {pick(rng, ('', 'any '))}collisions{time.text}?"
        return _Draft(f"exist-collision-{part}", text, (*program, "exist"))
    return _Draft(f"count-collision-{part}", f"How many collisions happen{time.text}?", (*program, "count"), "wide")


# One object: its colour, material or shape


def _ask(attribute: str, what: str, rng: np.random.Generator) -> str:
    return f"What {attribute} is {what}?" if rng.random() < 0.5 else f"What is the {attribute} of {what}?"


def _moving_object(facts: Facts, subtype: str, rng: np.random.Generator) -> _Draft | None:
    """The one object of some kind that moves, or rests, at a moment; what is asked for is not said of it."""
    attribute = subtype.removeprefix("query_")
    moment = _moment(facts, rng, avoid=attribute)
    if moment is None:
        return None
    kind, time = moment.kind, moment.phrase
    group = _one(facts, rng, without=attribute)
    if not _clear(facts, _members(facts, group), moment):
        return None
    state = pick(rng, ("moving", "stationary"))
    what = f"the {state} {group.text}" if rng.random() < 0.5 else f"the {group.text} that is {state}"
    program = (*group.program, *time.program, f"filter_{state}", "unique", subtype)
    return _Draft(f"{subtype}-{state}-{kind}", _ask(attribute, what + time.text, rng), program)


def _one(facts: Facts, rng: np.random.Generator, *, without: str) -> Phrase:
    """Objects to ask about without saying the attribute asked for: mostly named so that a single one fits."""
    i = pick(rng, facts.seen)
    name = facts.names.pick(i, rng, avoid=without) if rng.random() < NAMED_SHARE else None
    if name is not None:
        return Phrase(name.text, name.program[: -len(("unique",))])
    others = [attribute for attribute in ATTRIBUTES if attribute != without]
    said = pick(rng, ((), (others[0],), (others[1],), tuple(others)))
    return noun(facts.world.objects[i], said)


def _crossing_object(facts: Facts, subtype: str, rng: np.random.Generator) -> _Draft | None:
    """The first, second or last object that comes in or goes out."""
    kind = pick(rng, ("in", "in", "out"))
    frames = [e.frame for e in facts.world.observed if e.kind == kind]
    order = pick(rng, ORDERS)
    if len(set(frames)) < len(frames):
        return None
    what = f"the {order} object that {VERBS[kind]}s the scene"
    program = ("events", "objects", f"filter_{kind}", order, "filter_order", "get_object", subtype)
    return _Draft(f"{subtype}-{order}-{kind}", _ask(subtype.removeprefix("query_"), what, rng), program)


def _partner(facts: Facts, subtype: str, rng: np.random.Generator) -> _Draft | None:
    """The object that collides with another one: the only, first, second or last."""
    attribute = subtype.removeprefix("query_")
    colliding = sorted({i for e in facts.world.observed if e.kind == "collision" for i in e.objects})
    if not facts.clear_contacts or not colliding:
        return None
    i = pick(rng, colliding)
    own = sum(e.kind == "collision" and i in e.objects for e in facts.world.observed)
    name = facts.names.pick(i, rng, avoid=attribute) if i in facts.seen else None
    if name is None:
        return None
    collisions = ("events", *name.program, "filter_collision")
    order = "only" if own == 1 and rng.random() < 0.4 else pick(rng, ORDERS)
    if order == "only":
        what, one = f"the object to collide with the {name.text}", (*collisions, "unique")
    else:
        what, one = f"the {order} object to collide with the {name.text}", (*collisions, order, "filter_order")
    program = (*one, *name.program, "get_col_partner", subtype)
    return _Draft(f"{subtype}-{order}-partner", _ask(attribute, what, rng), program)


_GROUP_MAKERS = (_moving_group, _moving_group, _crossing_group, _collision_group)
_ATTRIBUTE_MAKERS = (*[_moving_object] * 8, _crossing_object, _partner)
