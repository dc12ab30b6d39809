"""Figures of the card. matplotlib objects without pyplot: nothing global, no window, no leak."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from recil.sim.card.click_tables import POSITION, PREDICTED, STEP
from recil.sim.card.groups import GroupTable
from recil.sim.card.text import short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from recil.sim.card.result import SimulatorCard

SEEN, EXPECTED = "#222222", "#2b6cb0"
COLOURS = {"trust": "#2a6f4e", "caution": "#b7791f", "refuse": "#b03030"}
# With more groups than this, labels would overlap.
LABELS = 12


def overview(card: SimulatorCard) -> Figure:
    """Gains, reliability, survival, rates by position and by step, simulated against logged."""
    from matplotlib.figure import Figure

    panels = [panel for panel in PANELS if panel[1](card)]
    across = min(3, len(panels))
    down = -(-len(panels) // across)
    figure = Figure(figsize=(3.6 * across + 0.6, 2.9 * down + 0.4), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes, (draw, _) in zip(grid, panels, strict=False):
        draw(axes, card)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        axes.title.set_fontsize(9)
        axes.xaxis.label.set_fontsize(8)
        axes.yaxis.label.set_fontsize(8)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    title = f"Simulated users on held-out sessions: {card.verdict}"
    figure.suptitle(title, color=COLOURS[card.verdict], fontsize=11)
    return figure


def _table(card: SimulatorCard, name: str) -> GroupTable | None:
    return next((table for table in card.tables if table.name == name), None)


def _gains(axes: Any, card: SimulatorCard) -> None:
    others = card.rows[1:]
    axes.axvline(0, color="black", linewidth=0.8)
    for place, row in enumerate(others):
        colour = "#888888" if row.model == "reference" else EXPECTED
        axes.errorbar(row.versus, place, xerr=1.96 * row.error, fmt="o", color=colour, markersize=4)
    axes.set_yticks(range(len(others)), [short(row.model, 16) for row in others])
    axes.set_ylim(max(len(others), 1) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel("nats per item shown (95% interval)")
    axes.set_title("log loss gained over")


def _reliability(axes: Any, card: SimulatorCard) -> None:
    table = _table(card, PREDICTED)
    assert table is not None
    predicted = [group.predicted for group in table.groups]
    observed = [group.observed for group in table.groups]
    top = 1.05 * max(predicted + observed)
    axes.plot([0, top], [0, top], color="#aaaaaa", linewidth=0.8)
    axes.errorbar(
        predicted, observed, yerr=[1.96 * group.error for group in table.groups], fmt="o", color=SEEN, markersize=4
    )
    axes.set_xlim(0, top)
    axes.set_ylim(0, None)
    axes.locator_params(nbins=5)
    axes.set_xlabel("predicted click rate")
    axes.set_ylabel("observed")
    axes.set_title(f"reliability (error {table.calibration_error:.4f})")


def _survival(axes: Any, card: SimulatorCard) -> None:
    assert card.leaving is not None
    rows = card.leaving.survival
    steps = [row.step + 1 for row in rows]
    axes.plot([0, *steps], [1, *(row.predicted for row in rows)], color=EXPECTED, label="predicted")
    axes.errorbar(
        steps,
        [row.observed for row in rows],
        yerr=[1.96 * row.error for row in rows],
        fmt="o",
        color=SEEN,
        markersize=3.5,
        label="observed",
    )
    axes.set_ylim(0, 1.05)
    axes.set_xlim(0, None)
    axes.locator_params(axis="x", integer=True, nbins=7)
    axes.set_xlabel("steps")
    axes.set_title("share of sessions going on")
    axes.legend(frameon=False, fontsize=8)


def _rates(name: str) -> Callable[[Any, SimulatorCard], None]:
    def draw(axes: Any, card: SimulatorCard) -> None:
        table = _table(card, name)
        assert table is not None
        places = list(range(len(table.groups)))
        axes.plot(places, [group.predicted for group in table.groups], color=EXPECTED, label="predicted")
        axes.errorbar(
            places,
            [group.observed for group in table.groups],
            yerr=[1.96 * group.error for group in table.groups],
            fmt="o",
            color=SEEN,
            markersize=3.5,
            label="observed",
        )
        every = -(-len(places) // LABELS)
        axes.set_xticks(places[::every], [group.label for group in table.groups][::every])
        axes.set_xlim(-0.5, len(places) - 0.5)
        highest = max(max(group.predicted, group.observed + 1.96 * group.error) for group in table.groups)
        axes.set_ylim(0, 1.3 * highest)
        axes.set_xlabel(name)
        axes.set_title(f"click rate by {name}")
        axes.legend(frameon=False, fontsize=8, ncols=2, loc="upper right")

    return draw


def _against_logged(axes: Any, card: SimulatorCard) -> None:
    """Simulated over logged, statistic by statistic."""
    assert card.simulated is not None
    rows = [row for row in card.simulated.rows if row.logged > 0]
    axes.axvline(1, color="black", linewidth=0.8)
    for place, row in enumerate(rows):
        ratio, error = row.simulated / row.logged, row.error / row.logged
        axes.errorbar(ratio, place, xerr=1.96 * error, fmt="o", color=EXPECTED, markersize=4)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel("simulated / logged (95% interval)")
    area = card.simulated.session_area
    axes.set_title("free running" + (f" (AUC {area:.2f})" if area == area else ""))


# What has long labels stands in the first column.
PANELS: tuple[tuple[Callable[[Any, SimulatorCard], None], Callable[[SimulatorCard], bool]], ...] = (
    (_gains, lambda card: True),
    (_reliability, lambda card: _table(card, PREDICTED) is not None),
    (_survival, lambda card: card.leaving is not None and bool(card.leaving.survival)),
    (_against_logged, lambda card: card.simulated is not None and any(row.logged > 0 for row in card.simulated.rows)),
    (_rates(POSITION), lambda card: _table(card, POSITION) is not None),
    (_rates(STEP), lambda card: _table(card, STEP) is not None),
)
