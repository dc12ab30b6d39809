"""Units that stand in a log more than once under different ids, beyond what chance explains.

A log that was loaded twice looks like twice the evidence. Equal contents alone prove nothing: a session of one item out
of ten with a click or none coincides with many others. Three traces do.

Whole      The whole log stands k times: the number of times that a content stands is a multiple of k, for every one.
           Where contents are few, chance does that, too. But wherever another answer, or another unit in between, could
           have broken the pattern and did not, chance halves at least; seven such places are enough.
           With copies side by side (`np.repeat`) or one log behind the other, any k is found unless the log is sorted;
           in any other order 2 and 3, where some seven items, say, have sessions with and without a click.
Propensity Two independent units are shown the same items with no more chance than their propensities say. Where that
           leaves no room for an equal pair in the whole log, each equal pair is a copy, however few there are.
Spread     Without propensities: of independent units, whatever they are drawn from, the numbers f_k of contents that
           stand k times obey E[f_k]^2 <= (k + 1) / k E[f_(k-1)] E[f_(k+1)] (mixtures of Poisson numbers, by
           Cauchy-Schwarz). Pairs without threes beside them break it. Of n units of which no two are alike, a share s
           that stands twice is found from about n s^2 = 50 on: all of 30, 30% of 500, 10% of 5,000.

Answers have to agree as well: a log can show each of 5,000 items exactly twice by design, but then one of two showings
is clicked and the other is not. Copies of what nobody answered are thus not found, and hardly count.

Not found: a part of a log of poor units (one item of ten, a click or none) that stands twice; a whole log of them, of
which a few were lost afterwards; copies with time stamps of their own; a handful of copies without propensities.
Taken for copies though they are none: what a design without chance and answers without chance repeat exactly, such as a
rotation of items whose rewards are fixed; units whose propensities are far too small.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from recil.logs.clusters import Clusters, clusters_of
from recil.logs.fingerprints import Fingerprints, fingerprints, log_chances
from recil.logs.session_log import SessionLog

_CHANCE_OF_WHOLE = 1e-2  # given the design, whatever it is; by chance in the items, too, it is the square or less
_CHANCE = 1e-4
_MOST_OUT_OF_ORDER, _MOST_OF_PART = 3, 5
_MOST_EVIDENCE = 300  # beyond it a float holds no chance
_ENOUGH_ANSWERS, _DISAGREE = 10, 0.25


@dataclass(frozen=True)
class Repeats:
    """What stands in a log more than once.

    copies  units beyond the first of their group, 0 where nothing was found
    of      int64 [S], the group of each session: copies of one unit share it; None where nothing was found
    chance  bound on the probability of such a find in a log without copies; 1 where nothing was found
    reason  in words, empty where nothing was found
    """

    copies: int
    of: np.ndarray | None
    chance: float
    reason: str


NOTHING = Repeats(0, None, 1.0, "")


def repeats_of(log: SessionLog, units: Clusters | None = None) -> Repeats:
    """Units (`clusters_of(log)` when None) that stand in the log more than once; see above for what can be found."""
    if not log.sessions:
        return NOTHING
    units = clusters_of(log) if units is None else units
    prints = fingerprints(log, units)
    sizes = _sizes(prints.content)
    if sizes.max() == 1:
        return NOTHING
    found = _whole(prints, sizes, units) or _improbable(log, prints, units) or _spread(prints, sizes, units)
    return found or NOTHING


def merged(units: Clusters, repeats: Repeats) -> Clusters:
    """The units with copies taken for one: a group has the address of its smallest, so that parts agree."""
    if repeats.of is None:
        return units
    count = int(repeats.of.max()) + 1
    keys = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(keys, repeats.of, units.keys)
    return Clusters(units.name, repeats.of, keys[repeats.of], count)


def _whole(prints: Fingerprints, sizes: np.ndarray, units: Clusters) -> Repeats | None:
    """Every content stands a multiple of k times, and what could have broken that is enough."""
    times = int(np.gcd.reduce(sizes))
    if times == 1:
        return None
    looks = [lambda: _in_pairs(prints.content, times), lambda: _in_blocks(prints, times)]
    looks += [lambda: _in_counts(prints)] if times <= _MOST_OUT_OF_ORDER else []
    for look in looks:
        chance = float(times) ** -min(look(), _MOST_EVIDENCE)
        if chance <= _CHANCE_OF_WHOLE:
            of = _grouped(prints.content, np.ones(units.count, dtype=bool), times)
            return _found(of, units, chance, f"every {units.name} stands in the log {times} times")
    return None


def _in_pairs(content: np.ndarray, times: int) -> int:
    """How many more stretches of equal units there are than contents, where all are as long as a multiple of k."""
    starts = np.flatnonzero(np.append(True, content[1:] != content[:-1]))
    lengths = np.diff(np.append(starts, len(content)))
    return 0 if (lengths % times).any() else len(starts) - len(_sizes(content))


def _in_blocks(prints: Fingerprints, times: int) -> int:
    """How many more stretches of equal answers to the same there are than contents, where the log is k times the same.

    A rotation of items would repeat itself, too, but not the answers to it.
    """
    blocks = prints.content.reshape(times, -1)
    if (blocks != blocks[0]).any():
        return 0
    given, content = prints.given[: blocks.shape[1]], blocks[0]
    order = np.argsort(given, kind="stable")
    changes = (given[order][1:] != given[order][:-1]) | (content[order][1:] != content[order][:-1])
    return 1 + int(changes.sum()) - len(_sizes(content))


def _in_counts(prints: Fingerprints) -> int:
    """Different answers to the same, beyond the first; and answers out of the common where there is only one."""
    content, first, sizes = np.unique(prints.content, return_index=True, return_counts=True)
    _, of, answers = np.unique(prints.given[first], return_inverse=True, return_counts=True)
    alone = answers[of] == 1
    rare = prints.answer[first] != _common(prints.answer[first], sizes)
    return len(content) - len(answers) + int((alone & rare).sum())


def _improbable(log: SessionLog, prints: Fingerprints, units: Clusters) -> Repeats | None:
    """Equal units whose items came together with less chance than all pairs of the log have room for."""
    if log.propensity is None:
        return None
    chance = log_chances(log, units) + np.log(units.count)
    rich = np.flatnonzero(chance <= np.log(_CHANCE / units.count))
    if len(rich) < 2:
        return None
    order = rich[np.argsort(prints.content[rich], kind="stable")]
    equal = prints.content[order][1:] == prints.content[order][:-1]
    if not equal.any():
        return None
    if not _answers_agree(prints, rich, None, 0):
        return None
    copied = np.zeros(units.count, dtype=bool)
    copied[order[1:][equal]] = copied[order[:-1][equal]] = True
    of = _grouped(prints.content, copied, None)
    expected = float(np.exp(chance[rich]).sum())
    return _found(of, units, expected, "and by their propensities no two would be alike")


def _spread(prints: Fingerprints, sizes: np.ndarray, units: Clusters) -> Repeats | None:
    """Contents that stand k times are too many beside those that stand once more or once less."""
    often = _too_many(sizes)
    if not often:
        return None
    # Answers are nobody's design: where they repeat by themselves, nothing else has to speak for it.
    if not set(often) & set(_too_many(_sizes(prints.answer))) and not _answers_agree(
        prints, np.arange(units.count), often, _ENOUGH_ANSWERS
    ):
        return None
    _, of, size = np.unique(prints.content, return_inverse=True, return_counts=True)
    grouped = _grouped(prints.content, np.isin(size[of], often), often[0])
    words = " or ".join(map(str, often))
    return _found(
        grouped, units, _CHANCE, f"too many contents stand {words} times, beside those more and less frequent"
    )


def _too_many(sizes: np.ndarray) -> list[int]:
    """The numbers of times that more contents stand in the log than a mixture of Poisson numbers allows.

    Counts of contents are sums of independent events, whose tails are lighter than those of the Poisson limits here.
    """
    number = np.bincount(sizes, minlength=_MOST_OF_PART + 2)[: _MOST_OF_PART + 2]
    level = _CHANCE / (3 * (_MOST_OF_PART - 1))
    low = stats.chi2.ppf(level, 2 * np.maximum(number, 1)) / 2 * (number > 0)
    high = stats.chi2.isf(level, 2 * number + 2) / 2
    return [k for k in range(2, _MOST_OF_PART + 1) if low[k] ** 2 > (k + 1) / k * high[k - 1] * high[k + 1]]


def _answers_agree(prints: Fingerprints, among: np.ndarray, sizes: list[int] | None, enough: int) -> bool:
    """Whether units to which the same was given answered alike: out of the common they agree, and hardly any differ.

    among: positions of units; sizes: how many have the same given (None: any number); enough: so many groups must agree
    in an answer out of the common.
    """
    _, of, size = np.unique(prints.given[among], return_inverse=True, return_counts=True)
    content = prints.content[among]
    order = np.lexsort((content, of))
    ends = np.cumsum(size) - 1
    first, last = order[ends - size + 1], order[ends]
    asked = size > 1 if sizes is None else np.isin(size, sizes)
    differ = content[first] != content[last]
    rare = prints.answer[among][first] != _common(prints.answer, np.ones(len(prints.answer)))
    agreeing, disagreeing = int((asked & ~differ & rare).sum()), int((asked & differ).sum())
    return agreeing >= enough and disagreeing <= _DISAGREE * agreeing


def _common(values: np.ndarray, weight: np.ndarray) -> np.uint64:
    different, of = np.unique(values, return_inverse=True)
    return different[np.bincount(of, weight).argmax()]


def _sizes(values: np.ndarray) -> np.ndarray:
    """How often each of the different values stands there."""
    ordered = np.sort(values)
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    return np.diff(np.append(starts, len(ordered)))


def _grouped(content: np.ndarray, copied: np.ndarray, times: int | None) -> np.ndarray:
    """int64 [U]: equal units among the `copied` share a number, `times` of them at most; all others have their own."""
    order = np.argsort(content, kind="stable")
    starts = np.append(True, content[order][1:] != content[order][:-1])
    place = np.arange(len(order))
    place -= np.maximum.accumulate(np.where(starts, place, 0))
    new = starts | ~copied[order]
    if times is not None:
        new |= place % times == 0
    of = np.empty(len(order), dtype=np.int64)
    of[order] = np.cumsum(new) - 1
    return of


def _found(of: np.ndarray, units: Clusters, chance: float, why: str) -> Repeats:
    copies = len(of) - (int(of.max()) + 1)
    reason = f"{copies:,} of {len(of):,} {units.plural} are copies of others under other ids: {why}"
    return Repeats(copies, of[units.numbers], chance, reason)
