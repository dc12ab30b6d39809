"""What is known to go wrong with propensities, recognised by their form; and what they must add up to exactly.

Form alone is no fault: it names the likely cause where the checks have found one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

from recil.evaluate.exposure import Places

# Propensities in single precision.
_ALIKE = 1e-5
_MOST_LOOKED_AT = 50_000


@dataclass(frozen=True)
class Constant:
    """Of a log in which an item's propensity in a slate's first place is always the same.

    total   of one propensity of every item shown; it cannot be above 1
    chance  at most of never showing what is missing to 1
    """

    total: float
    chance: float


def constant_of(places: Places) -> Constant | None:
    """None where propensities of an item differ, or where too few items were shown twice to tell."""
    first = places.take(np.flatnonzero(places.rank == 0)) if places.slates else places
    shown, total, alike = _by_item(first)
    if shown[shown > 1].sum() < 0.9 * shown.sum() or not alike.all():
        return None
    seen = shown > 0
    total_of_all = float((shown[seen] / total[seen]).sum())
    draws = len(np.unique(first.unit))
    return Constant(total_of_all, _chance_unseen(total_of_all, draws, places.catalogue, int(seen.sum())))


def _by_item(places: Places) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[A]: how often shown, the sum of 1/p, and whether 1/p is always the same."""
    shown, total, squares = (
        np.bincount(places.item, weight, minlength=places.catalogue)
        for weight in (None, places.inverse, places.inverse**2)
    )
    return shown, total, shown * squares - total**2 <= 1e-6 * total**2


def _chance_unseen(total: float, draws: int, items: int, seen: int) -> float:
    """At most: any set of so many items of which none is drawn, though together they have all that is missing to 1."""
    if total >= 1.0:
        return 0.0
    ways = gammaln(items + 1) - gammaln(seen + 1) - gammaln(items - seen + 1)
    return float(np.exp(min(0.0, ways + draws * np.log(total)))) if seen < items else 0.0


def causes_of_high(places: Places) -> str:
    """Of items shown more often than propensities say; empty where none is recognised."""
    found = [*_slates(places), *_rounded(places)]
    return "".join(f"; {cause}" for cause in found)


def causes_of_low(places: Places) -> str:
    """Of items shown less often than propensities say; empty where none is recognised."""
    floor = clipped(places)
    found = [] if floor is None else [f"{floor:.3g} stands at many different items: clipped from below?"]
    return "".join(f"; {cause}" for cause in [*_rounded(places), *found])


def bounded(places: Places) -> bool:
    """No item is hardly ever shown, for propensities have a floor."""
    return clipped(places) is not None or any(_rounded(places))


def causes(places: Places) -> str:
    """Of any misfit."""
    return causes_of_high(places) or causes_of_low(places)


def _slates(places: Places) -> Iterator[str]:
    if not places.fewer:
        return
    # Neighbours in a slate.
    pair = np.flatnonzero(places.rank[1:] > 0)
    equal = np.abs(places.inverse[pair + 1] / places.inverse[pair] - 1.0) < _ALIKE
    if equal.mean() > 0.99:
        yield "all items of a slate have the same one: the slate's probability?"
    elif (alike := _by_item(places))[2].all() and alike[0][alike[0] > 1].sum() > 0.9 * alike[0].sum():
        yield "an item's is the same in every place, though slates repeat none: those of the first place?"


def _rounded(places: Places) -> Iterator[str]:
    some = 1.0 / _some(places)
    for decimals in (1, 2):
        scaled = some * 10**decimals
        if np.all(np.abs(scaled - np.round(scaled)) < 1e-4):
            step = 10.0**-decimals
            yield f"all are multiples of {step:g}: rounded? (the smallest, {some.min():.3g}, up to {step / 2:g} off)"
            return


def clipped(places: Places) -> float | None:
    """The smallest propensity, where it alone stands at different items; None where it does not look like a floor."""
    some = _some(places)
    item = places.item[:: _every(places)]
    value, number = np.unique(np.round(np.log(some) / _ALIKE).astype(np.int64), return_inverse=True)
    pairs = np.unique(number * places.catalogue + item) // places.catalogue
    items = np.bincount(pairs, minlength=len(value))
    at_floor = int((number == len(value) - 1).sum())
    others = items[:-1]
    if len(others) < 3 or items[-1] < 2 or at_floor < max(10, 0.005 * len(some)) or (others > 1).mean() > 0.1:
        return None
    return float(1.0 / some.max())


def _every(places: Places) -> int:
    return 1 + len(places.item) // _MOST_LOOKED_AT


def _some(places: Places) -> np.ndarray:
    """1/p of a systematic sample of places."""
    return places.inverse[:: _every(places)]
