"""Learning curves, out of the records that training left in the work folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from recil.experiment.evidence import Evidence
from recil.report.drawing import GREY, band, legend_below, name, panels, png, strokes
from recil.report.page import Picture, Section, Text, section

Record = Mapping[str, Mapping[int, tuple[float, int]]]
ACROSS = 3
_MOST_POINTS = 50


@dataclass(frozen=True)
class Panel:
    """metrics: names of what is drawn; dashed: of what is drawn beside them; share: the values are shares of one."""

    title: str
    metrics: tuple[str, ...]
    dashed: tuple[str, ...] = ()
    share: bool = False


PANELS = (
    Panel("cloning: nats per item shown", ("clone/nll",), ("clone/held_out_nll",)),
    Panel(
        "return per session, in the world",
        ("finetune/return", "reinforce/return", "dagger/return", "adversarial/return"),
    ),
    Panel("taken from the expert: nats per item", ("dagger/nll",), ("dagger/held_out_nll",)),
    Panel("values: squared error", ("q_learning/value_error",)),
    Panel("estimated gain, held-out sessions", ("finetune/held_out_gain",)),
    Panel("effective share of the batch", ("finetune/ess", "reinforce/ess"), share=True),
    Panel("KL to the clone, nats", ("finetune/kl_clone", "reinforce/kl_clone")),
    Panel("entropy, nats", ("finetune/entropy", "reinforce/entropy")),
)
USERS = Panel("fitting users: nats per session", ("users/nll",), ("users/held_out_nll",))


@dataclass(frozen=True)
class Curve:
    """A metric over training. steps int [n]; values float64 [seeds, n], nan after a seed has stopped."""

    steps: np.ndarray
    values: np.ndarray

    def thinned(self, points: int) -> Curve:
        """At most about so many points: means over windows of as many recorded steps, at the last of them."""
        width = -(-len(self.steps) // points)
        if width == 1:
            return self
        starts = np.arange(0, len(self.steps), width)
        there = ~np.isnan(self.values)
        count = np.add.reduceat(there, starts, 1)
        total = np.add.reduceat(np.where(there, self.values, 0.0), starts, 1)
        ends = np.minimum(starts + width, len(self.steps)) - 1
        return Curve(self.steps[ends], np.where(count > 0, total / np.maximum(count, 1), np.nan))

    @property
    def shared(self) -> np.ndarray:
        """bool [n]: all seeds are there."""
        return ~np.isnan(self.values).any(0)


def read_record(path: Path) -> Record:
    """Metric -> step -> (value, time in ms); of what was written twice, by a run that was resumed, the last."""
    found: dict[str, dict[int, tuple[float, int]]] = {}
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                metric, value, when, step = json.loads(line)
            except ValueError:  # a line cut short by the end of its process
                continue
            found.setdefault(metric, {})[int(step)] = (float(value), int(when))
    return found


def records_of(evidence: Evidence, method: str) -> list[Record]:
    """A record for each seed that is judged."""
    keys = [item.unit.policy_key for item in evidence.of(method)]
    return [read_record(evidence.setting.policy(key) / "metrics.jsonl") for key in keys]


def curve_of(records: Sequence[Record], metric: str) -> Curve | None:
    """None where no seed has it."""
    parts = [record[metric] for record in records if record.get(metric)]
    if not parts:
        return None
    steps = sorted({step for part in parts for step in part})
    values = [[part[step][0] if step in part else np.nan for step in steps] for part in parts]
    return Curve(np.array(steps), np.array(values)).thinned(_MOST_POINTS)


def curves_section(evidence: Evidence) -> Section:
    """Each panel has the methods that have the metric."""
    of = {method.name: records_of(evidence, method.name) for method in evidence.setting.experiment.methods}
    drawn = [(panel, _curves(of, panel)) for panel in PANELS]
    users = read_record(evidence.setting.users_folder() / "metrics.jsonl")
    drawn += [(USERS, _curves({"users": [users]}, USERS))]
    drawn = [(panel, curves) for panel, curves in drawn if curves]
    if not drawn:
        return section("Learning curves", Text("No method of this experiment is trained, so there are none."))
    many = any(len(records) > 1 for records in of.values())
    words = f"As training recorded it; where it did so more than {_MOST_POINTS} times, means over as many windows."
    if many:
        words += " The line is the mean over seeds, the band reaches from the least to the greatest;"
        words += " beyond the step at which the first seed stopped, each seed has a thin line of its own."
    if any(panel.dashed for panel, _ in drawn):
        words += " Dashed: on sessions held out from the training log."
    return section("Learning curves", Picture(_picture(evidence, drawn), words))


Curves = Mapping[str, tuple[list[Curve], list[Curve]]]


def _curves(of: Mapping[str, Sequence[Record]], panel: Panel) -> Curves:
    found = {}
    for method, records in of.items():
        solid, dashed = (
            [curve for metric in metrics if (curve := curve_of(records, metric)) is not None]
            for metrics in (panel.metrics, panel.dashed)
        )
        if solid or dashed:
            found[method] = (solid, dashed)
    return found


def _picture(evidence: Evidence, drawn: Sequence[tuple[Panel, Curves]]) -> bytes:
    across = min(ACROSS, len(drawn))
    figure, grid = panels(-(-len(drawn) // across), across, 2.5 if len(drawn) > across else 2.9)
    styles = strokes(evidence) | {"users": {"color": GREY, "linestyle": "-"}}
    for axes, (panel, curves) in zip(grid.ravel(), drawn, strict=False):
        for method, (solid, dashed) in curves.items():
            for curve in solid:
                _draw(axes, curve, styles[method] | {"label": method})
            for curve in dashed:
                _draw(axes, curve, styles[method] | {"linestyle": "--"})
        name(axes, panel.title, "epoch" if panel is USERS else "training step")
        axes.ticklabel_format(useOffset=False)
        axes.locator_params(axis="x", nbins=6, integer=True)
        axes.locator_params(axis="y", nbins=6)
        if panel.share:
            axes.set_ylim(0, 1.05)
    for axes in grid.ravel()[len(drawn) :]:
        axes.set_visible(False)
    legend_below(figure, list(grid.ravel()[: len(drawn)]))
    return png(figure)


def _draw(axes, curve: Curve, style: Mapping[str, str]) -> None:
    shared = curve.shared
    if not shared.any():
        shared = np.ones_like(shared)
    x = curve.steps[shared]
    few = len(x) == 1
    with np.errstate(invalid="ignore"):
        axes.plot(x, np.nanmean(curve.values[:, shared], 0), linewidth=1.6, marker="o" if few else "", **style)
    if len(curve.values) < 2:
        return
    band(axes, x, np.nanmin(curve.values[:, shared], 0), np.nanmax(curve.values[:, shared], 0), style["color"])
    beyond = curve.steps >= x[-1]
    for seed in curve.values:
        axes.plot(curve.steps[beyond], seed[beyond], color=style["color"], linewidth=0.7, alpha=0.6)
