"""The command `bench`: the tree of commands, and what becomes of errors."""

from __future__ import annotations

import errno
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from ocwm.cli import data, encoders, importing, listing, running, sweeps, tables
from ocwm.distributed import whole_team
from ocwm.errors import BenchError
from ocwm.launch import hush_torch

_USAGE_ERROR: Any = typer.BadParameter.__base__  # the class of every usage error, wherever this typer keeps it
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0, 1 (failed), 2 (the user can mend it), 130 (stopped)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    hush_torch()
    try:
        code = _app(given)(args=given, prog_name="bench", standalone_mode=False)
    except BenchError as error:
        return _fail(str(error), 2, debug="--debug" in given)
    except _USAGE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(error.format_message())
            return 2
        place = error.ctx.command_path if error.ctx else "bench"
        return _fail(f"{error.format_message()} ({place} --help)", 2)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as error:  # the last resort: whatever this is, its traceback is kept
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            where = f": {error.filename}" if error.filename else ""
            return _fail(
                f"{error.strerror}{where}. Mend that and start the same command again.", 2, debug="--debug" in given
            )
        return _fail(_keep_traceback(error), 1, debug="--debug" in given)
    if code == 130:
        if whole_team().first:
            print("stopped; the same command continues", file=sys.stderr, flush=True)
        if arguments is None:
            # Where an import of torch was interrupted, the end of the interpreter hangs or aborts: leave without it.
            sys.stdout.flush()
            os._exit(code)
    return int(code or 0)


def _app(given: Sequence[str]) -> typer.Typer:
    """Build the tree of commands."""
    # typer checks values with pydantic, which takes longer to import than all the rest. Flags need no such check, but
    # the options for help and completion do, so they are there only when somebody looks at them or uses them.
    helps = "--help" in given
    completes = "_BENCH_COMPLETE" in os.environ or any(text.endswith("-completion") for text in given)
    terminal = sys.stdout.isatty()
    settings: dict[str, Any] = {"max_content_width": 120} | ({} if terminal else {"terminal_width": 120})
    app = typer.Typer(
        help="Compare object-centric world models behind one interface.",
        no_args_is_help=True,
        add_help_option=helps,
        add_completion=helps or completes,
        rich_markup_mode="rich" if terminal else None,
        pretty_exceptions_enable=False,
        context_settings=settings,
    )
    app.callback(invoke_without_command=True)(_root)
    lists = typer.Typer(add_help_option=helps)
    lists.callback(invoke_without_command=True)(listing.everything)
    _add(lists, listing.methods, listing.encoders, listing.tasks, helps=helps)
    _add(lists, listing.importers, listing.presets, listing.suites, helps=helps)
    app.add_typer(lists, name="list")
    _add(app, running.run, running.show, helps=helps)
    _add(app, sweeps.sweep, sweeps.status, sweeps.cancel, helps=helps)
    _add(app, tables.table, tables.leaderboard, tables.figures, tables.report, tables.compare, helps=helps)
    sets = typer.Typer(help="Make, check or describe the data of a task.", no_args_is_help=True, add_help_option=helps)
    _add(sets, data.make, data.check, data.describe, helps=helps)
    app.add_typer(sets, name="data")
    app.command("import", add_help_option=helps)(importing.import_file)
    _add(app, encoders.train_encoder, running.check, helps=helps)
    return app


def _add(app: typer.Typer, *commands: Callable[..., int | None], helps: bool) -> None:
    for command in commands:
        app.command(add_help_option=helps)(command)


def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from ocwm import __version__

        print(f"bench {__version__}")
        raise typer.Exit


def _fail(message: str, code: int, *, debug: bool = False) -> int:
    if debug:
        traceback.print_exc()
    team = whole_team()
    if team.first:
        print(f"error: {message}", file=sys.stderr, flush=True)
    elif not team.reported:  # of several processes the first one speaks, unless it knows nothing of this
        print(f"process {team.rank}: error: {message}", file=sys.stderr, flush=True)
    return code


def _keep_traceback(error: Exception) -> str:
    from ocwm.folders import work_folder

    text = traceback.format_exc()
    path = work_folder() / "logs" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    what = " ".join(f"{type(error).__name__}: {error}".split())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"bench {' '.join(sys.argv[1:])}\n{text}", encoding="utf-8")
    except OSError:
        return f"unexpected {what} (no log could be written; --debug shows the traceback)"
    return f"unexpected {what}; the traceback is in {path}"
