"""The checks of a log's propensities, a row each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import lcm, nan

import numpy as np
from scipy import stats

from recil.evaluate.causes import bounded, causes, causes_of_high, causes_of_low, constant_of
from recil.evaluate.exposure import Exposure, Groups, Places, exposure, groups_of
from recil.evaluate.misfit import (
    NONE,
    Misfit,
    Ratios,
    drift,
    low_alike,
    misfit,
    ratios,
    total_ratios,
    visible,
)
from recil.evaluate.verdict import VERDICTS, Verdict

_POWER = 0.8
# Misfit on the side above 1 counts as seen below this chance; it only tells wrong propensities from items withheld.
_ABOVE = 0.01
_LOW = (
    "too large, or items are withheld or hardly ever shown (where the items that can be shown differ by request, their "
    "number goes into context_candidates)"
)


@dataclass(frozen=True)
class LogLimits:
    """Each pair: beyond the first value the verdict is at most caution, beyond the second refuse.

    off          distance of a ratio from 1, where it is also improbable
    probability  of so large a distance by chance, corrected for the number of groups and periods looked at
    fitted_off, fitted_probability
                 the same for propensities of a clone, which is never quite the policy that logged
    certain      share of items shown with a probability of 1
    unshown      share of the catalogue that the log never shows
    """

    off: tuple[float, float] = (0.02, 0.02)
    probability: tuple[float, float] = (1e-3, 1e-4)
    fitted_off: tuple[float, float] = (0.02, 0.15)
    fitted_probability: tuple[float, float] = (1e-3, 1e-6)
    certain: tuple[float, float] = (0.5, 1.0 - 1e-9)
    unshown: tuple[float, float] = (0.05, 1.0)


@dataclass(frozen=True)
class Check:
    """One check: what was found, against what it should be; chance: how probable so much is if all is right."""

    name: str
    found: float
    wanted: float
    chance: float
    verdict: Verdict
    reason: str = ""

    @property
    def grade(self) -> int:
        return VERDICTS.index(self.verdict)


@dataclass(frozen=True)
class Asked:
    """How to check.

    groups, periods
    off, probability  limits of ratios, see LogLimits
    names       the items of the catalogue
    candidates  their number differs by request: items have no expectation of their own
    fitted      the propensities are a clone's
    tests       parts of the log that are checked alike
    """

    groups: int
    periods: int
    off: tuple[float, float]
    probability: tuple[float, float]
    names: Sequence[object]
    candidates: bool = False
    fitted: bool = False
    tests: int = 1


def rows_of(places: Places, asked: Asked) -> tuple[list[Check], float]:
    """The rows, and the smallest error that would be seen."""
    fine, splits = _periods(places, asked)
    slots = places.rank if places.slates else None
    if asked.candidates:
        rows = [_sum(places, asked, None)]
        rows += [] if slots is None else [_by_place(places, slots, asked)]
        found = [total_ratios(places, fine * split // fine_cells(splits), split) for split in splits]
        return [*rows, _period_totals(found, splits, asked, places)], _visible_in_totals(found, asked)
    groups = groups_of(places, asked.groups)
    cells = exposure(places, groups, fine, fine_cells(splits))
    whole = cells.merged(1)
    rows = [] if asked.fitted else list(_constant(places, asked))
    rows += [_sum(places, asked, whole), *_by_group(places, whole, asked, _naming(groups, asked))]
    if slots is not None:
        rows.append(_by_place(places, slots, asked))
        found_there = misfit(exposure(places, groups, slots, int(slots.max()) + 1)).corrected(asked.tests)
        words = "propensities do not fit the places of slates: those of other places?"
        rows.append(_joint("places: all groups", found_there, asked, lambda low: f"{words} {_LOW}" if low else words))
    rows += _by_period(places, cells, splits, asked, _naming(groups, asked))
    return rows, visible(cells, asked.probability[0] / (max(len(splits) - 1, 1) * asked.tests), _POWER)


def _naming(groups: Groups, asked: Asked) -> Callable[[int], str]:
    if groups.single:
        return lambda group: f"item {asked.names[group]}"
    return lambda group: f"group {group + 1} of {groups.sizes.shape[1]} of items, the most shown first,"


def fine_cells(splits: Sequence[int]) -> int:
    """Periods that can be put together into each of these numbers of periods."""
    return lcm(*splits)


def _periods(places: Places, asked: Asked) -> tuple[np.ndarray, list[int]]:
    """The fine period of each place, and the numbers of periods the log is split into: itself, 2, 3 and as asked."""
    sessions = int(places.moment.max()) + 1
    splits = sorted({1, *(min(split, asked.periods) for split in (2, 3)), asked.periods})
    splits = [split for split in splits if split <= sessions]
    return places.moment * fine_cells(splits) // sessions, splits


def _constant(places: Places, asked: Asked) -> Iterator[Check]:
    """The one sum that chance has no part in: of propensities that are the same whenever an item is shown."""
    found = constant_of(places)
    if found is None:
        return
    far, chance = abs(found.total - 1.0), min(1.0, found.chance * asked.tests)
    # Where nothing is missing there is no chance to speak of.
    bounds = zip(asked.off, asked.probability, strict=True)
    grade = sum(far > off and chance < probability for off, probability in bounds)
    reason = f"an item's propensity is always the same, and those of all items shown add up to {found.total:.3g}"
    why = _why(1.0 / found.total, grade, places)
    yield graded("sum of constant propensities", found.total, 1.0, grade, reason + why, chance if grade else nan)


def _sum(places: Places, asked: Asked, whole: Exposure | None) -> Check:
    found = total_ratios(places, np.zeros(len(places.item), dtype=np.int64), 1)
    ratio, chance = float(found.ratio[0]), float(found.chance(asked.tests)[0])
    sum_of_all = 1.0 / ratio if ratio > 0 else float("inf")
    grade = _off(ratio, chance, asked)
    certain = ratio < 1 and not asked.fitted and _off(ratio, chance, asked, both=True) == 2
    if certain and _low_without(places, found, asked):
        # Nothing is hardly ever shown: the propensities are wrong, or not all items could be shown.
        alike = whole is not None and low_alike(whole, asked.probability[1])
        grade = 2 if alike or bounded(places) else grade
    reason = f"propensities add up to {sum_of_all:.3g} over the catalogue (mean weight of a uniform target {ratio:.3g})"
    return graded("sum of propensities", sum_of_all, 1.0, grade, reason + _why(ratio, grade, places), chance)


def _low_without(places: Places, found: Ratios, asked: Asked) -> bool:
    """Whether the sum is low beyond doubt where items that are never shown are left out."""
    share = np.count_nonzero(np.bincount(places.item)) / places.catalogue
    left = Ratios(found.ratio / share, found.error / share, (found.ratio - share) / found.error)
    return float(left.ratio[0]) < 1 and _off(float(left.ratio[0]), float(left.chance(asked.tests)[0]), asked, True) == 2


def _by_place(places: Places, slots: np.ndarray, asked: Asked) -> Check:
    found = total_ratios(places, slots, int(slots.max()) + 1)
    return _worst(
        "places: worst place's ratio", found, asked, places, lambda slot: f"place {slot + 1} of slates was filled"
    )


def _by_group(places: Places, whole: Exposure, asked: Asked, name: Callable[[int], str]) -> list[Check]:
    def words(low: bool) -> str:
        why = f": {_LOW}{causes_of_low(places)}" if low else causes(places)
        return f"propensities do not fit how often the items are shown{why}"

    worst = "calibration: worst group's ratio"
    return [
        _worst(worst, ratios(whole), asked, places, lambda place: f"{name(place)} was shown"),
        _joint("calibration: all groups", misfit(whole).corrected(asked.tests), asked, words),
    ]


def _by_period(
    places: Places, cells: Exposure, splits: Sequence[int], asked: Asked, name: Callable[[int], str]
) -> list[Check]:
    last, width = splits[-1], cells.found.shape[1]

    def words(place: int) -> str:
        return f"in period {place // width + 1} of {last} {name(place % width)} was shown"

    found = [drift(cells.merged(split)) for split in splits if split > 1] or [NONE]
    worst = min(found, key=lambda one: one.chance).corrected(len(found) * asked.tests)
    reason = "what is shown changes in time, and the propensities do not follow: several policies, and their average?"
    withheld = "some items are withheld or hardly ever shown for a part of the time, and the propensities do not say so"
    return [
        _worst("sample ratio: worst period's", ratios(cells.merged(last)), asked, places, words),
        _joint("drift: all groups", worst, asked, lambda low: withheld if low else reason),
    ]


def _visible_in_totals(found: Sequence[Ratios], asked: Asked) -> float:
    """In halves of the log, where it has more than one session."""
    tests = 2 * asked.tests * sum(one.ratio.size for one in found)
    bounds = stats.norm.isf(asked.probability[0] / tests) + stats.norm.isf(1.0 - _POWER)
    return float(bounds * found[min(1, len(found) - 1)].error.max())


def _period_totals(found: Sequence[Ratios], splits: Sequence[int], asked: Asked, places: Places) -> Check:
    """By periods of each split; of the log as a whole only where it is but one session."""
    found, splits = list(found)[1:] or found, list(splits)[1:] or splits
    where = [f"in period {period + 1} of {split} items were shown" for split in splits for period in range(split)]
    every = Ratios(*(np.concatenate([getattr(one, part) for one in found]) for part in ("ratio", "error", "errors")))
    return _worst("sample ratio: worst period's", every, asked, places, where.__getitem__)


def _worst(name: str, found: Ratios, asked: Asked, places: Places, words: Callable[[int], str]) -> Check:
    """The ratio that weighs most: by its grade, then by how hard it is to explain by chance."""
    ratio, chance = found.ratio.ravel(), found.chance(asked.tests).ravel()
    grades = [_off(float(one), float(other), asked) for one, other in zip(ratio, chance, strict=True)]
    place = int(np.lexsort((np.abs(found.errors.ravel()), grades))[-1])
    reason = f"{words(place)} {ratio[place]:.3g} times as often as propensities say"
    reason += _why(float(ratio[place]), grades[place], places)
    return graded(name, float(ratio[place]), 1.0, grades[place], reason, float(chance[place]))


def clone_row(found: Ratios, asked: Asked) -> Check:
    """Both sides count: what a clone says of the whole catalogue, it says of items hardly ever shown too."""
    chance = found.chance()
    grades = [_off(float(one), float(other), asked, both=True) for one, other in zip(found.ratio, chance, strict=True)]
    place = int(np.lexsort((np.abs(found.errors), grades))[-1])
    ratio = float(found.ratio[place])
    reason = f"the clone is not calibrated: group {place + 1} of items was shown {ratio:.3g} times as often as it says"
    return graded("clone: shown over expected", ratio, 1.0, grades[place], reason, float(chance[place]))


def _why(ratio: float, grade: int, places: Places) -> str:
    if not grade:
        return ""
    return f": too small{causes_of_high(places)}" if ratio > 1 else f": {_LOW}{causes_of_low(places)}"


def _joint(name: str, found: Misfit, asked: Asked, words: Callable[[bool], str]) -> Check:
    """Refused where there is misfit above 1 too, which items hardly ever shown cannot bring."""
    grade = sum(
        found.size > off and found.chance < bound for off, bound in zip(asked.off, asked.probability, strict=True)
    )
    grade = min(grade, 1) if found.above > _ABOVE else grade
    off = f"off by {min(found.size, 9.99):.0%} in the mean: "
    reason = off + words(found.above > _ABOVE) if grade else ""
    return graded(name, found.size, 0.0, grade, reason, found.chance)


def _off(ratio: float, chance: float, asked: Asked, both: bool = False) -> int:
    """0, 1 or 2; a ratio below 1 may come from what was not seen, and is 1 at most, unless `both` sides are equal."""
    grade = sum(
        abs(ratio - 1.0) > off and chance < bound for off, bound in zip(asked.off, asked.probability, strict=True)
    )
    return grade if ratio > 1 or both else min(grade, 1)


def grade_of(value: float, bounds: tuple[float, float]) -> int:
    return sum(value > bound for bound in bounds)


def graded(name: str, found: float, wanted: float, grade: int, reason: str, chance: float = nan) -> Check:
    return Check(name, float(found), wanted, chance, VERDICTS[grade], reason if grade else "")
