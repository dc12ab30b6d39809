"""Figures of intervals. matplotlib objects without pyplot: nothing global, no window, no leak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from recil.evaluate.planned import Cell

_COLOURS = {"trust": "#2a6f4e", "caution": "#b7791f", "refuse": "#a0a0a0"}


def interval_plot(
    rows: Sequence[tuple[str, tuple[float, float, float] | None, str]], label: str, reference: float | None = None
) -> Figure:
    """One horizontal interval per row (name, (value, low, high) or None when refused, verdict), the first on top."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 1.0 + 0.4 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, (_, interval, verdict) in enumerate(rows):
        if interval is None:
            axes.text(0.5, place, "refused", transform=axes.get_yaxis_transform(), va="center", ha="center")
            continue
        value, low, high = interval
        axes.plot([low, high], [place, place], color=_COLOURS[verdict], linewidth=2, solid_capstyle="butt")
        axes.plot([value], [place], "o", color=_COLOURS[verdict])
    if reference is not None:
        axes.axvline(reference, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(label)
    return figure


def plan_plot(cells: Sequence[Cell], label: str) -> Figure:
    """By number of sessions, a line for each share of exploration: full circles are trusted, crosses refused."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for share in dict.fromkeys(cell.explore for cell in cells):
        some = sorted((cell for cell in cells if cell.explore == share), key=lambda cell: cell.sessions)
        sizes, widths = [cell.sessions for cell in some], [cell.half_width for cell in some]
        (line,) = axes.plot(sizes, widths, linewidth=1, label=f"{100 * share:.3g}%")
        for cell in some:
            mark, full = ("x", True) if cell.verdict == "refuse" else ("o", cell.verdict == "trust")
            fill = line.get_color() if full else "white"
            axes.plot([cell.sessions], [cell.half_width], mark, color=line.get_color(), markerfacecolor=fill)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("sessions")
    axes.set_ylabel(label)
    axes.legend(title="exploration")
    return figure
