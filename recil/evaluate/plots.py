"""Figures of intervals. matplotlib objects without pyplot: nothing global, no window, no leak."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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
