"""Figures of a result. matplotlib objects without pyplot: nothing global, no window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recil.experiment.result import MEASURES, Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = {"true": "#2a6f4e", "simulated": "#2b6cb0", "ope": "#b7791f"}


def values_figure(result: Result) -> Figure:
    """A row for each method, the first on top; in it an interval for each measure there is."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 1.2 + 0.5 * len(result.rows)), layout="constrained")
    axes = figure.subplots()
    measures = [measure for measure in MEASURES if any(getattr(row, measure) is not None for row in result.rows)]
    for number, measure in enumerate(measures):
        offset = 0.22 * (number - (len(measures) - 1) / 2)
        points = [
            (place + offset, interval)
            for place, row in enumerate(result.rows)
            if (interval := getattr(row, measure)) is not None
        ]
        for place, (_, low, high) in points:
            axes.plot([low, high], [place, place], color=_COLOURS[measure], linewidth=2, solid_capstyle="butt")
        values = [interval[0] for _, interval in points]
        axes.plot(values, [place for place, _ in points], "o", color=_COLOURS[measure], label=MEASURES[measure])
    axes.set_yticks(range(len(result.rows)), [row.method for row in result.rows])
    axes.set_ylim(len(result.rows) - 0.5, -0.5)
    axes.set_xlabel(f"reward per session, {result.confidence:.0%} intervals")
    if measures:
        figure.legend(loc="outside lower center", ncols=len(measures), frameon=False)
    return figure


def gains_figure(result: Result) -> Figure:
    """A row for each paired difference; what crosses the line at 0 is a tie."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 1.2 + 0.35 * max(1, len(result.gains))), layout="constrained")
    axes = figure.subplots()
    for place, gain in enumerate(result.gains):
        colour = _COLOURS[gain.measure] if gain.clear else "#a0a0a0"
        axes.plot([gain.low, gain.high], [place, place], color=colour, linewidth=2, solid_capstyle="butt")
        axes.plot([gain.value], [place], "o", color=colour)
    labels = [f"{gain.first} - {gain.second}, {MEASURES[gain.measure]}" for gain in result.gains]
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(max(1, len(labels)) - 0.5, -0.5)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_xlabel(f"difference in reward per session, paired, {result.confidence:.0%} intervals")
    return figure
