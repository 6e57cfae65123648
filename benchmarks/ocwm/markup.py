"""Headings, lines and grids, rendered as Markdown, plain text or LaTeX (tables for the package booktabs).

Texts are written in Markdown's own marks, of which two are used: `code` and **bold**; the other formats translate them.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ocwm.errors import BenchError, suggest

FORMATS = ("md", "plain", "latex")
_WIDTH = 120
_BOLD = re.compile(r"\*\*(.+?)\*\*")
_CODE = re.compile(r"`(.+?)`")
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "±": r"$\pm$",
    "≤": r"$\leq$", "†": r"\dag{}", "‡": r"\ddag{}", "§": r"\S{}", "·": r"$\cdot$", "–": "--", "−": "$-$",
}  # fmt: skip


@dataclass(frozen=True)
class Heading:
    """A heading; level 1 is the page's."""

    level: int
    text: str


@dataclass(frozen=True)
class Lines:
    """Paragraphs, or the points of a list."""

    texts: tuple[str, ...]
    points: bool = True


@dataclass(frozen=True)
class Grid:
    """A table of texts: the first `words` columns are aligned left, the others right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: int = 1


Block = Heading | Lines | Grid


def render(blocks: Iterable[Block], form: str) -> str:
    """Return the blocks in one of FORMATS, with a newline at the end.

    Raises:
        BenchError: unknown format.
    """
    if form not in FORMATS:
        raise BenchError(f"no table format '{form}'", suggest(form, FORMATS))
    write = {"md": _markdown, "plain": _plain, "latex": _latex}[form]
    return "\n\n".join(write(block) for block in blocks) + "\n"


def grid(header: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> Grid:
    """Return a grid of any sequences."""
    return Grid(tuple(header), tuple(tuple(row) for row in rows), words)


def _markdown(block: Block) -> str:
    if isinstance(block, Heading):
        return f"{'#' * block.level} {block.text}"
    if isinstance(block, Lines):
        indent = "  " if block.points else ""
        wrapped = [
            textwrap.fill(
                text, _WIDTH, initial_indent="- " if block.points else "", subsequent_indent=indent,
                break_long_words=False, break_on_hyphens=False,
            )
            for text in block.texts
        ]  # fmt: skip
        return ("\n" if block.points else "\n\n").join(wrapped)
    return _tabulate(_mapped(block, lambda text: text.replace("|", r"\|")), "pipe")


def _plain(block: Block) -> str:
    if isinstance(block, Heading):
        text = _bare(block.text)
        return text + ("\n" + "=-"[block.level - 1] * len(text) if block.level <= 2 else "")
    if isinstance(block, Lines):
        return "\n".join(("- " if block.points else "") + _bare(text) for text in block.texts)
    # A whole cell in bold becomes a star behind it, so that the figures stay aligned.
    return _tabulate(_mapped(block, _starred), "simple")


def _latex(block: Block) -> str:
    if isinstance(block, Heading):
        return f"% {'=' * max(1, 4 - block.level)} {_bare(block.text)}"
    if isinstance(block, Lines):
        return "\n".join("% " + _bare(text) for text in block.texts)
    ruled = _tabulate(_mapped(block, _escaped), "latex_raw")
    for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
        ruled = ruled.replace(r"\hline", rule, 1)
    return ruled


def _starred(text: str) -> str:
    return _CODE.sub(r"\1", _BOLD.sub(r"\1 *", text)) if "*" in text or "`" in text else text


def _bare(text: str) -> str:
    return _CODE.sub(r"\1", _BOLD.sub(r"\1", text))


def _escaped(text: str) -> str:
    inner = "".join(_LATEX.get(letter, letter) for letter in _CODE.sub(r"\1", text))
    return _BOLD.sub(r"\\textbf{\1}", inner)


def _mapped(block: Grid, change: Callable[[str], str]) -> Grid:
    return grid([*map(change, block.header)], [list(map(change, row)) for row in block.rows], words=block.words)


def _tabulate(block: Grid, form: str) -> str:
    from tabulate import tabulate

    align = ["left" if place < block.words else "right" for place in range(len(block.header))]
    table = tabulate(block.rows, headers=block.header, tablefmt=form, disable_numparse=True, colalign=align)
    return "\n".join(line.rstrip() for line in table.splitlines())
