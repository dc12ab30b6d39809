"""A result as people read it: 80 columns, the values first, then differences, reasons and what was not measured."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from recil.experiment.result import MEASURES, Gain, Interval, Result, Row

WIDTH = 80
_HEADS = {"true": "true value", "simulated": "simulated"}
_WIDTHS = {"true": 16, "simulated": 16, "ope": 25}


def words_of(result: Result) -> Iterator[str]:
    """The lines of a result, each at most 80 characters."""
    yield from _table(result.rows)
    estimators = sorted({row.estimator for row in result.rows if row.estimator})
    seeds = max((row.seeds[1] for row in result.rows), default=1)
    over = f"; what is trained: {seeds} seeds" if seeds > 1 else ""
    share = f"{result.confidence:.0%}"
    yield from _wrapped(f"reward per session, {share} intervals{over}; on the log by {', '.join(estimators)}")
    if any(row.own_world and row.simulated for row in result.rows):
        yield "* learned in these simulated users, which flatters it"
    yield from _gains(result.gains)
    for name, rows in result.on_logs.items():
        yield f"on the log {name}, whole:"
        yield from _table(rows, "value on that log")
        yield from _reasons(rows)
    yield from _cloners(result.rows)
    yield from _reasons(result.rows)
    if result.world is not None:
        verdict, reasons = result.world
        yield from _wrapped(f"simulated users: {verdict}" + (f": {'; '.join(reasons)}" if reasons else ""))
    for row in result.rows:
        if row.seeds[0] < row.seeds[1]:
            yield f"{row.method}: {row.seeds[0]} of {row.seeds[1]} seeds"
    for label, failure in result.failures.items():
        yield from _wrapped(f"{label}: failed: {failure.message}")


def _table(rows: Sequence[Row], on_log: str = "on the held-out log") -> Iterator[str]:
    measures = [measure for measure in MEASURES if any(_cell(row, measure) != "-" for row in rows)]
    measures = measures or ["ope"]
    name = max(len("method"), *(len(row.method) for row in rows)) + 1
    heads = _HEADS | {"ope": on_log}
    yield f"{'method':<{name}}" + "".join(f"{heads[measure]:<{_WIDTHS[measure]}}" for measure in measures) + "verdict"
    for row in rows:
        cells = (f"{_cell(row, measure):<{_WIDTHS[measure]}}" for measure in measures)
        yield f"{row.method:<{name}}" + "".join(cells) + row.verdict


def _gains(gains: Sequence[Gain]) -> Iterator[str]:
    """By the truest measure there is; the others are in the tables."""
    measure = next((name for name in MEASURES if any(gain.measure == name for gain in gains)), None)
    if measure is None:
        return
    yield f"paired differences, {MEASURES[measure]}:"
    for gain in gains:
        if gain.measure == measure:
            pair = f"{gain.first} - {gain.second}"
            verdict = "" if gain.clear else "  tie"
            yield f"  {pair:<32} {gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]{verdict}"


def _cloners(rows: Sequence[Row]) -> Iterator[str]:
    """Likelihood of what was shown, for the methods that are held against the logged recommender."""
    both = [("per item shown", "nll"), ("after the first slate", "next_nll")]
    for what, name in both:
        found = [(row.method, getattr(row, name)) for row in rows if getattr(row, name) is not None]
        if found:
            yield from _wrapped(f"as cloners, nats {what}: " + ", ".join(f"{who} {value:.4f}" for who, value in found))


def _reasons(rows: Iterable[Row]) -> Iterator[str]:
    for row in rows:
        if row.reasons:
            yield from _wrapped(f"{row.method}: {row.verdict}: {'; '.join(row.reasons)}")


def _wrapped(line: str) -> list[str]:
    return textwrap.wrap(line, WIDTH, subsequent_indent="  ")


def _cell(row: Row, measure: str) -> str:
    if measure == "simulated" and row.warrant == "refuse":
        return "refuse"
    text = _shown(getattr(row, measure), measure)
    return f"{text}*" if measure == "simulated" and row.own_world and text != "-" else text


def _shown(interval: Interval | None, measure: str) -> str:
    if interval is None:
        return "-"
    value, low, high = interval
    if measure == "ope":
        return f"{value:.4f} [{low:.4f}, {high:.4f}]"
    return f"{value:.4f}" if math.isnan(low) else f"{value:.4f} ±{(high - low) / 2:.4f}"
