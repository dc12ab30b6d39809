"""What an experiment found: a row for each method, and the differences that its methods were run for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from recil.jobs import Failure
from recil.track.summary import Table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

WIDTH = 100
Interval = tuple[float, float, float]
MEASURES = {"true": "true value", "simulated": "simulated value", "ope": "value on the held-out log"}


@dataclass(frozen=True)
class Row:
    """A method's value, reward per session: (value, low, high) or None where it was not, or may not be, measured.

    true, simulated  mean over seeds with a Student t interval over them; where training draws on no seed, and with one
                     seed, the interval is over all simulated sessions
    ope              mean over seeds on the held-out log, with a bootstrap interval over its sessions
    estimator        which one; verdict, reasons: on the value on the log
    seeds            finished, of how many; 1 of 1 for methods without chance
    nll, next_nll    as a cloner: nats per held-out item shown, and the same without each session's first slate
    """

    method: str
    kind: str
    seeds: tuple[int, int]
    true: Interval | None
    simulated: Interval | None
    ope: Interval | None
    estimator: str
    verdict: str
    reasons: tuple[str, ...]
    nll: float | None = None
    next_nll: float | None = None


@dataclass(frozen=True)
class Gain:
    """The value of `first` less that of `second`, paired. measure: a key of MEASURES; clear: 0 is outside."""

    first: str
    second: str
    measure: str
    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Result:
    """What an experiment found.

    world      verdict on the fitted users and its reasons; None where nothing was fitted
    failures   label of a unit -> what stopped it; its method is reported on the seeds that are left
    link       where MLflow shows the runs
    """

    name: str
    rows: tuple[Row, ...]
    gains: tuple[Gain, ...]
    confidence: float
    world: tuple[str, tuple[str, ...]] | None = None
    failures: Mapping[str, Failure] = field(default_factory=dict)
    link: str = ""

    def table(self) -> Table:
        """The comparison, a column for every number."""
        heads = ["method", "kind", "seeds"]
        for measure in MEASURES:
            heads += [measure, f"{measure}_low", f"{measure}_high"]
        heads += ["estimator", "verdict", "reasons", "nll", "next_nll"]
        return Table(tuple(heads), tuple(_cells(row) for row in self.rows))

    def gains_table(self) -> Table:
        """The differences, one row for each pair and measure."""
        rows = tuple((g.first, g.second, g.measure, g.value, g.low, g.high, g.clear) for g in self.gains)
        return Table(("first", "second", "measure", "value", "low", "high", "clear"), rows)

    def to_frame(self) -> pd.DataFrame:
        """The comparison, one row for each method."""
        import pandas as pd

        table = self.table()
        return pd.DataFrame(table.rows, columns=list(table.columns))

    def plot(self) -> Figure:
        """Every method's value by every measure, with intervals."""
        from recil.experiment.figures import values_figure

        return values_figure(self)

    def __str__(self) -> str:
        return "\n".join([*self._lines(), *self._notes()])

    def _lines(self) -> list[str]:
        measures = [measure for measure in MEASURES if any(getattr(row, measure) is not None for row in self.rows)]
        name = max(len("method"), *(len(row.method) for row in self.rows))
        widths = {measure: 20 if measure != "ope" else 28 for measure in measures}
        heads = {"true": "true value", "simulated": "simulated value", "ope": "value on the log"}
        lines = [f"{'method':<{name}}  " + "".join(f"{heads[m]:<{widths[m]}}" for m in measures) + "verdict  seeds"]
        for row in self.rows:
            cells = [f"{_shown(getattr(row, measure), measure):<{widths[measure]}}" for measure in measures]
            seeds = str(row.seeds[0]) if row.seeds[0] == row.seeds[1] else f"{row.seeds[0]} of {row.seeds[1]}"
            lines.append(f"{row.method:<{name}}  " + "".join(cells) + f"{row.verdict:<9}{seeds}")
        names = sorted({row.estimator for row in self.rows if row.estimator})
        lines.append(f"reward per session, {self.confidence:.0%} intervals; on the log by {', '.join(names)}")
        return lines

    def _notes(self) -> list[str]:
        lines = []
        for gain in self.gains:
            interval = f"{gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
            pair = f"{gain.first} - {gain.second}"
            lines.append(f"  {pair:<24} {MEASURES[gain.measure]:<26} {interval}{'' if gain.clear else '  (tie)'}")
        cloners = [row for row in self.rows if row.nll is not None]
        if cloners:
            lines.append("as cloners, nats per held-out item: " + ", ".join(f"{r.method} {r.nll:.4f}" for r in cloners))
        nexts = [row for row in self.rows if row.next_nll is not None]
        if nexts:
            lines.append("after the first slate: " + ", ".join(f"{row.method} {row.next_nll:.4f}" for row in nexts))
        for row in self.rows:
            lines += [f"{row.method}: {row.verdict}: {reason}" for reason in row.reasons]
        if self.world is not None:
            verdict, reasons = self.world
            lines += [f"simulated users: {verdict}{f': {reason}' if reason else ''}" for reason in reasons or ("",)]
        lines += [f"{label}: failed: {failure.message}" for label, failure in self.failures.items()]
        return [line if len(line) <= WIDTH else f"{line[: WIDTH - 3]}..." for line in lines]


def _shown(interval: Interval | None, measure: str) -> str:
    if interval is None:
        return "-"
    value, low, high = interval
    if measure == "ope":
        return f"{value:.4f} [{low:.4f}, {high:.4f}]"
    return f"{value:.4f}" if math.isnan(low) else f"{value:.4f} ± {(high - low) / 2:.4f}"


def _cells(row: Row) -> tuple[object, ...]:
    intervals: list[float | None] = []
    for measure in MEASURES:
        found: Sequence[float | None] = getattr(row, measure) or (None, None, None)
        intervals += [None if part is None or math.isnan(part) else part for part in found]
    tail = (row.estimator, row.verdict, "; ".join(row.reasons), row.nll, row.next_nll)
    return (row.method, row.kind, row.seeds[0], *intervals, *tail)
