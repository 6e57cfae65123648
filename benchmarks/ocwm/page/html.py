"""Blocks of text as HTML, with nothing in them taken for markup that is not ours."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterable

from ocwm.evidence import Evidence, Picture
from ocwm.markup import Block, Grid, Heading, Lines

_BOLD = re.compile(r"\*\*(.+?)\*\*")
_ITALIC = re.compile(r"(?<![*\w])\*(?!\s)([^*]+?)(?<!\s)\*(?![*\w])")
_CODE = re.compile(r"`(.+?)`")
_LINK = re.compile(r"\[([^\]]+)\]\([^)\s]+\)")  # to files beside the leaderboard, which a page by itself has not
_SHORT = 26  # letters of a cell that is kept on one line
_KINDS = {b"\xff\xd8": "jpeg", b"\x89P": "png"}


def text(markdown: str) -> str:
    """Return a text with Markdown's `code`, **bold** and *italic* as HTML; of links the words stay."""
    codes: list[str] = []

    def keep(found: re.Match[str]) -> str:
        codes.append(f"<code>{found[1]}</code>")
        return "\0"

    plain = _CODE.sub(keep, html.escape(_LINK.sub(r"\1", markdown)))  # marks within code are none
    marked = _ITALIC.sub(r"<em>\1</em>", _BOLD.sub(r"<strong>\1</strong>", plain))
    return re.sub("\0", lambda _: codes.pop(0), marked)


def blocks(found: Iterable[Block], *, name: str) -> str:
    """Return blocks as HTML; `name` says what their tables are about where no heading does."""
    parts = []
    for block in found:
        if isinstance(block, Heading):
            name = block.text
            parts.append(f"<h{block.level}>{text(block.text)}</h{block.level}>")
        elif isinstance(block, Lines):
            parts.append(_lines(block))
        else:
            parts.append(grid(block, name=name))
    return "\n".join(parts)


def grid(block: Grid, *, name: str) -> str:
    """Return a table that can be sorted; it scrolls where the window is narrow."""
    head = "".join(_header(cell, number=place >= block.words) for place, cell in enumerate(block.header))
    body = "".join(
        "<tr>" + "".join(_cell(cell, number=place >= block.words) for place, cell in enumerate(row)) + "</tr>\n"
        for row in block.rows
    )
    return scrolled(f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>", name=name)


def scrolled(table: str, *, name: str) -> str:
    """Put a table into a frame that can be scrolled, also by keys."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(name)}">{table}</div>'


def picture(found: Picture) -> str:
    """Return a picture that is part of the page."""
    if isinstance(found.content, str):
        drawn = found.content.replace("<svg ", f'<svg role="img" aria-label="{html.escape(found.words)}" ', 1)
    else:
        kind = _KINDS[found.content[:2]]
        data = base64.b64encode(found.content).decode("ascii")
        drawn = f'<img alt="{html.escape(found.words)}" src="data:image/{kind};base64,{data}">'
    caption = f"<figcaption>{text(found.caption)}</figcaption>" if found.caption else ""
    return f"<figure>{drawn}{caption}</figure>"


def evidence(found: Evidence) -> str:
    """Return one item with its strips and table."""
    strips = "".join(
        f'<div class="strip"><span class="label">{text(strip.label)}</span>'
        f'<div class="pictures" tabindex="0" role="region" aria-label="{html.escape(strip.label)}">'
        f"{''.join(map(picture, strip.pictures))}</div></div>"
        for strip in found.strips
    )
    said = "".join(f"<p>{text(line)}</p>" for line in found.texts)
    table = "" if found.table is None else grid(found.table, name=found.title)
    return f'<article class="evidence"><h4>{text(found.title)}</h4>{said}{strips}{table}</article>'


def _lines(block: Lines) -> str:
    if block.points:
        return "<ul>" + "".join(f"<li>{text(line)}</li>" for line in block.texts) + "</ul>"
    return "".join(f"<p>{text(line)}</p>" for line in block.texts)


def _header(cell: str, *, number: bool) -> str:
    kind = ' class="number"' if number else ""
    return f'<th scope="col"{kind} aria-sort="none"><button type="button">{text(cell)}</button></th>'


def _cell(cell: str, *, number: bool) -> str:
    kind = ' class="number long"' if number and len(cell) > _SHORT else ' class="number"' if number else ""
    return f"<td{kind}>{text(cell)}</td>"
