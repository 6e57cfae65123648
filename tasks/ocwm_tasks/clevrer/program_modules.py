"""What the words of the program language do: values on the stack and the modules that work on them.

See `executor.py`. A module is called with the world and the arguments that it pops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ocwm_tasks.clevrer.scene import OBSERVED_FRAMES
from ocwm_tasks.clevrer.world import Event, Pair, World


class NotExecutable(Exception):
    """The program asks for a truth that this world does not hold; `reason` says which."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Thing(int):
    """An object on the stack: its index. A class of its own, so that it is never taken for a frame or a count."""


class Things(tuple[Thing, ...]):
    """A list of objects on the stack."""


class Events(tuple[Event, ...]):
    """A list of events on the stack."""


class Failed(Exception):
    """A step got something that it can't work on: the program's answer is `error`."""


# Reading of arguments


def _things(value: Any) -> Things:
    if isinstance(value, Things):
        return value
    raise Failed


def _thing(value: Any) -> Thing:
    if isinstance(value, Thing):
        return value
    raise Failed


def _one_or_more(value: Any) -> tuple[Thing, ...]:
    return (value,) if isinstance(value, Thing) else _things(value)


def _events(value: Any) -> Events:
    if isinstance(value, Events):
        return value
    raise Failed


def _event(value: Any) -> Event:
    if isinstance(value, Event):
        return value
    raise Failed


def _frame(event: Event) -> int:
    if event.frame is None:
        raise Failed
    return event.frame


# Sources


def _objects(world: World) -> Things:
    return Things(map(Thing, world.seen))


def _visible_events(world: World) -> Events:
    return Events(world.observed)


def _unseen_events(world: World) -> Events:
    if world.horizon <= OBSERVED_FRAMES:
        raise NotExecutable("events after the observed frames are not known")
    return Events([e for e in world.events if e.objects and e.frame is not None and e.frame >= OBSERVED_FRAMES])


def _all_events(world: World) -> Events:
    return Events(world.possible)


# Lists and logic


def _unique(world: World, items: Any) -> Any:
    if not isinstance(items, Things | Events) or len(items) != 1:
        raise Failed
    return items[0]


def _count(world: World, items: Any) -> int:
    if not isinstance(items, Things | Events):
        raise Failed
    return len(items)


def _exist(world: World, items: Any) -> str:
    return "yes" if _count(world, items) else "no"


def _negate(world: World, truth: Any) -> str:
    if truth not in ("yes", "no"):
        raise Failed
    return "no" if truth == "yes" else "yes"


# Objects


def _filter_attribute(attribute: str) -> Callable[[World, Any, Any], Things]:
    def keep(world: World, things: Any, value: Any) -> Things:
        return Things([i for i in _things(things) if getattr(world.objects[i], attribute) == value])

    return keep


def _query_attribute(attribute: str) -> Callable[[World, Any], str]:
    def read(world: World, thing: Any) -> str:
        value: str = getattr(world.objects[_thing(thing)], attribute)
        return value

    return read


def _filter_motion(moving: bool) -> Callable[[World, Any, Any], Things]:
    def keep(world: World, things: Any, frame: Any) -> Things:
        if type(frame) is int:
            states = world.states[world.sample(frame)]
        elif frame == "null":
            states = world.ever
        else:
            raise Failed
        return Things([i for i in _things(things) if states[i] is moving])

    return keep


def _query_direction(world: World, thing: Any, frame: Any) -> str:
    if world.headings is None:
        raise NotExecutable("directions need image-plane coordinates")
    if type(frame) is not int:
        raise Failed
    right, up = world.headings[world.sample(frame), _thing(thing)].tolist()
    if abs(right) >= abs(up):
        return "right" if right > 0 else "left"
    return "up" if up > 0 else "down"


# Events


def _filter_kind(kind: str) -> Callable[[World, Any, Any], Events]:
    def keep(world: World, events: Any, things: Any) -> Events:
        wanted = frozenset(_one_or_more(things))
        return Events([e for e in _events(events) if e.kind == kind and not wanted.isdisjoint(e.objects)])

    return keep


