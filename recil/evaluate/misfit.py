"""Tests of exposure: is what was found further from what was expected than chance explains?

The variance of a sum of 1/p is never taken from below: where less was found than expected, what is missing from the sum
is missing from its squares too, and is put back. Sums that are too large speak against themselves enough, for the
squares grow with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy import optimize, stats

from recil.evaluate.exposure import FEWEST_SHOWN, Exposure, Places
from recil.evaluate.scoring import WholeCatalogue, first_items, group_probabilities, session_batches
from recil.logs.session_log import SessionLog

# Propensities are in single precision.
_ROUNDING = 1e-5
_FEWEST_A_CELL = 5


@dataclass(frozen=True)
class Ratios:
    """Found over expected, its standard error, and how many of these it lies from 1 (0: nothing can be said)."""

    ratio: np.ndarray
    error: np.ndarray
    errors: np.ndarray

    def chance(self, tests: int = 1) -> np.ndarray:
        """Of so large a distance on either side, corrected for the number looked at (Bonferroni)."""
        return np.minimum(1.0, tests * self.ratio.size * 2 * stats.norm.sf(np.abs(self.errors)))


def ratios(seen: Exposure) -> Ratios:
    """By cell and group, [C, G]."""
    found, expected = seen.found, seen.expected
    mean = expected / np.maximum(seen.places, 1.0)[:, None]
    own = seen.squares - 2.0 * mean * found + mean * expected
    missing = np.maximum(_over(expected, found) - 1.0, 0.0) * seen.squares
    # A period that happens to hold no rare item varies as the whole log does.
    whole = _over(seen.squares.sum(0), found.sum(0)) - _over(found.sum(0), seen.places.sum())
    variance = seen.inflated * np.maximum(own + missing, whole * expected)
    return _ratios(found, expected, variance, seen.squares, seen.seen)


def total_ratios(places: Places, cell: np.ndarray, cells: int) -> Ratios:
    """The same of all items together by cell, [C]."""
    found, expected, squares = _totals(places, cell, cells)
    own = np.bincount(cell, (places.inverse - places.could) ** 2, minlength=cells)
    missing = np.maximum(_over(expected, found) - 1.0, 0.0) * squares
    variance = _together(places, float(_over(found.sum(), expected.sum()))) * np.maximum(
        own + missing, own.sum() * expected / expected.sum()
    )
    return _ratios(found, expected, variance, squares, np.array(len(places.item) >= FEWEST_SHOWN))


def _totals(places: Places, cell: np.ndarray, cells: int) -> list[np.ndarray]:
    weights = (places.inverse, places.could, places.inverse**2)
    return [np.bincount(cell, weight, minlength=cells) for weight in weights]


def _together(places: Places, ratio: float) -> float:
    """By how much more than single places units vary, at least 1."""
    if places.alone:
        return 1.0
    apart = places.inverse - ratio * places.could
    by_unit = np.bincount(places.unit, apart)
    return max(1.0, float(_over(by_unit @ by_unit, apart @ apart)))


def _ratios(
    found: np.ndarray, expected: np.ndarray, variance: np.ndarray, squares: np.ndarray, seen: np.ndarray
) -> Ratios:
    difference = found - expected
    error = np.sqrt(np.maximum(variance, 1e-9 * squares + 1e-300))
    matters = seen & (np.abs(difference) > _ROUNDING * expected)
    return Ratios(_over(found, expected), _over(error, expected), np.where(matters, difference / error, 0.0))


def clone_ratios(log: SessionLog, policy: WholeCatalogue, groups: int) -> Ratios:
    """First items of slates shown, by group of the catalogue, over the sum of their probabilities by the policy. [G]"""
    width = min(groups, log.catalogue)
    group = torch.arange(log.catalogue) * width // log.catalogue
    shown, expected, squares = np.zeros((3, width))
    for chosen in session_batches(log, 2048, 1 << 25):
        batch = log.batch(chosen)
        first = first_items(batch)
        marks = torch.nn.functional.one_hot(group[first.clamp(min=0)], width).double() * (first >= 0)[..., None]
        chances = torch.zeros(len(chosen), width, dtype=torch.float64)
        for _, going_on, chance in group_probabilities(policy, batch, group, width):
            chances.index_add_(0, going_on, chance)
        of_session = marks.sum(1)
        shown += of_session.sum(0).numpy()
        expected += chances.sum(0).numpy()
        squares += (of_session - chances).square().sum(0).numpy()
    return _ratios(shown, expected, squares, shown, shown >= FEWEST_SHOWN)


@dataclass(frozen=True)
class Misfit:
    """Of many cells and groups at once.

    size    root mean square of what ratios differ by, beyond what chance explains
    chance  of so much misfit on either side
    above   of so much on the side above 1 alone, where only wrong propensities can bring it
    """

    size: float
    chance: float
    above: float

    def corrected(self, tests: int) -> Misfit:
        return Misfit(self.size, min(1.0, tests * self.chance), min(1.0, tests * self.above))


NONE = Misfit(0.0, 1.0, 1.0)


def misfit(seen: Exposure) -> Misfit:
    """Of all cells and groups against what is expected: a chi-square test in the form of Pearson.

    Covariances of groups are those of a draw of one item: with each sum divided by the root of its squares they are the
    identity less a projection, which costs `lost` degrees of freedom in each cell.
    """
    part = _part(seen)
    return _misfit(part, part.expected, part.squares, (part.found.shape[1] - _lost(part)) * len(part.places))


def drift(seen: Exposure) -> Misfit:
    """Of cells against each other: what groups are shown more or less often than they should be is left aside."""
    part, others = _part(seen), len(seen.places) - 1
    share = _over(part.expected, part.expected.sum(0))
    found = _misfit(part, share * part.found.sum(0), 0.0, (part.found.shape[1] - _lost(part)) * others)
    return Misfit(found.size, found.chance, misfit(seen).above)


def _part(seen: Exposure) -> Exposure:
    """The groups that can be looked at: shown five times a cell at the least."""
    kept = seen.seen & (seen.shown.sum(0) >= _FEWEST_A_CELL * len(seen.places))
    by_cell = (seen.found[:, kept], seen.expected[:, kept], seen.squares[:, kept], seen.shown[:, kept])
    return Exposure(*by_cell, seen.places, seen.inflated[kept])


def _lost(part: Exposure) -> float:
    of_group = _over(part.found.sum(0) ** 2, part.inflated * part.squares.sum(0))
    return float(min(1.0, of_group.sum() / part.places.sum()))


def _misfit(part: Exposure, wanted: np.ndarray, least: np.ndarray | float, degrees: float) -> Misfit:
    """Of found [C, G] against what is wanted; least: what its variance is at the least, [C, G].

    A cell's weights vary as its own do, or as those of the whole log, where these vary more.
    """
    if not wanted.size or degrees < 1e-3:
        return NONE
    weight = np.maximum(_over(part.squares, part.found), _over(part.squares.sum(0), part.found.sum(0)))
    variance = part.inflated * np.maximum(weight * wanted, least)
    difference = part.found - wanted
    difference = np.where(np.abs(difference) > _ROUNDING * wanted, difference, 0.0)
    scaled = _over(difference**2, variance)
    high = np.where(difference > 0, _over(difference**2, np.maximum(variance, part.inflated * part.squares)), 0.0)
    information = _over(wanted**2, variance)
    # Where few are expected in a cell, squares vary more than those of normal numbers: by one over that number.
    spread = 2.0 * degrees + float(_over(1.0, information).sum())
    total = float(scaled.sum())
    chance = float(stats.gamma.sf(total, degrees**2 / spread, scale=spread / degrees))
    size = float(np.sqrt(max(total - degrees, 0.0) / max(float(information.sum()), 1e-300)))
    return Misfit(size, chance, _half_sided(float(high.sum()), scaled.size))


def _half_sided(high: float, cells: int) -> float:
    """Chance that squares of the positive ones among so many normal numbers add up to more."""
    if high <= 0:
        return 1.0
    number = np.arange(1, cells + 1)
    return float(stats.binom.pmf(number, cells, 0.5) @ stats.chi2.sf(high, number))


def visible(seen: Exposure, probability: float, power: float = 0.8) -> float:
    """The smallest error of propensities, item by item or from one half of the log to the other, that would be seen.

    probability: at which a misfit counts; power: how often it would.
    """
    if not seen.seen.any():
        return float("inf")
    whole = _part(seen.merged(1))
    degrees = max(whole.found.shape[1] - _lost(whole), 1.0)
    information = float(_over(whole.expected**2, whole.inflated * whole.squares).sum())
    return float(np.sqrt(_noncentrality(round(degrees, 3), probability, power) / max(information, 1e-300)))


@lru_cache(maxsize=256)
def _noncentrality(degrees: float, probability: float, power: float) -> float:
    bound = float(stats.chi2.isf(probability, degrees))
    return float(optimize.brentq(lambda shift: stats.ncx2.sf(bound, degrees, shift) - power, 1e-6, 20 * bound + 100))


def _over(one: np.ndarray | float, other: np.ndarray | float) -> np.ndarray:
    return np.divide(one, np.maximum(other, 1e-300))


def low_alike(whole: Exposure, probability: float) -> bool:
    """All groups are shown too rarely by one factor, those whose ratios are known best no less than the others.

    What is hardly ever shown is missing from some items, where weights vary most: that is no one factor.
    """
    part = _part(whole)
    found, expected, squares = part.found[0], part.expected[0], part.inflated * part.squares[0]
    if len(found) < 4:
        return False
    information = _over(expected**2, squares)
    ratio = float((information * _over(found, expected)).sum() / information.sum())
    scaled = _over((found - ratio * expected) ** 2, ratio * expected * _over(squares, found))
    best = np.argsort(-information, kind="stable")[: (len(found) + 1) // 2]
    missing = (expected - found)[best].sum() / np.sqrt(_over(squares, found)[best] @ expected[best])
    alike = stats.chi2.sf(float(scaled.sum()), len(found) - 1) > 0.05
    return bool(alike and stats.norm.sf(missing) < probability)
