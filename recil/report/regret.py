"""What each policy misses, step by step, against the best one of the experiment in a world."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from recil.evaluate.intervals import student_interval
from recil.experiment.evidence import Evidence
from recil.experiment.result import Interval
from recil.report.drawing import band, legend_below, name, panels, png, strokes
from recil.report.page import Grid, Picture, Section, Text, section
from recil.report.words import signed

WORLDS = {"true": "in the known world", "simulated": "among the simulated users"}


@dataclass(frozen=True)
class Regret:
    """float64 [T]: by step, mean and interval, discounted, reward per session; `*_total` summed up to the step."""

    step: np.ndarray
    step_low: np.ndarray
    step_high: np.ndarray
    total: np.ndarray
    total_low: np.ndarray
    total_high: np.ndarray

    @property
    def last(self) -> Interval:
        return float(self.total[-1]), float(self.total_low[-1]), float(self.total_high[-1])


def world_of(evidence: Evidence) -> str | None:
    """The world to see in: the known one, else the simulated users if they may be believed."""
    for measure in WORLDS:
        if any(getattr(row, measure) is not None for row in evidence.result.rows):
            return measure
    return None


def best_of(evidence: Evidence, world: str) -> str:
    """The method of the highest value in this world; the first of equals."""
    found = {row.method: getattr(row, world)[0] for row in evidence.result.rows if getattr(row, world) is not None}
    return max(found, key=lambda method: found[method])


def regrets_of(evidence: Evidence, world: str, best: str) -> dict[str, Regret]:
    """Of every other method, paired: the same users meet both."""
    rewards = {row.method: rewards_of(evidence, row.method, world) for row in evidence.result.rows}
    confidence = evidence.result.confidence
    found = {}
    for method, of in rewards.items():
        shared = [seed for seed in of if seed in rewards[best]]
        if method == best or not shared:
            continue
        apart = [rewards[best][seed].astype(np.float64) - of[seed] for seed in shared]
        # Over seeds where there are several, else over the users that both have met.
        samples = np.stack([part.mean(0) for part in apart]) if len(shared) > 1 else apart[0]
        found[method] = Regret(*_intervals(samples, confidence), *_intervals(samples.cumsum(1), confidence))
    return found


def rewards_of(evidence: Evidence, method: str, world: str) -> Mapping[int, np.ndarray]:
    """Seed -> float [sessions, T], discounted. A method without chance has one unit and every seed's users."""
    found = {}
    for item in evidence.of(method):
        for seed in evidence.setting.experiment.seeds:
            kept = item.arrays.get(f"rewards_{world}_{seed}")
            if kept is not None and item.unit.seed in (None, seed):
                found[seed] = kept * evidence.setting.experiment.evaluate.gamma ** np.arange(kept.shape[1])
    return found


def _intervals(samples: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """float64 [n, T] -> mean, low, high, each [T]."""
    parts = [student_interval(column, confidence) for column in samples.T]
    mean, low, high = (np.array(part, dtype=np.float64) for part in zip(*parts, strict=True))
    return mean, low, high


def regret_section(evidence: Evidence) -> Section:
    heading = "Regret by step"
    world = world_of(evidence)
    if world is None:
        return section(heading, Text(_missing(evidence)))
    best = best_of(evidence, world)
    found = regrets_of(evidence, world, best)
    if not found:
        return section(heading, Text(f"Only {best} was measured {WORLDS[world]}; there is nothing to hold it against."))
    sessions = next(kept.shape[0] for kept in rewards_of(evidence, best, world).values())
    words = (
        f"What a policy misses at each step against {best}, which has the highest value {WORLDS[world]}, in reward"
        " per session. To be the highest of several is in part luck, so the regret of the others is rather overstated."
        f" From {sessions:,} simulated sessions for each seed, paired by user; {evidence.result.confidence:.0%}"
        " intervals, each for one step by itself."
    )
    if next(row for row in evidence.result.rows if row.method == best).own_world and world == "simulated":
        words += f" {best} has learned in these very users, which flatters it."
    caption = "Left: at each step. Right: summed up to the step; where it ends is the difference in value."
    return section(heading, Text(words), _table(found), Picture(_picture(evidence, found), caption))


def _missing(evidence: Evidence) -> str:
    if evidence.card is not None and evidence.card.verdict == "refuse":
        return "There is no known world, and the simulated users are refused: regret in them would say nothing."
    return "No policy was put into a world, so regret is unknown: it needs the outcomes of slates nobody was shown."


def _table(found: Mapping[str, Regret]) -> Grid:
    horizon = len(next(iter(found.values())).total)
    places = sorted({0, max(0, horizon // 2 - 1), horizon - 1})
    head = ("method", *(f"after {place + 1} step{'s' if place else ''}" for place in places))
    rows = tuple(
        (method, *(signed((regret.total[at], regret.total_low[at], regret.total_high[at])) for at in places))
        for method, regret in sorted(found.items(), key=lambda entry: entry[1].last[0])
    )
    return Grid(head, rows)


def _picture(evidence: Evidence, found: Mapping[str, Regret]) -> bytes:
    drawing, grid = panels(1, 2, 3.3)
    styles = strokes(evidence)
    for method, regret in found.items():
        steps = np.arange(1, 1 + len(regret.step))
        parts = ((regret.step, regret.step_low, regret.step_high), (regret.total, regret.total_low, regret.total_high))
        for axes, (mean, low, high) in zip(grid[0], parts, strict=True):
            axes.plot(steps, mean, label=method, linewidth=1.6, marker="o" if len(steps) == 1 else "", **styles[method])
            if not math.isnan(low[0]):
                band(axes, steps.tolist(), low, high, styles[method]["color"], len(found))
    for axes, title in zip(grid[0], ("regret at the step", "regret up to the step"), strict=True):
        axes.axhline(0, color="black", linewidth=0.7)
        axes.locator_params(axis="x", integer=True)
        name(axes, title, "step", "reward per session")
    legend_below(drawing, list(grid[0]))
    return png(drawing)
