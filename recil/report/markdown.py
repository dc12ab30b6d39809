"""A report in Markdown: one file with its pictures inside, or beside it; text from data is shown as it is."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence

from recil.report.page import Block, Code, Grid, Page, Picture, Points, Text

# All at once: to replace them one after another would replace the signs of replacements.
_SIGNS = {ord(sign): f"&#{ord(sign)};" for sign in "&\\`*_{}[]<>|#~$"}


def markdown_page(page: Page, pictures: Sequence[str] | None = None) -> str:
    """The whole file. pictures: the addresses of the page's pictures, in their order, where they lie beside it."""
    addresses = iter(pictures or ())
    lines = [f"# {marked(page.title)}", "", marked(page.lead)]
    for part in page.sections:
        lines += ["", f"## {marked(part.heading)}"]
        for block in part.blocks:
            address = next(addresses) if pictures is not None and isinstance(block, Picture) else ""
            lines += ["", *_lines(block, address)]
    return "\n".join(lines) + "\n"


def marked(text: str) -> str:
    """Text as Markdown that shows it as it is, in one line."""
    text = text.translate(_SIGNS)
    # What would begin a list, a heading or a quotation at the beginning of a line.
    text = re.sub(r"^(\s*)([-+]|\d+[.)])(\s)", lambda found: f"{found[1]}&#8203;{found[2]}{found[3]}", text)
    return " ".join(text.split("\n"))


def _lines(block: Block, address: str = "") -> Iterator[str]:
    """address: of a picture; empty: its bytes are put in."""
    match block:
        case Text(words):
            yield marked(words)
        case Points(items, heading):
            if heading:
                yield f"**{marked(heading)}**"
                yield ""
            yield from (f"- {marked(item)}" for item in items)
        case Grid(head, rows, words):
            yield _row(map_marked(head))
            yield _row([":---" if place in words else "---:" for place in range(len(head))])
            yield from (_row(map_marked(row)) for row in rows)
        case Picture(png, caption):
            source = address or f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"
            # The picture's own description is short: what follows says it in full.
            yield f"![{marked(caption.split('.')[0])}]({source})"
            yield ""
            yield f"*{marked(caption)}*"
        case Code(content, language, summary):
            if summary:
                yield f"{marked(summary)}:"
                yield ""
            fence = "`" * max(3, 1 + max(map(len, re.findall("`+", content)), default=0))
            yield f"{fence}{language}"
            yield from content.rstrip("\n").split("\n")
            yield fence


def map_marked(cells: Sequence[str]) -> list[str]:
    return [marked(cell) for cell in cells]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
