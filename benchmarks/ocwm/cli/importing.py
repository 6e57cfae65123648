"""`bench import`: published files become files of this program."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ocwm.cli.interrupts import stoppable
from ocwm.cli.options import Debug, Json, names


def import_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A published checkpoint or slot pickle.")],
    kind: Annotated[
        str | None,
        typer.Option("--as", help="What the file is (default: seen from its names).", autocompletion=names("importer")),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="What to write (default: beside the file).", show_default=False)
    ] = None,
    check_frames: Annotated[
        Path | None,
        typer.Option(help="Video or folder of images that tells the order of colours.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output.")] = False,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Convert a published file, check it strictly, say what it holds; nothing in it is run."""
    with stoppable() as stop_here:
        from ocwm.importing import import_published

        stop_here()
        report = import_published(file, kind=kind, output=output, force=force, check=check_frames)
    print(json.dumps(dict(report.facts), indent=1) if as_json else report.text)
