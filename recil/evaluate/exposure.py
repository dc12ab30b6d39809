"""How often items were shown, against how often their propensities say: what the checks of a log rest on.

Given what stood before, an item shown with probability p adds 1/p to its group, and the expectation of that is the
number of the group's items that could stand there. The differences of both have mean 0 whatever the policy, whatever it
looks at, and are uncorrelated over the places of a session; sums over places therefore tell right propensities from
wrong ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np

from recil.errors import InputError
from recil.evaluate.loggers import propensity_in_its_time
from recil.evaluate.scoring import log_propensity_of, session_batches
from recil.logs.clusters import SESSION, clusters_of
from recil.logs.session_log import PAD, SessionLog
from recil.policies.protocol import Policy

# The context column that says how many items could have stood in a slate's first place.
CANDIDATES = "candidates"
_MOST_SESSIONS = 2048
_MOST_SCORES = 1 << 25
_MOST_UNITS = 20_000
FEWEST_SHOWN = 20


@dataclass(frozen=True)
class Places:
    """The M places that were filled, in the order of the log.

    item, step  int64 [M]
    moment      int64 [M], the place of its session in time, 0 to that of the last
    rank        int64 [M], items that stand before it in its slate
    inverse     float64 [M], 1/p
    could       float64 [M], items that could stand there
    unit        int64 [M], whose place it is: the user's or the session's
    catalogue   A
    repeated    slates hold an item twice: every place is filled from all candidates
    alone       every place is a unit of its own
    """

    item: np.ndarray
    step: np.ndarray
    moment: np.ndarray
    rank: np.ndarray
    inverse: np.ndarray
    could: np.ndarray
    unit: np.ndarray
    catalogue: int
    repeated: bool
    alone: bool

    @property
    def fewer(self) -> bool:
        """Some items of a slate leave fewer for those after them."""
        return not self.repeated and self.slates

    @cached_property
    def slates(self) -> bool:
        """Some steps show several items."""
        return bool(self.rank.any())

    def take(self, chosen: np.ndarray) -> Places:
        arrays = ("item", "step", "moment", "rank", "inverse", "could", "unit")
        return replace(self, **{name: getattr(self, name)[chosen] for name in arrays})

    def part(self, chosen: np.ndarray) -> Places:
        """These slates (bool or int [M]) as a log of their own, whose sessions follow one another."""
        part = self.take(chosen)
        return replace(part, moment=np.unique(part.moment, return_inverse=True)[1])


def places_of(log: SessionLog, behaviour: Policy | None, cluster: str | None = None) -> Places:
    """All filled places; `behaviour`'s propensities where the log has none."""
    filled = log.items != PAD
    step = np.nonzero(filled)[0]
    session = np.repeat(np.arange(log.sessions), log.lengths)[step]
    rank = (np.cumsum(filled, 1) - 1)[filled]
    repeated = repeats(log)
    unit = _unit(log, cluster)
    candidates = candidates_of(log)
    could = np.full(len(step), float(log.catalogue)) if candidates is None else candidates[step].astype(np.float64)
    return Places(
        item=log.items[filled].astype(np.int64),
        step=step,
        moment=_order_of(log)[session],
        rank=rank,
        inverse=_inverse(log, behaviour)[filled],
        could=could if repeated else could - rank,
        unit=session if unit is None else unit[session],
        catalogue=log.catalogue,
        repeated=repeated,
        alone=unit is None and len(step) == log.sessions,
    )


def _order_of(log: SessionLog) -> np.ndarray:
    """int [S]: the place of each session by its start or, where no time is known, in the log."""
    place = np.arange(log.sessions)
    if log.timestamp is not None:
        place[np.argsort(log.timestamp[log.offsets[:-1]], kind="stable")] = np.arange(log.sessions)
    return place


def _unit(log: SessionLog, cluster: str | None) -> np.ndarray | None:
    """int64 [S]; None: every session is a unit, for which no id has to be looked at."""
    by_session = cluster == SESSION or (cluster is None and log.user_ids is None)
    return None if by_session else clusters_of(log, cluster).of


def _inverse(log: SessionLog, behaviour: Policy | None) -> np.ndarray:
    """1/p, float64 [N, K]."""
    propensity = propensity_in_its_time(log, _order_of(log))
    if propensity is not None:
        return 1.0 / propensity.astype(np.float64)
    found = np.ones(log.items.shape)
    for chosen in session_batches(log, _MOST_SESSIONS, _MOST_SCORES):
        rows, inside = log.rows(chosen)
        found[rows[inside]] = (-log_propensity_of(log.batch(chosen), behaviour)).exp().numpy()[inside]
    return found


def candidates_of(log: SessionLog) -> np.ndarray | None:
    """float32 [N], the context column `candidates`, checked; None where there is none."""
    column = log.context.get(CANDIDATES)
    if column is None:
        return None
    place = f"context_{CANDIDATES}"
    if column.categories is not None or column.values.ndim != 1:
        raise InputError(place, "it holds no numbers", "give the number of items that could stand in the first place")
    shown = (log.items != PAD).sum(1)
    needed = np.minimum(shown, 1) if repeats(log) else shown
    bad = ~((column.values >= needed) & (column.values <= log.catalogue))
    if bad.any():
        step = int(np.argmax(bad))
        raise InputError(
            place,
            f"{column.values[step]:g} in step {step} of the log, where {shown[step]} of {log.catalogue} items were "
            f"shown, and {int(bad.sum())} such values in all",
            "give the number of items that could stand in the first place, at most the catalogue's",
        )
    return column.values


