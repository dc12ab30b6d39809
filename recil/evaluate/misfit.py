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
    own = seen.squares - found**2 / np.maximum(seen.places, 1.0)[:, None]
    missing = np.maximum(_over(expected, found) - 1.0, 0.0) * seen.squares
    # A period that happens to hold no rare item varies as the whole log does.
    whole = _over(seen.squares.sum(0), found.sum(0)) - _over(found.sum(0), seen.places.sum())
    variance = seen.inflated * np.maximum(own + missing, whole * expected)
    return _ratios(found, expected, variance, seen.squares, seen.seen)


def total_ratios(places: Places, cell: np.ndarray, cells: int) -> Ratios:
    """The same of all items together by cell, [C]."""
    found, expected, squares = _totals(places, cell, cells)
    ratio = _over(found.sum(), expected.sum())
    apart = places.inverse - ratio * places.could
    own = np.bincount(cell, apart**2, minlength=cells)
    missing = np.maximum(_over(expected, found) - 1.0, 0.0) * squares
    variance = _together(places, apart) * np.maximum(own + missing, own.sum() * expected / expected.sum())
    return _ratios(found, expected, variance, squares, np.array(len(places.item) >= FEWEST_SHOWN))


def _totals(places: Places, cell: np.ndarray, cells: int) -> list[np.ndarray]:
    weights = (places.inverse, places.could, places.inverse**2)
    return [np.bincount(cell, weight, minlength=cells) for weight in weights]


def _together(places: Places, apart: np.ndarray) -> float:
    """By how much more than single places units vary, at least 1."""
    if places.alone:
        return 1.0
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
    if not seen.seen.any():
        return NONE
    part = _part(seen)
    variance = part.inflated * np.maximum(
        part.squares, part.expected * _over(part.squares.sum(0), np.minimum(part.found, part.expected).sum(0))
    )
    scaled = _scaled(part.found - part.expected, part.expected, variance)
    return _misfit(scaled, part.expected, variance, scaled.size - _lost(part) * len(scaled))


def drift(seen: Exposure) -> Misfit:
    """Of cells against each other: what groups are shown more or less often than they should be is left aside."""
    cells = len(seen.places)
    if cells == 1 or not seen.seen.any():
        return NONE
    part = _part(seen)
    share = _over(part.expected, part.expected.sum(0))
    variance = part.inflated * np.maximum(part.squares, share * part.squares.sum(0))
    scaled = _scaled(part.found - share * part.found.sum(0), part.expected, variance)
    found = _misfit(scaled, part.expected, variance, (scaled.shape[1] - _lost(part)) * (cells - 1))
    return Misfit(found.size, found.chance, misfit(seen).above)


def _part(seen: Exposure) -> Exposure:
    kept = seen.seen
    by_cell = (seen.found[:, kept], seen.expected[:, kept], seen.squares[:, kept], seen.shown[:, kept])
    return Exposure(*by_cell, seen.places, seen.inflated[kept])


def _lost(part: Exposure) -> float:
    of_group = _over(part.found.sum(0) ** 2, part.inflated * part.squares.sum(0))
    return float(min(1.0, of_group.sum() / part.places.sum()))


def _scaled(difference: np.ndarray, expected: np.ndarray, variance: np.ndarray) -> np.ndarray:
    scaled = difference / np.sqrt(np.maximum(variance, 1e-300))
    return np.where(np.abs(difference) > _ROUNDING * expected, scaled, 0.0)


def _misfit(scaled: np.ndarray, expected: np.ndarray, variance: np.ndarray, degrees: float) -> Misfit:
    degrees = max(degrees, 1.0)
    total, high = float(np.square(scaled).sum()), float(np.square(np.maximum(scaled, 0.0)).sum())
    information = float(_over(expected**2, variance).sum())
    size = np.sqrt(max(total - degrees, 0.0) / max(information, 1e-300))
    return Misfit(float(size), float(stats.chi2.sf(total, degrees)), _half_sided(high, scaled.size))


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
    part = _part(seen)
    degrees = max(part.found.shape[1] - _lost(part), 1.0)
    whole = part.merged(1)
    information = float(_over(whole.expected**2, whole.inflated * whole.squares).sum())
    return float(np.sqrt(_noncentrality(round(degrees, 3), probability, power) / max(information, 1e-300)))


@lru_cache(maxsize=256)
def _noncentrality(degrees: float, probability: float, power: float) -> float:
    bound = float(stats.chi2.isf(probability, degrees))
    return float(optimize.brentq(lambda shift: stats.ncx2.sf(bound, degrees, shift) - power, 1e-6, 20 * bound + 100))


def _over(one: np.ndarray | float, other: np.ndarray | float) -> np.ndarray:
    return np.divide(one, np.maximum(other, 1e-300))
