"""64-bit numbers for what the units of a log hold: equal contents have equal ones, others by chance one pair in 2^64.

A step is hashed from its columns by multiplication with odd constants and the splitmix64 finaliser (Steele, Lea & Flood
2014), a session from its steps and their order, a unit from its sessions in any order. Ids do not count. A run of
sessions is looked at after the other, so that a log on disk is read once from end to end.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from recil.logs.clusters import Clusters
from recil.logs.session_log import SessionLog

_GOLDEN, _MIX_1, _MIX_2 = (np.uint64(word) for word in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_STEPS_AT_ONCE = 1 << 16  # what they need stays in the cache


@dataclass(frozen=True)
class Fingerprints:
    """Of U units, uint64 [U] each.

    given    what was there before anybody answered: items, propensities, times, context, user features
    answer   rewards, feedback, and whether the user left
    content  both, session by session
    """

    given: np.ndarray
    answer: np.ndarray
    content: np.ndarray


def fingerprints(log: SessionLog, units: Clusters) -> Fingerprints:
    """The fingerprints of the log's units; those of one log may be compared, and of none with another."""
    given, answer = np.empty(log.sessions, dtype=np.uint64), np.empty(log.sessions, dtype=np.uint64)
    for sessions, rows in runs(log):
        begun = log.offsets[sessions] - rows.start
        number = np.arange(rows.stop - rows.start, dtype=np.uint64)
        number = (number - np.repeat(begun.astype(np.uint64), log.lengths[sessions])) * _GOLDEN
        for found, columns in ((given, _given(log, rows)), (answer, _answered(log, rows))):
            found[sessions] = np.add.reduceat(mixed(_combined(number.copy(), columns)), begun)
        _combined(given[sessions], (column.values[sessions] for column in log.user_features.values()))
        if log.terminated is not None:
            answer[sessions] += log.terminated[sessions] * _MIX_2
    content = mixed(given + mixed(answer.copy()))
    return Fingerprints(*(_by_unit(values, units) for values in (given, answer, content)))


def log_chances(log: SessionLog, units: Clusters) -> np.ndarray:
    """float64 [U]: the log of the probability that a unit was shown just its items, by the log's propensities."""
    assert log.propensity is not None
    found = np.empty(log.sessions)
    for sessions, rows in runs(log):
        shown = log.items[rows] >= 0
        with np.errstate(divide="ignore"):  # a propensity of 0 is for others to refuse
            logs = np.log(np.where(shown, log.propensity[rows], np.float32(1)))
        found[sessions] = np.add.reduceat(logs.sum(1, dtype=np.float64), log.offsets[sessions] - rows.start)
    return found if units.of is None else np.bincount(units.of, found, units.count)


def runs(log: SessionLog) -> Iterator[tuple[slice, slice]]:
    """Runs of sessions, and their steps."""
    start = 0
    while start < log.sessions:
        first = int(log.offsets[start])
        stop = max(start + 1, int(np.searchsorted(log.offsets, first + _STEPS_AT_ONCE, side="right")) - 1)
        yield slice(start, stop), slice(first, int(log.offsets[stop]))
        start = stop


def mixed(words: np.ndarray) -> np.ndarray:
    """The splitmix64 finaliser, as in recil.random, on uint64 in their own memory."""
    shifted = np.empty_like(words)
    for bits, factor in ((30, _MIX_1), (27, _MIX_2), (31, None)):
        words ^= np.right_shift(words, np.uint64(bits), out=shifted)
        if factor is not None:
            words *= factor
    return words


def _by_unit(values: np.ndarray, units: Clusters) -> np.ndarray:
    if units.of is None:
        return values
    total = np.zeros(units.count, dtype=np.uint64)
    np.add.at(total, units.of, values)
    return total


def _given(log: SessionLog, rows: slice) -> Iterator[np.ndarray]:
    items, propensity = log.items[rows], None if log.propensity is None else log.propensity[rows]
    for slot in range(log.slate_size):
        yield items[:, slot]
        if propensity is not None:
            yield _at_items(propensity[:, slot], items[:, slot])
    if log.timestamp is not None:
        yield log.timestamp[rows]
    for column in log.context.values():
        yield column.values[rows]


def _answered(log: SessionLog, rows: slice) -> Iterator[np.ndarray]:
    items = log.items[rows]
    for values in (log.reward, *(column.values for column in log.feedback.values())):
        for slot in range(log.slate_size):
            yield _at_items(values[rows, slot], items[:, slot])


def _at_items(values: np.ndarray, items: np.ndarray) -> np.ndarray:
    """What stands where nothing is shown says nothing."""
    shown = items >= 0
    return values if shown.all() else np.where(shown, values, values.dtype.type(0))


def _combined(total: np.ndarray, columns: Iterator[np.ndarray]) -> np.ndarray:
    """`total` (uint64 [n], in its own memory) and the columns ([n] each), every one times a constant of its own."""
    for number, values in zip(count(1), columns, strict=False):
        words = _words(values)
        words *= _constant(number)
        total += words
    return total


def _constant(number: int) -> np.uint64:
    return mixed(np.array([number], dtype=np.uint64) * _GOLDEN)[0] | np.uint64(1)


def _words(values: np.ndarray) -> np.ndarray:
    """uint64 [n], one for each value. Numbers of few digits end in zero bits, which a product would keep: they move."""
    if values.dtype == np.float32:
        bits = (values + np.float32(0)).view(np.uint32)  # -0.0 is 0.0
        return (bits ^ (bits >> np.uint32(23))).astype(np.uint64)
    if values.dtype.kind == "f":
        bits = (values.astype(np.float64) + 0.0).view(np.uint64)
        return bits ^ (bits >> np.uint64(52))
    return values.astype(np.int64).view(np.uint64)