def repeats(log: SessionLog) -> bool:
    """Slates hold an item twice: places are filled from the whole catalogue."""
    columns = log.items.T
    return any(bool(((one == other) & (one != PAD)).any()) for one, other in combinations(columns, 2))


@dataclass(frozen=True)
class Groups:
    """Which group of items each place belongs to.

    of      int64 [M]
    fold    int64 [M], the half of the log that the place is in
    sizes   float64 [2, G], items of each group, by half
    single  every group is one item, in the order of the catalogue
    """

    of: np.ndarray
    fold: np.ndarray
    sizes: np.ndarray
    single: bool


def groups_of(places: Places, groups: int) -> Groups:
    """Items by themselves or, where they are more than `groups`, those shown alike often together.

    How often is counted in the other half of the units, so that no place has a say in its own group: groups of what
    happens to be shown often would seem to be shown too often.
    """
    if places.catalogue <= groups:
        fold = np.zeros(len(places.item), dtype=np.int64)
        return Groups(places.item, fold, np.ones((2, places.catalogue)), True)
    fold = places.unit % 2
    shown = np.bincount(fold * places.catalogue + places.item, minlength=2 * places.catalogue)
    table = np.stack([_by_showings(count, groups) for count in shown.reshape(2, -1)[::-1]])
    sizes = np.stack([np.bincount(row, minlength=groups) for row in table]).astype(np.float64)
    return Groups(table.ravel()[fold * places.catalogue + places.item], fold, sizes, False)


def _by_showings(shown: np.ndarray, groups: int) -> np.ndarray:
    """int64 [A]: groups of about equal numbers of items shown, the most shown item in the first."""
    order = np.argsort(-shown, kind="stable")
    # One more each, so that items never shown are spread too.
    weight = shown[order] + 1.0
    middle = np.cumsum(weight) - weight / 2
    group = np.empty(len(shown), dtype=np.int64)
    group[order] = np.minimum(middle * groups / weight.sum(), groups - 1).astype(np.int64)
    return group


@dataclass(frozen=True)
class Exposure:
    """By cell of the log (a period, or a place of the slate) and group of items, float64 [C, G].

    found     sum of 1/p over the places where an item of the group stood
    expected  what that is in expectation
    squares   sum of 1/p**2, the variance of `found` but for its own mean
    shown     items of the group shown
    places    [C], all places
    inflated  [G], by how much a unit's places, taken together, vary more than places that have nothing in common
    """

    found: np.ndarray
    expected: np.ndarray
    squares: np.ndarray
    shown: np.ndarray
    places: np.ndarray
    inflated: np.ndarray

    def merged(self, cells: int) -> Exposure:
        """Neighbouring cells as one."""

        def merge(part: np.ndarray) -> np.ndarray:
            return part.reshape(cells, -1, *part.shape[1:]).sum(1)

        names = ("found", "expected", "squares", "shown", "places")
        return replace(self, **{name: merge(getattr(self, name)) for name in names})

    @property
    def seen(self) -> np.ndarray:
        """bool [G]: shown often enough to see how its weights vary."""
        return self.shown.sum(0) >= FEWEST_SHOWN


def exposure(places: Places, groups: Groups, cell: np.ndarray, cells: int) -> Exposure:
    """Over all places; cell int64 [M], below `cells`."""
    width = groups.sizes.shape[1]
    place = cell * width + groups.of

    def summed(weight: np.ndarray | None) -> np.ndarray:
        return np.bincount(place, weight, minlength=cells * width).reshape(cells, width).astype(np.float64)

    in_half = np.bincount(cell * 2 + groups.fold, minlength=2 * cells).reshape(cells, 2)
    expected = in_half @ groups.sizes - _taken(places, groups, cell, cells)
    squares = summed(places.inverse**2)
    inflated = np.ones(width) if places.alone else _inflated(places, groups)
    return Exposure(summed(places.inverse), expected, squares, summed(None), in_half.sum(1).astype(float), inflated)


def _taken(places: Places, groups: Groups, cell: np.ndarray, cells: int) -> np.ndarray:
    """[C, G], over all places: the items of the group that stand before it in its slate."""
    width = groups.sizes.shape[1]
    taken = np.zeros(cells * width)
    for back in range(1, int(places.rank.max()) + 1 if places.fewer else 1):
        after = np.flatnonzero(places.rank >= back)
        taken += np.bincount(cell[after] * width + groups.of[after - back], minlength=cells * width)
    return taken.reshape(cells, width)


def _inflated(places: Places, groups: Groups) -> np.ndarray:
    """At least 1. With right propensities places are uncorrelated, unless a user meets one draw again and again."""
    if (every := (int(places.unit.max()) + 1) // _MOST_UNITS) > 1:
        few = np.flatnonzero(places.unit % every == 0)
        places, groups = places.take(few), replace(groups, of=groups.of[few], fold=groups.fold[few])
    unit = np.unique(places.unit, return_inverse=True)[1] if every > 1 else places.unit
    width, units = groups.sizes.shape[1], int(unit.max()) + 1
    place = unit * width + groups.of
    found, squares = (np.bincount(groups.of, places.inverse**power, minlength=width) for power in (1, 2))
    of_unit = np.bincount(place, places.inverse, minlength=units * width).reshape(units, width)
    could = np.bincount(unit * 2 + groups.fold, minlength=2 * units).reshape(units, 2) @ groups.sizes
    could -= _taken(places, groups, unit, units)
    ratio = found / np.maximum(could.sum(0), 1e-300)
    together = np.square(of_unit - ratio * could).sum(0)
    apart = squares - found**2 / len(places.item)
    return np.maximum(1.0, together / np.maximum(apart, 1e-12 * squares + 1e-300))
