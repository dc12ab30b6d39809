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

Interval = tuple[float, float, float]
MEASURES = {"true": "true value", "simulated": "simulated value", "ope": "value on the held-out log"}


@dataclass(frozen=True)
class Row:
    """A method's value, reward per session: (value, low, high) or None where it was not, or may not be, measured.

    true, simulated  mean over seeds with a Student t interval over them; where training draws on no seed, and with one
                     seed, the interval is over all simulated sessions. Where users were fitted to bootstraps of the
                     log, what differs between them is in the interval of `simulated`
    ope              mean over seeds on the held-out log, with a bootstrap interval over its sessions
    estimator        which one; verdict, reasons: on the value on the log
    seeds            finished, of how many; 1 of 1 for methods without chance
    own_world        learned in the world that gives `simulated`, which then flatters it
    warrant          verdict on the users behind `simulated`; None where nothing was simulated
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
    own_world: bool = False
    warrant: str | None = None


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
    link       where MLflow shows the runs; report: the file of the report, if one was asked for
    on_logs    name -> rows on another log, where the experiment names any
    """

    name: str
    rows: tuple[Row, ...]
    gains: tuple[Gain, ...]
    confidence: float
    world: tuple[str, tuple[str, ...]] | None = None
    failures: Mapping[str, Failure] = field(default_factory=dict)
    link: str = ""
    on_logs: Mapping[str, tuple[Row, ...]] = field(default_factory=dict)
    report: str = ""

    def log_table(self, log: str) -> Table:
        """The comparison on another log."""
        heads = ("method", "value", "low", "high", "estimator", "verdict", "reasons")
        rows = tuple(
            (row.method, *(row.ope or (None, None, None)), row.estimator, row.verdict, "; ".join(row.reasons))
            for row in self.on_logs[log]
        )
        return Table(heads, rows)

    def table(self) -> Table:
        """The comparison, a column for every number."""
        heads = ["method", "kind", "seeds"]
        for measure in MEASURES:
            heads += [measure, f"{measure}_low", f"{measure}_high"]
        heads += ["simulated_verdict", "estimator", "verdict", "reasons", "nll", "next_nll"]
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
        from recil.experiment.words import words_of

        return "\n".join(words_of(self))


def _cells(row: Row) -> tuple[object, ...]:
    intervals: list[float | None] = []
    for measure in MEASURES:
        found: Sequence[float | None] = getattr(row, measure) or (None, None, None)
        intervals += [None if part is None or math.isnan(part) else part for part in found]
    tail = (row.warrant, row.estimator, row.verdict, "; ".join(row.reasons), row.nll, row.next_nll)
    return (row.method, row.kind, row.seeds[0], *intervals, *tail)
