"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def names(*kinds: str) -> Any:
    """Return the completion of plugin names of some kinds."""

    def complete(incomplete: str) -> list[str]:
        from ocwm import registry

        return [name for kind in kinds for name in registry.plugins(kind) if name.startswith(incomplete)]

    return complete


Method = Annotated[
    str, typer.Option(help="A method or a reference.", autocompletion=names("method", "reference"), show_default=False)
]
Task = Annotated[str, typer.Option(help="A task.", autocompletion=names("task"), show_default=False)]
Encoder = Annotated[str, typer.Option(help="An encoder.", autocompletion=names("encoder"), show_default=False)]
MaybeMethod = Annotated[
    str | None,
    typer.Option(
        "--method", help="A method or a reference.", autocompletion=names("method", "reference"), show_default=False
    ),
]
MaybeEncoder = Annotated[
    str | None, typer.Option("--encoder", help="An encoder.", autocompletion=names("encoder"), show_default=False)
]
MaybeTask = Annotated[
    str | None,
    typer.Option(
        "--task", help="The task whose states an encoder reads.", autocompletion=names("task"), show_default=False
    ),
]
Preset = Annotated[str, typer.Option(help="Sizes, data and schedules in one word.", autocompletion=names("preset"))]
Seed = Annotated[int | None, typer.Option(help="Sets seeds.model and seeds.reasoner.", show_default=False)]
Results = Annotated[
    Path | None, typer.Option(help="Folder for records (default: ./results in a checkout).", show_default=False)
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="For example encoder=NAME trainer.max_steps=100.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks.")]
Out = Annotated[Path | None, typer.Option(help="Folder to write to.", show_default=False)]