def _border(kind: str) -> Callable[[World], Event]:
    def read(world: World) -> Event:
        return next(e for e in world.observed if e.kind == kind)

    return read


def _filter_border(kind: str) -> Callable[[World, Any], Event]:
    def read(world: World, events: Any) -> Event:
        found: Event = _unique(world, Events(e for e in _events(events) if e.kind == kind))
        return found

    return read


def _filter_order(world: World, events: Any, order: Any) -> Event:
    place = {"first": 0, "second": 1, "last": -1}.get(order) if isinstance(order, str) else None
    kept = _events(events)
    if place is None or len(kept) <= max(place, 0):
        raise Failed
    return kept[place]


def _filter_before(world: World, events: Any, event: Any) -> Events:
    limit = _frame(_event(event))
    return Events([e for e in _events(events) if _frame(e) < limit])


def _filter_after(world: World, events: Any, event: Any) -> Events:
    limit = _frame(_event(event))
    return Events([e for e in _events(events) if _frame(e) > limit])


def _query_frame(world: World, event: Any) -> int:
    return _frame(_event(event))


def _query_object(world: World, event: Any) -> Thing:
    if _event(event).kind not in ("in", "out"):
        raise Failed
    return Thing(event.objects[0])


def _query_partner(world: World, event: Any, thing: Any) -> Thing:
    pair = _event(event).objects
    if event.kind != "collision" or _thing(thing) not in pair:
        raise Failed
    return Thing(pair[0] if pair[1] == thing else pair[1])


def _filter_ancestor(world: World, events: Any, event: Any) -> Events:
    causes = world.ancestors.get(_event(event))
    if causes is None:
        raise Failed
    return Events([e for e in _events(events) if e in causes])


def _filter_counterfact(world: World, events: Any, thing: Any) -> Events:
    removed = int(_thing(thing))
    if world.counterfactual is None or removed not in world.counterfactual:
        raise NotExecutable("what happens without an object is not known")
    happens: frozenset[Pair] = world.counterfactual[removed]
    return Events([e for e in _events(events) if e.kind == "collision" and frozenset(e.objects) in happens])


def _belong_to(world: World, item: Any, events: Any) -> str:
    listed = _events(events)
    if isinstance(item, Event):
        members = set(item.objects)
        return "yes" if any(e.kind == item.kind and set(e.objects) == members for e in listed) else "no"
    return "yes" if any(_thing(item) in e.objects for e in listed) else "no"


MODULES: dict[str, tuple[int, Callable[..., Any]]] = {
    "objects": (0, _objects),
    "events": (0, _visible_events),
    "unseen_events": (0, _unseen_events),
    "all_events": (0, _all_events),
    "start": (0, _border("start")),
    "end": (0, _border("end")),
    "unique": (1, _unique),
    "count": (1, _count),
    "exist": (1, _exist),
    "negate": (1, _negate),
    "belong_to": (2, _belong_to),
    "filter_moving": (2, _filter_motion(True)),
    "filter_stationary": (2, _filter_motion(False)),
    "filter_resting": (2, _filter_motion(False)),
    "filter_start": (1, _filter_border("start")),
    "filter_end": (1, _filter_border("end")),
    "filter_in": (2, _filter_kind("in")),
    "filter_out": (2, _filter_kind("out")),
    "filter_collision": (2, _filter_kind("collision")),
    "filter_order": (2, _filter_order),
    "filter_before": (2, _filter_before),
    "filter_after": (2, _filter_after),
    "filter_ancestor": (2, _filter_ancestor),
    "query_direction": (2, _query_direction),
}
for _name in ("color", "material", "shape"):
    MODULES[f"filter_{_name}"] = (2, _filter_attribute(_name))
    MODULES[f"query_{_name}"] = (1, _query_attribute(_name))
for _prefix in ("query", "get"):
    MODULES[f"{_prefix}_frame"] = (1, _query_frame)
    MODULES[f"{_prefix}_object"] = (1, _query_object)
for _name in ("query_collision_partner", "get_collision_partner", "query_col_partner", "get_col_partner"):
    MODULES[_name] = (2, _query_partner)
for _name in ("filter_counterfact", "get_counterfact"):
    MODULES[_name] = (2, _filter_counterfact)
