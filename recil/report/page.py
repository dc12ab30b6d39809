"""What a report is made of, whatever it is written in: sections of paragraphs, lists, tables, pictures and commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from recil.errors import InputError

VERDICT_COLOURS = {"trust": "#2a6f4e", "caution": "#9a6412", "refuse": "#b03030"}


@dataclass(frozen=True)
class Text:
    """A paragraph. quiet: a remark in smaller letters."""

    words: str
    quiet: bool = False


@dataclass(frozen=True)
class Points:
    """A list. heading: what is said of it in a line above, if anything."""

    items: tuple[str, ...]
    heading: str = ""


@dataclass(frozen=True)
class Grid:
    """A table. words: how many columns from the left are text; the others are numbers, or text as `right` says.

    A cell that is a verdict is shown in its colour.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.head):
                raise InputError(f"report table row {number}", f"{len(row)} cells under {len(self.head)} heads")


@dataclass(frozen=True)
class Picture:
    """png: the image's bytes; caption: what is to be seen, and how to read it; width: in percent of the page's."""

    png: bytes
    caption: str
    width: int = 100


@dataclass(frozen=True)
class Code:
    """Commands or a file, as they are. summary: folded away under these words where the format can."""

    content: str
    language: str = ""
    summary: str = ""


Block = Text | Points | Grid | Picture | Code


@dataclass(frozen=True)
class Section:
    heading: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """lead: the paragraph under the title."""

    title: str
    lead: str
    sections: tuple[Section, ...]


def section(heading: str, *blocks: Block | Sequence[Block] | None) -> Section:
    """A section of these blocks; lists of blocks are laid out, and None stands for nothing."""
    flat: list[Block] = []
    for block in blocks:
        if isinstance(block, (Text, Points, Grid, Picture, Code)):
            flat.append(block)
        elif block is not None:
            flat += block
    return Section(heading, tuple(flat))
