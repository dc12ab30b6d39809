"""What a claim consists of: parts to measure, points that would show it wrong, and how they are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from recil.errors import InputError
from recil.track.names import check_metric_name

if TYPE_CHECKING:
    from recil.claims.found import Found

Standing = Literal["holds", "does not hold", "undecided", "not run"]


@dataclass(frozen=True)
class Measured:
    """What one arm came to with one seed.

    values   measure -> number, reported for every seed
    curves   measure -> (step, number) pairs, steps rising
    factors  what distinguishes the arm from others: parameters of its MLflow run
    """

    values: Mapping[str, float] = field(default_factory=dict)
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    factors: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*self.values, *self.curves):
            check_metric_name(name)
        both = set(self.values) & set(self.curves)
        if both:
            raise InputError("measured", f"{sorted(both)[0]!r} is a value and a curve", "give it two names")


@dataclass(frozen=True)
class Point:
    """One thing that the claim says, and whether it did. shown: the figures that it rests on, in words."""

    says: str
    standing: Standing
    shown: str

    @staticmethod
    def of(says: str, holds: bool | None, shown: str) -> Point:
        """holds None: the intervals do not tell."""
        return Point(says, "undecided" if holds is None else "holds" if holds else "does not hold", shown)


@dataclass(frozen=True)
class Column:
    """A column of the page's table: a measure, what it is called there, and digits after the point."""

    measure: str
    words: str
    digits: int = 3


@dataclass(frozen=True)
class Chart:
    """A picture of the page: a panel for each of `panels`.

    caption  what is to be seen, and how to read it
    panels   title -> what is drawn
    """

    caption: str
    panels: Mapping[str, Panel]


@dataclass(frozen=True)
class Panel:
    """Curves over steps, or one point for each arm where `curve` is a value.

    measure  the name of a curve; or of a value, drawn over the factor `over`
    arms     which are drawn, in this order; None: all that have the measure
    over     the factor on the horizontal axis (values only); None: a row for each arm
    by       the factor that tells lines apart (with `over`); None: one line
    truths   label -> a horizontal line, or points (x, y) to be met
    log      axes drawn on a logarithmic scale: "", "x", "y" or "xy"
    """

    measure: str
    across: str
    up: str
    arms: tuple[str, ...] | None = None
    over: str | None = None
    by: str | None = None
    truths: Mapping[str, float | Sequence[tuple[float, float]]] = field(default_factory=dict)
    log: str = ""


@dataclass(frozen=True)
class Claim:
    """A claim that can be run.

    name       of its folder, file and MLflow experiment
    title      as a heading; says: the claim in a sentence or two
    set_up     what is done, in a paragraph; not_shown: what must not be concluded
    settings   a frozen dataclass with defaults, whose fields are the keys of [settings]
    parts      settings -> names of what is run apart from each other; with every seed, but for those in `exact`
    measure    (settings, part, seed) -> arm -> what it came to. A function of its arguments alone
    points     (settings, found) -> what the claim says, point by point
    columns    of the table; charts: of the page
    exact      parts without chance, run with the first seed alone
    dear       part -> how many of the seeds it is run with, where that is not all
    """

    name: str
    title: str
    says: str
    set_up: str
    not_shown: tuple[str, ...]
    settings: type
    parts: Callable[[Any], tuple[str, ...]]
    measure: Callable[[Any, str, int], Mapping[str, Measured]]
    points: Callable[[Any, Found], tuple[Point, ...]]
    columns: tuple[Column, ...]
    charts: Callable[[Any, Found], tuple[Chart, ...]]
    exact: Callable[[Any], tuple[str, ...]] = lambda settings: ()
    dear: Callable[[Any], Mapping[str, int]] = lambda settings: {}

    def units(self, settings: Any, seeds: tuple[int, ...]) -> tuple[tuple[str, int], ...]:
        """(part, seed) of everything that is to be run."""
        few = dict(self.dear(settings)) | dict.fromkeys(self.exact(settings), 1)
        return tuple((part, seed) for part in self.parts(settings) for seed in seeds[: few.get(part, len(seeds))])


def standing_of(points: Sequence[Point]) -> Standing:
    """That of the whole claim: the worst of what was run."""
    found = {point.standing for point in points}
    for standing in ("does not hold", "undecided", "holds"):
        if standing in found:
            return standing  # type: ignore[return-value]
    return "not run"
