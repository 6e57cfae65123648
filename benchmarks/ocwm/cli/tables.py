"""`bench table`, `bench leaderboard`, `bench figures`, `bench report`, `bench compare`: what the records say."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ocwm.cli.options import Debug, Json, Out, Results, names


def table(
    task: Annotated[str | None, typer.Option(help="Only this task.", autocompletion=names("task"))] = None,
    preset: Annotated[list[str] | None, typer.Option(help="Only these presets.")] = None,
    form: Annotated[str, typer.Option("--format", help="md, plain, latex (booktabs), csv or json.")] = "plain",
    results: Results = None,
    debug: Debug = False,
) -> None:
    """Print the tables of all records, section by section; csv and json are for other programs."""
    from ocwm.store import read_records
    from ocwm.tables import render_tables

    print(render_tables(read_records(_results(results)), task=task, presets=preset or (), form=form), end="")


def leaderboard(
    check: Annotated[bool, typer.Option("--check", help="Only say whether it is current (exit code 1: no).")] = False,
    results: Results = None,
    debug: Debug = False,
) -> int:
    """Write leaderboard.md, beside the results folder, from the records."""
    from ocwm.leaderboard import differences, write
    from ocwm.store import read_records

    folder = _results(results)
    path = folder.parent / "leaderboard.md"
    records = read_records(folder)
    if check:
        if difference := differences(path, records):
            print(difference)
            print(f"{path} is not current: run bench leaderboard", file=sys.stderr)
            return 1
        print(f"{path} is current")
    else:
        print(f"{path} {'written' if write(path, records) else 'is current'}")
    return 0


def figures(
    kind: Annotated[list[str] | None, typer.Argument(metavar="KIND", help="Only these, e.g. rollout_error.")] = None,
    task: Annotated[str | None, typer.Option(help="Only this task.", autocompletion=names("task"))] = None,
    preset: Annotated[list[str] | None, typer.Option(help="Only these presets.")] = None,
    out: Out = None,
    results: Results = None,
    debug: Debug = False,
) -> None:
    """Draw figures of all records as PNG files, in results/figures unless --out says otherwise."""
    from ocwm.plots import make_figures
    from ocwm.store import read_records
    from ocwm.tables import chosen_records

    folder = _results(results)
    records = chosen_records(read_records(folder), task=task, presets=preset or ())
    written, left_out = make_figures(records, out or folder / "figures", only=kind or ())
    for path in written:
        print(path)
    for line in left_out:
        print(line)


def report(
    task: Annotated[str | None, typer.Option(help="Only this task.", autocompletion=names("task"))] = None,
    preset: Annotated[list[str] | None, typer.Option(help="Only these presets.")] = None,
    items: Annotated[int, typer.Option(min=0, help="Single items to show for each section.")] = 6,
    out: Annotated[Path | None, typer.Option(help="File to write.", show_default=False)] = None,
    results: Results = None,
    debug: Debug = False,
) -> None:
    """Write one HTML page with all tables, figures and single items, in results/report.html."""
    from ocwm import page
    from ocwm.page.items import collect
    from ocwm.store import read_records
    from ocwm.tables import chosen_records

    folder = _results(results)
    records = chosen_records(read_records(folder), task=task, presets=preset or ())
    found = page.build(records, collect(records, count=items))
    path = (out or folder / "report.html").expanduser()
    page.write(path, found)
    print(f"{path} written ({len(found.encode()) / 1e6:.1f} MB)")


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="An id, the start of one, or a record's path.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The same.")],
    form: Annotated[str, typer.Option("--format", help="plain, md or latex.")] = "plain",
    results: Results = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Compare two runs on the items that they have in common."""
    from ocwm.compare import compare_runs, comparison, find_run
    from ocwm.store import read_records

    records = read_records(_results(results))
    a, b = find_run(records, first), find_run(records, second)
    differences = compare_runs(a, b)
    if as_json:
        print(json.dumps([difference.to_json() for difference in differences], indent=1))
    else:
        print(comparison(a, b, differences, form=form), end="")


def _results(given: Path | None) -> Path:
    from ocwm.folders import results_folder, work_folder

    return results_folder(None if given is None else str(given), home=work_folder(), publish=True)
