"""From figures to a verdict: what fails the users, what casts doubt on them, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from scipy.stats import norm

from recil.logs.clusters import SESSION, Clusters
from recil.sim.card.click_tables import OVERALL
from recil.sim.card.groups import GroupTable
from recil.sim.card.leaving import Leaving
from recil.sim.card.rows import CardRow
from recil.sim.card.simulated import Simulated
from recil.sim.card.thresholds import CardThresholds


@dataclass
class Judgement:
    """Reasons as they are found. failed: each alone refuses the users; doubts: each alone calls for caution."""

    failed: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def add(self, hard: bool, words: str) -> None:
        (self.failed if hard else self.doubts).append(words)

    @property
    def verdict(self) -> str:
        return "refuse" if self.failed else "caution" if self.doubts else "trust"

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(self.failed + self.doubts)


def judge_units(units: Clusters, limits: CardThresholds, found: Judgement) -> None:
    """Whether there are enough users for the errors of all else to hold."""
    if units.name != SESSION and units.count < limits.least_units:
        words = f"rests on {units.count} {units.plural} in {len(units.keys)} sessions: errors hold from"
        found.add(False, f"{words} {limits.least_units} {units.plural} on")


def judge_gains(rows: Iterable[CardRow], limits: CardThresholds, found: Judgement) -> None:
    """rows: those of the baselines."""
    rows = list(rows)
    if not rows:
        found.add(True, "the users bring no baselines to be held against")
    for row in rows:
        if not (row.versus > 0 and row.versus >= limits.better_by * row.error):  # neither a tie nor nan passes
            words = f"does not clearly beat {row.model} in log loss ({row.versus:+.5f}, error {row.error:.5f})"
            found.add(row.model == "constant", words)


def judge_rates(
    tables: Iterable[GroupTable], leaving: Leaving | None, limits: CardThresholds, found: Judgement
) -> None:
    """Rates of clicking, and of leaving; all share the level between them."""
    tables = (*tables, *(leaving.tables if leaving else ()))
    share = limits.level / max(len(tables) + (leaving is not None), 1)
    for table in tables:
        if not table.p_value >= share:
            for hard, words in _misses(table, limits):
                found.add(hard, words)
    if leaving is not None and not leaving.gain >= -norm.isf(share) * leaving.error:
        words = f"leaving is predicted worse than by a constant rate ({leaving.gain:+.5f}, error {leaving.error:.5f})"
        found.add(False, words)


def _misses(table: GroupTable, limits: CardThresholds) -> Iterator[tuple[bool, str]]:
    """What a table that misses beyond chance says, if it misses by enough to matter."""
    worst = table.worst
    size, rates = table.certain_share(worst), f"{worst.predicted:.5f}"
    if size <= limits.negligible:
        return
    if table.name == OVERALL:
        hard = abs(worst.miss) > limits.rate_off_refuse * worst.observed
        yield hard, f"predicts {rates} clicks per item where {worst.observed:.5f} were seen"
        return
    off = sum(table.certain_share(group) > limits.negligible for group in table.groups)
    what = "rate of leaving" if table.unit == "steps" else "click rate"
    words = (
        f"is off in {off} of {len(table.groups)} groups by {table.name}; in the worst ({worst.label}), predicts a"
        f" {what} of {rates} where {worst.observed:.5f} was seen"
    )
    yield size > limits.group_off_refuse, words


def judge_simulated(simulated: Simulated, limits: CardThresholds, found: Judgement) -> None:
    areas = [("clicks drawn anew", simulated.click_area, simulated.click_error)]
    if limits.judge_free_running:
        areas.append(("free-running sessions", simulated.session_area, simulated.session_error))
    for what, area, error in areas:
        certain = area - 2 * error
        if certain > limits.area_caution:  # nan: too little to learn from, nothing to say
            words = f"{what} can be told from logged ones (area under the curve {area:.3f}, error {error:.3f})"
            found.add(certain > limits.area_refuse, words)
