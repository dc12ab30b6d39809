"""The pictures of a claim's page: curves with seed bands, values over a factor, or a row for each arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recil.claims.claim import Chart, Panel
from recil.claims.found import Found, Mean, mean_of
from recil.report.drawing import GREY, band, legend_below, name, panels, png, stroke
from recil.report.page import Picture

_HEIGHT = 3.1
_COLOURS = 96  # the pages are kept with the code, and lines need few


def draw(chart: Chart, found: Found) -> Picture:
    """The chart as an image."""
    shown = {title: panel for title, panel in chart.panels.items() if _arms(panel, found)}
    across = min(len(shown), 2 if len(shown) in (2, 4) else 3)
    down = -(-len(shown) // across)
    figure, axes = panels(down, across, _height(shown, found))
    lines = _strokes(shown, found)
    for place, (title, panel) in zip(axes.ravel(), shown.items(), strict=False):
        name(place, title, panel.across, panel.up)
        _panel(place, panel, found, lines)
    for place in axes.ravel()[len(shown) :]:
        place.set_visible(False)
    legend_below(figure, axes.ravel()[: len(shown)])
    return Picture(png(figure, _COLOURS), chart.caption)


def drawable(chart: Chart, found: Found) -> bool:
    return any(_arms(panel, found) for panel in chart.panels.values())


def _height(shown: Mapping[str, Panel], found: Found) -> float:
    rows = [len(_arms(panel, found)) for panel in shown.values() if _is_rows(panel, found)]
    return max(_HEIGHT, 0.9 + 0.28 * max(rows, default=0))


def _has(found: Found, arm: str, measure: str) -> bool:
    return any(measure in run.values or measure in run.curves for run in found.of(arm))


def _is_curve(panel: Panel, found: Found) -> bool:
    return any(panel.measure in run.curves for run in found.runs)


def _is_rows(panel: Panel, found: Found) -> bool:
    return panel.over is None and not _is_curve(panel, found)


def _arms(panel: Panel, found: Found) -> tuple[str, ...]:
    wanted = found.arms if panel.arms is None else tuple(arm for arm in panel.arms if found.has(arm))
    return tuple(arm for arm in wanted if _has(found, arm, panel.measure))


def _strokes(shown: Mapping[str, Panel], found: Found) -> dict[str, dict[str, Any]]:
    """Label of a line -> how it is drawn, in all panels of a picture alike."""
    labels: dict[str, None] = {}
    for panel in shown.values():
        for arm in _arms(panel, found):
            labels.setdefault(_line_of(panel, found, arm))
    return {label: stroke(place) for place, label in enumerate(labels)}


def _line_of(panel: Panel, found: Found, arm: str) -> str:
    if panel.over is None:
        return arm
    return panel.up if panel.by is None else str(found.factor(arm, panel.by))


def _panel(axes: Any, panel: Panel, found: Found, lines: Mapping[str, Mapping[str, Any]]) -> None:
    if _is_curve(panel, found):
        _curves(axes, panel, found, lines)
    elif panel.over is None:
        _rows(axes, panel, found)
    else:
        _over(axes, panel, found, lines)
    for label, truth in panel.truths.items():
        if isinstance(truth, (int, float)):
            draw_line = axes.axvline if _is_rows(panel, found) else axes.axhline
            draw_line(truth, color=GREY, linewidth=1, linestyle=(0, (5, 3)), label=label)
        else:
            points = np.array(truth, dtype=float)
            axes.plot(points[:, 0], points[:, 1], "x", color="#222222", markersize=6, label=label)
    for side, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
        if side in panel.log:
            _logarithmic(axes, side, axis)


def _logarithmic(axes: Any, side: str, axis: Any) -> None:
    """Few ticks, with plain numbers: matplotlib's own lie over each other where an axis spans less than two decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    getattr(axes, f"set_{side}scale")("log")
    low, high = getattr(axes, f"get_{side}lim")()
    decades = np.log10(high / low)
    axis.set_major_locator(LogLocator(subs=(1.0,) if decades > 2 else (1.0, 3.0) if decades > 1 else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _curves(axes: Any, panel: Panel, found: Found, lines: Mapping[str, Mapping[str, Any]]) -> None:
    arms = _arms(panel, found)
    for arm in arms:
        steps, values = found.curve(arm, panel.measure)
        means = [mean_of(values[:, place], found.confidence) for place in range(len(steps))]
        _line(axes, steps.tolist(), means, arm, lines[arm], len(arms))


def _over(axes: Any, panel: Panel, found: Found, lines: Mapping[str, Mapping[str, Any]]) -> None:
    """A line for each value of the factor `by`, over the factor `over`."""
    assert panel.over is not None
    points: dict[str, list[tuple[float, Mean]]] = {}
    for arm in _arms(panel, found):
        place = found.factor(arm, panel.over)
        if place is not None:
            line = points.setdefault(_line_of(panel, found, arm), [])
            line.append((float(place), found.mean(arm, panel.measure)))
    for label, line in points.items():
        line.sort(key=lambda point: point[0])
        _line(axes, [x for x, _ in line], [mean for _, mean in line], label, lines[label], len(points), "o")


def _line(
    axes: Any, x: Sequence[float], means: Sequence[Mean], label: str, how: Mapping[str, Any], among: int, mark: str = ""
) -> None:
    axes.plot(x, [mean.value for mean in means], label=label, linewidth=1.6, marker=mark, markersize=3.5, **how)
    if not any(np.isnan(mean.low) for mean in means):
        band(axes, x, [mean.low for mean in means], [mean.high for mean in means], how["color"], among)


def _rows(axes: Any, panel: Panel, found: Found) -> None:
    """A row for each arm, the first on top."""
    arms = _arms(panel, found)
    for place, arm in enumerate(arms):
        mean = found.mean(arm, panel.measure)
        if not np.isnan(mean.low):
            axes.plot([mean.low, mean.high], [place, place], color="#0072b2", linewidth=2, solid_capstyle="butt")
        axes.plot([mean.value], [place], "o", color="#0072b2", markersize=5)
    axes.set_yticks(range(len(arms)), arms)
    axes.set_ylim(len(arms) - 0.5, -0.5)
