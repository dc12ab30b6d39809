"""How much of the catalogue each policy shows, and how evenly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recil.experiment.evidence import Evidence
from recil.report.drawing import GREY, legend_below, name, panels, png, strokes
from recil.report.page import Block, Grid, Picture, Section, Text, section
from recil.report.regret import WORLDS
from recil.report.words import share, spread

_POINTS = np.linspace(0.0, 1.0, 201)


@dataclass(frozen=True)
class Exposure:
    """What one policy showed in one crowd's sessions. shown int64, of items shown at all, fewest first; steps: mean."""

    shown: np.ndarray
    catalogue: int
    steps: float

    @property
    def coverage(self) -> float:
        """The share of the catalogue that was shown."""
        return len(self.shown) / self.catalogue

    @property
    def gini(self) -> float:
        """0: all items of the catalogue alike; 1: one item alone. nan where nothing was shown."""
        places = np.arange(self.catalogue - len(self.shown) + 1, self.catalogue + 1)
        total = float(self.shown.sum())
        if not total:
            return float("nan")
        return float(
            2.0 * (places * self.shown).sum() / (self.catalogue * total) - (self.catalogue + 1) / self.catalogue
        )

    def most_shown(self, part: np.ndarray) -> np.ndarray:
        """Of all that was shown, the share of the most shown items; part: shares of the catalogue, any shape."""
        down = np.concatenate([[0.0], self.shown[::-1].cumsum() / max(self.shown.sum(), 1)])
        return np.interp(part * self.catalogue, np.arange(len(down)), down)


def exposures_of(evidence: Evidence, world: str) -> dict[str, list[Exposure]]:
    """Method -> one for each seed, of the methods that were put into this world."""
    catalogue = evidence.train.catalogue
    found: dict[str, list[Exposure]] = {}
    for item in evidence.found:
        for seed in evidence.setting.experiment.seeds:
            if f"shown_{world}_{seed}" in item.arrays:
                lengths = item.arrays[f"lengths_{world}_{seed}"]
                steps = float((lengths * np.arange(len(lengths))).sum() / lengths.sum())
                exposure = Exposure(item.arrays[f"shown_{world}_{seed}"], catalogue, steps)
                found.setdefault(item.unit.method, []).append(exposure)
    return found


def coverage_section(evidence: Evidence) -> Section:
    """In the simulated users where there are any, else in the known world."""
    heading = "Coverage of the catalogue"
    for world in ("simulated", "true"):
        found = exposures_of(evidence, world)
        if found:
            break
    else:
        return section(heading, _favourites(evidence))
    shown = max(int(part.shown.sum()) for parts in found.values() for part in parts)
    words = (
        f"Items of {evidence.train.catalogue:,} that were shown in sessions {WORLDS[world]}, up to {shown:,}"
        " places to fill; whoever draws from all items alike covers no more than so many places allow. Gini is 0 where"
        " all items are shown alike and 1 where one is shown alone. With several seeds, their mean (least to greatest)."
    )
    if evidence.card is not None and evidence.card.verdict == "refuse" and world == "simulated":
        words += " These users are refused: take it for what the policies are, not for what they would meet."
    head = ("method", "share of items shown", "Gini", "steps per session")
    rows = tuple(
        (
            method,
            spread([part.coverage for part in parts], share),
            spread([part.gini for part in parts], lambda value: f"{value:.3f}"),
            spread([part.steps for part in parts], lambda value: f"{value:.2f}"),
        )
        for method, parts in found.items()
    )
    caption = "Of all that a policy shows, how much are its most shown items. On the straight line all are shown alike."
    return section(heading, Text(words), Grid(head, rows), Picture(_picture(evidence, found), caption, 70))


def _favourites(evidence: Evidence) -> list[Block]:
    """What is known of coverage without a world: from how policies rank the catalogue along the held-out log."""
    blocks: list[Block] = [Text("No policy was put into a world, so what it would show, and how often, is unknown.")]
    shares: dict[str, list[float]] = {}
    for item in evidence.found:
        if "cloning" in item.judged:
            shares.setdefault(item.unit.method, []).append(item.judged["cloning"]["coverage_at_10"])
    if shares:
        head = ("method", "share of items among its ten most probable, anywhere on the held-out log")
        blocks.append(Grid(head, tuple((method, spread(values, share)) for method, values in shares.items())))
    return blocks


def _picture(evidence: Evidence, found: Mapping[str, list[Exposure]]) -> bytes:
    drawing, grid = panels(1, 1, 3.4)
    drawing.set_size_inches(6.8, 3.4)
    axes, styles = grid[0, 0], strokes(evidence)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    for method, parts in found.items():
        curve = np.mean([part.most_shown(_POINTS) for part in parts], axis=0)
        axes.plot(_POINTS, curve, label=method, linewidth=1.6, **styles[method])
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    name(axes, "share of what is shown", "share of the catalogue, most shown first")
    legend_below(drawing, [axes])
    return png(drawing)
