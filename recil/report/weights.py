"""How policies weigh on the held-out log: of few effective sessions, or weights off 1 on average, comes no value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recil.experiment.evidence import Evidence
from recil.experiment.looks import WEIGHT_EDGES
from recil.report.drawing import band, legend_below, name, panels, png, strokes
from recil.report.page import Grid, Picture, Section, Text, section
from recil.report.words import figure, share, spread
from recil.sim.card.text import short

ACROSS = 3


@dataclass(frozen=True)
class Weights:
    """One method's over its seeds. counts int64 [seeds, 1 + bins]; ess, mean float64 [seeds, T]; see `weights_on`."""

    counts: np.ndarray
    ess: np.ndarray
    mean: np.ndarray

    @property
    def sessions(self) -> int:
        return int(self.counts[0].sum())

    @property
    def zero(self) -> np.ndarray:
        """float64 [seeds]: the share of sessions that the policy could not have had."""
        return self.counts[:, 0] / self.sessions


def weights_of(evidence: Evidence) -> dict[str, Weights]:
    """Of the methods whose weights are known; the logged recommender's own are all 1."""
    found = {}
    for method in evidence.setting.experiment.methods:
        kept = [item.arrays for item in evidence.of(method.name) if "weight_counts" in item.arrays]
        if kept:
            parts = [np.stack([arrays[f"weight_{part}"] for arrays in kept]) for part in ("counts", "ess", "mean")]
            found[method.name] = Weights(*parts)
    return found


def weights_section(evidence: Evidence) -> Section:
    """Table, weights by session, effective sessions by step."""
    found = weights_of(evidence)
    heading = "Weights on the held-out log"
    if not found:
        return section(heading, Text("No policy but the logged one was judged, and its weights are all 1."))
    sessions = next(iter(found.values())).sessions
    words = (
        "A session's weight is how much likelier the policy makes its slates than the logging policy did, over all its"
        f" steps, before any cap. Effective are (Σw)²/Σw² of the {sessions:,} sessions; the mean of right weights is 1"
        " but for chance. What the log says of a policy rests on these, whatever the estimator makes of them."
    )
    head = ("method", "effective sessions", "of all", "mean weight", "weight 0", "steps with half or more")
    rows = tuple((method, *_row(weights)) for method, weights in found.items())
    steps = next(iter(found.values())).ess.shape[1]
    caption = (
        "Sessions by weight, the mean over seeds, both axes on a logarithmic scale; the line is at 1. What lies beyond"
        " a millionth and a million is in the last bars."
    )
    blocks: list = [Text(words), Grid(head, rows), Picture(_histograms(evidence, found), caption)]
    if steps > 1:
        caption = (
            "Effective sessions after each step, as a share of all; a session that has ended keeps its weight. Bands"
            " reach from the least to the greatest seed."
        )
        blocks.append(Picture(_by_step(evidence, found), caption, 70))
    return section(heading, blocks)


def _row(weights: Weights) -> tuple[str, ...]:
    ess, mean = weights.ess[:, -1], weights.mean[:, -1]
    half = (weights.ess >= 0.5 * weights.sessions).sum(1)
    return (
        spread(ess.tolist(), lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.1f}"),
        share(float(ess.mean()) / weights.sessions),
        spread(mean.tolist(), lambda value: figure(value, 2)),
        share(float(weights.zero.mean())),
        f"{half.min()} of {weights.ess.shape[1]}",
    )


def _histograms(evidence: Evidence, found: Mapping[str, Weights]) -> bytes:
    across = min(ACROSS, len(found))
    drawing, grid = panels(-(-len(found) // across), across, 1.9)
    styles = strokes(evidence)
    least, most = _range(list(found.values()))
    for axes, (method, weights) in zip(grid.ravel(), found.items(), strict=False):
        shown = weights.counts[:, 1:].mean(0)
        axes.stairs(shown, WEIGHT_EDGES, fill=True, color=styles[method]["color"], alpha=0.75)
        axes.axvline(0, color="black", linewidth=0.7)
        axes.set_xlim(least, most)
        axes.set_yscale("log")
        axes.set_ylim(0.5, 2.0 * weights.sessions)
        axes.set_yticks([10**power for power in range(1 + int(np.log10(weights.sessions)))])
        axes.minorticks_off()
        places = np.unique(np.linspace(least, most, 5).round())
        axes.set_xticks(places, [f"$10^{{{int(place)}}}$" for place in places])
        name(axes, short(method, 34))
    for axes in grid.ravel()[max(0, len(found) - across) : len(found)]:
        axes.set_xlabel("weight", fontsize=9)
    for axes in grid[:, 0]:
        axes.set_ylabel("sessions", fontsize=9)
    for axes in grid.ravel()[len(found) :]:
        axes.set_visible(False)
    return png(drawing)


def _range(found: Sequence[Weights]) -> tuple[float, float]:
    """From the least to the greatest bin that any method has, at least from .1 to 10."""
    there = np.flatnonzero(sum(weights.counts[:, 1:].sum(0) for weights in found))
    if not len(there):
        return -1.0, 1.0
    return min(float(WEIGHT_EDGES[there[0]]), -1.0), max(float(WEIGHT_EDGES[there[-1] + 1]), 1.0)


def _by_step(evidence: Evidence, found: Mapping[str, Weights]) -> bytes:
    drawing, grid = panels(1, 1, 3.2)
    drawing.set_size_inches(6.8, 3.2)
    axes, styles = grid[0, 0], strokes(evidence)
    for method, weights in found.items():
        shares = np.maximum(weights.ess / weights.sessions, 1e-6)
        steps = np.arange(1, 1 + shares.shape[1])
        axes.plot(steps, shares.mean(0), label=method, linewidth=1.6, **styles[method])
        if len(shares) > 1:
            band(axes, steps.tolist(), shares.min(0), shares.max(0), styles[method]["color"], len(found))
    axes.set_yscale("log")
    axes.set_ylim(top=1.2)
    axes.locator_params(axis="x", integer=True)
    name(axes, "effective share of the sessions", "steps")
    legend_below(drawing, [axes])
    return png(drawing)
