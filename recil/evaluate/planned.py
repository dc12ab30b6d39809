"""A plan: the interval and the verdict to expect by number of sessions and share of exploration, and what to do."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from recil.evaluate.estimates import WIDTH, Estimate, number
from recil.evaluate.verdict import Verdict

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# Effective sessions below which today's log says too little to plan by.
_FEW = 30.0
_MARK = {"trust": " ", "caution": "*"}
_COLUMNS, _FIRST, _CELL = 7, 14, 9


@dataclass(frozen=True)
class Cell:
    """What to expect of a log.

    sessions    in it
    explore     share of them that the target serves
    half_width  of the interval
    verdict, reasons  as `evaluate` would judge
    difference  the smallest difference to the logging policy that would be clear
    ess         effective sessions, or units
    """

    sessions: int
    explore: float
    half_width: float
    verdict: Verdict
    reasons: tuple[str, ...]
    difference: float
    ess: float


@dataclass(frozen=True)
class Way:
    """At one share of exploration the best verdict that any number of sessions brings, and the fewest that bring it.

    lasting  what keeps it from trust, however many there are
    """

    explore: float
    verdict: Verdict
    sessions: int | None
    lasting: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """How wide the interval would be, and what a verdict of trust would take.

    today     the estimate from the log as it is
    sessions  in that log; units: what intervals count, "800 users"
    cells     for every number of sessions and share of exploration asked for
    ways      for every such share, and for none, what trust takes
    least     the least share of exploration for trust with today's number of sessions; 0: none is needed; None: none is
              enough, because of `short`
    mass      share of the target that today's log cannot show
    """

    today: Estimate
    sessions: int
    units: str
    cells: tuple[Cell, ...]
    ways: tuple[Way, ...]
    least: float | None
    short: tuple[str, ...]
    mass: float
    confidence: float

    def cell(self, sessions: int, explore: float = 0.0) -> Cell:
        """Raises KeyError where it was not asked for."""
        for cell in self.cells:
            if (cell.sessions, cell.explore) == (sessions, explore):
                return cell
        raise KeyError(f"{sessions} sessions, {explore} of them explored: not in the plan")

    @property
    def answers(self) -> tuple[str, ...]:
        """In sentences: what trust takes."""
        return tuple(self._answers())

    def to_frame(self) -> pd.DataFrame:
        """One row per number of sessions and share of exploration."""
        import pandas as pd

        names = ("sessions", "explore", "half_width", "verdict", "difference", "ess")
        return pd.DataFrame(
            [
                {name: getattr(cell, name) for name in names} | {"reasons": "; ".join(cell.reasons)}
                for cell in self.cells
            ]
        )

    def plot(self) -> Figure:
        """Half widths by number of sessions, a line for each share of exploration; full circles are trusted."""
        from recil.evaluate.plots import plan_plot

        return plan_plot(self.cells, f"half width of the {self.confidence:.0%} interval")

    def __str__(self) -> str:
        shares = list(dict.fromkeys(cell.explore for cell in self.cells))
        lines = [f"half width of the {self.confidence:.0%} interval of {self.today.estimator}, by share of exploration"]
        lines += self._table(shares, "half_width")
        lines += ["* caution; refuse: it would be refused", ""]
        lines += ["smallest difference to the logging policy that would be clear"]
        lines += [*self._table(shares, "difference"), ""]
        for answer in self.answers:
            lines += textwrap.wrap(answer, WIDTH, subsequent_indent="  ")
        return "\n".join(lines)

    def _table(self, shares: list[float], of: str) -> Iterator[str]:
        sizes = list(dict.fromkeys(cell.sessions for cell in self.cells))
        for start in range(0, len(shares), _COLUMNS):
            some = shares[start : start + _COLUMNS]
            yield f"{'sessions':>{_FIRST}}" + "".join(f"{_share(share):>{_CELL - 1}} " for share in some).rstrip()
            for size in sizes:
                cells = "".join(_text(self.cell(size, share), of) for share in some)
                yield f"{size:>{_FIRST},}{cells}".rstrip()

    def _answers(self) -> Iterator[str]:
        few = self.today.ess
        if few < _FEW or not math.isfinite(self.today.raw.value):
            yield f"This plan rests on {few:,.1f} effective sessions: too little to go by."
        yield f"Today: {self.sessions:,} sessions{self._units}, {self._today}."
        yield from _ways([way for way in self.ways if not way.explore])
        if self.least is not None or self._most:
            yield f"With {self.sessions:,} sessions {self._least}."
        yield from _ways([way for way in self.ways if way.explore])
        if self.mass:
            unseen = f"What today's log cannot show ({self.mass:.1%} of the target)"
            yield f"{unseen} is taken to vary as the rest does, and one slate as much as rewards can."
        yield (
            "Exploration: the target serves that share of sessions, drawn by chance, and propensities are those of the"
            " mixture."
        )

    @property
    def _units(self) -> str:
        return "" if self.units.endswith(" sessions") else f" of {self.units}"

    @property
    def _today(self) -> str:
        reasons = f" ({'; '.join(self.today.reasons)})" if self.today.reasons else ""
        if self.today.refused:
            return f"refused{reasons}"
        half = 0.5 * (self.today.high - self.today.low)
        return f"{number(self.today.value)} ± {half:.3g}, {self.today.verdict}{reasons}"

    @property
    def _least(self) -> str:
        if self.least is None:
            return f"no exploration up to {_share(self._most)} brings trust: {'; '.join(self.short)}"
        return f"trust takes {_share(self.least)} exploration" if self.least else "trust takes no exploration"

    @property
    def _most(self) -> float:
        return max(way.explore for way in self.ways)


def _ways(ways: list[Way]) -> Iterator[str]:
    """A sentence for each answer; shares with the same one share it."""
    shares: dict[str, list[str]] = {}
    for way in ways:
        shares.setdefault(_takes(way), []).append(_share(way.explore))
    for takes, among in shares.items():
        alone = "With exploration of " + ", ".join(among) if ways[0].explore else "Without exploration"
        yield f"{alone}: {takes}."


def _takes(way: Way) -> str:
    why = "; ".join(way.lasting) or "within 10,000 times as many sessions there is none"
    if way.sessions is None:
        return f"more sessions do not help: {why}"
    fewest = f"{way.verdict} takes some {rounded_up(way.sessions):,} sessions"
    return fewest if way.verdict == "trust" else f"{fewest}; more do not bring trust: {why}"


def rounded_up(sessions: int) -> int:
    """To two digits."""
    unit = 10 ** max(0, len(str(sessions)) - 2)
    return -(-sessions // unit) * unit


def _share(share: float) -> str:
    return f"{100 * share:.3g}%"


def _text(cell: Cell, of: str) -> str:
    if cell.verdict == "refuse" or not math.isfinite(cell.half_width):
        return f"{'refuse':>{_CELL - 1}} "
    return f"{getattr(cell, of):>{_CELL - 1}.3g}{_MARK[cell.verdict]}"
