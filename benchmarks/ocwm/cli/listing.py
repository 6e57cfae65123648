"""`bench list`: what there is. Flags only, no values, so that typer need not load its checks (see cli/app.py)."""

from __future__ import annotations

import json
from collections.abc import Sequence

import typer

from ocwm.cli.options import Debug, Json

_LISTS = {"methods": ("method", "reference"), "encoders": ("encoder",), "tasks": ("task",)}
_LISTS |= {"importers": ("importer",), "presets": ("preset",), "suites": ("suite",)}


def everything(context: typer.Context, as_json: Json = False, debug: Debug = False) -> None:
    """List what there is, one line each, and which package it comes from."""
    if context.invoked_subcommand is None:
        _list(("methods", "encoders", "tasks", "presets"), as_json=as_json)
    else:
        context.obj = as_json


def methods(context: typer.Context, as_json: Json = False) -> None:
    """World models, and the references that they are measured against."""
    _list(("methods",), as_json=as_json or context.obj)


def encoders(context: typer.Context, as_json: Json = False) -> None:
    """What turns observations into slots."""
    _list(("encoders",), as_json=as_json or context.obj)


def tasks(context: typer.Context, as_json: Json = False) -> None:
    """What can be measured."""
    _list(("tasks",), as_json=as_json or context.obj)


def importers(context: typer.Context, as_json: Json = False) -> None:
    """Kinds of published files that `bench import` reads."""
    _list(("importers",), as_json=as_json or context.obj)


def presets(context: typer.Context, as_json: Json = False) -> None:
    """Sizes, data and schedules in one word."""
    _list(("presets",), as_json=as_json or context.obj)


def suites(context: typer.Context, as_json: Json = False) -> None:
    """Sets of runs."""
    _list(("suites",), as_json=as_json or context.obj)


def _list(shown: Sequence[str], *, as_json: bool) -> None:
    from ocwm import registry

    found = {name: [plugin for kind in _LISTS[name] for plugin in registry.plugins(kind).values()] for name in shown}
    if as_json:
        keys = ("kind", "name", "description", "package")
        print(
            json.dumps(
                [{key: getattr(p, key) for key in keys} for plugins in found.values() for p in plugins], indent=1
            )
        )
        return
    alone = len(found) == 1
    width = max((len(plugin.name) for plugins in found.values() for plugin in plugins), default=0)
    for name, plugins in found.items():
        if not alone:
            print(f"{name}:")
        for plugin in plugins:
            mark = "reference: " if plugin.kind == "reference" else ""
            print(f"{'' if alone else '  '}{plugin.name:<{width}}  {mark}{plugin.description} [{plugin.package}]")
