"""The session bootstrap: Poisson counts addressed by session, and the interval read off the replicates.

A count depends on (seed, session id, replicate) alone (Chamandy, Muralidharan, Najmi & Naidu 2012, "Estimating
uncertainty for massive data streams"), so any partition of a log gives the same replicates, and two policies evaluated
on one log share them: their difference is paired.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from recil.errors import InputError
from recil.logs.clusters import keys_of
from recil.random import Streams

# Beyond it the levels of a 99.9% interval would turn back.
_FASTEST = 0.2
Name = TypeVar("Name", bound=Hashable)

_GOLDEN, _MIX_1, _MIX_2 = (np.uint64(word) for word in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def session_keys(session_ids: np.ndarray) -> Tensor:
    """int64 [S]: whole-number ids as they are, others by the hash of their text."""
    return torch.from_numpy(keys_of(session_ids))


# A count is at least k where a random byte is at least _EDGES[k - 1]: 94, 95, 46, 16, 4 and 1 of 256 bytes are 0 to 5.
# Mean and variance are 1 exactly, the third factorial moment is .984, where a Poisson count's are all 1.
_EDGES = (94, 189, 235, 251, 255)
# Sessions that are drawn at once, and sessions that are summed at once: what they need stays in the cache.
_DRAWN, _SESSIONS = 512, 256


def poisson_counts(streams: Streams, keys: Tensor, replicates: int) -> Tensor:
    """uint8 [replicates + 1, B]: how often each replicate takes each session (int64 [B]); row 0 is ones.

    Eight replicates share a random word, a byte each; what a byte can tell of a Poisson count with mean 1 it does.
    """
    words = -(-replicates // 8)
    counts = np.empty((len(keys), 1 + 8 * words), dtype=np.uint8)
    counts[:, 0] = 1
    key = streams.keys("bootstrap", keys).numpy().view(np.uint64)[:, None]
    address = np.arange(1, words + 1, dtype=np.uint64) * _GOLDEN
    spare = np.empty((2, _DRAWN, 8 * words), dtype=bool)
    for start in range(0, len(keys), _DRAWN):
        drawn = _mixed(key[start : start + _DRAWN] + address).view(np.uint8)
        count, reached = spare[:, : len(drawn)]
        np.greater_equal(drawn, _EDGES[0], out=count)
        total, one_more = count.view(np.uint8), reached.view(np.uint8)
        for edge in _EDGES[1:-1]:
            np.greater_equal(drawn, edge, out=reached)
            np.add(total, one_more, out=total)
        np.greater_equal(drawn, _EDGES[-1], out=reached)
        np.add(total, one_more, out=counts[start : start + _DRAWN, 1:])
    return torch.from_numpy(counts).T[: replicates + 1]


def _mixed(words: np.ndarray) -> np.ndarray:
    """The splitmix64 finaliser, as in recil.random, on uint64 in their own memory."""
    shifted = np.empty_like(words)
    for bits, factor in ((30, _MIX_1), (27, _MIX_2), (31, None)):
        words ^= np.right_shift(words, bits, out=shifted)
        if factor is not None:
            words *= factor
    return words


def totals(counts: Tensor, parts: Mapping[Name, Tensor]) -> dict[Name, Tensor]:
    """Sums over sessions in every replicate: counts [R, B] of any type, parts [B, ...] -> [R, ...] each, float64.

    The counts are looked at once for all parts, a block of sessions after the other, which stays in the cache.
    """
    columns = torch.cat([part.double().reshape(len(part), -1).T for part in parts.values()])
    often = counts.T
    found = columns.new_zeros(len(columns), len(counts))
    taken = columns.new_empty(_SESSIONS, len(counts))
    for start in range(0, len(often), _SESSIONS):
        some = slice(start, start + _SESSIONS)
        block = taken[: len(often[some])].copy_(often[some])
        found.addmm_(columns[:, some], block)
    shapes = {name: part.shape[1:] for name, part in parts.items()}
    pieces = found.split([shape.numel() for shape in shapes.values()])
    return {name: piece.T.reshape(-1, *shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}


def student_noise(replicates: int, degrees: int, pace: float) -> Tensor:
    """Student's t with these degrees of freedom, float64 [replicates]: its quantiles, spread by multiples of `pace`.

    An irrational pace has nothing to do with the bootstrap's draws, so that an error of another source can be added to
    its replicates without more noise than there must be.
    """
    place = (torch.arange(1, replicates + 1, dtype=torch.float64) * pace) % 1.0
    return torch.from_numpy(stats.t.ppf(place.clamp(1e-6, 1 - 1e-6).numpy(), max(degrees, 1)))


def percentile_interval(replicates: Tensor, confidence: float) -> tuple[float, float]:
    """The middle `confidence` of the replicates [R]; those in which the estimator is undefined are left out.

    Percentiles, because they stay inside the range of possible values and follow the skewness of sparse rewards and of
    self-normalised weights, where value ± standard error would go below 0. nan when no replicate is defined.
    """
    check_confidence(confidence)
    defined = replicates[~replicates.isnan()]
    if not len(defined):
        return math.nan, math.nan
    tail = (1.0 - confidence) / 2.0
    low, high = torch.quantile(defined, torch.tensor([tail, 1.0 - tail], dtype=defined.dtype)).tolist()
    return low, high


def corrected_interval(value: float, replicates: Tensor, confidence: float) -> tuple[float, float]:
    """Percentiles of the replicates [R], moved for their bias and skewness (BCa; Efron 1987).

    With sparse rewards and uneven weights an estimate varies most where it is high, so that plain percentiles lie too
    low. The acceleration is a sixth of the replicates' own skewness, which for sums over sessions is that of the
    estimate. Bounds stay within the replicates' range; nan as in `percentile_interval`.
    """
    check_confidence(confidence)
    defined = replicates[replicates.isfinite()]
    below = float(((defined < value).double() + 0.5 * (defined == value).double()).mean()) if len(defined) else 0.0
    if not 0.0 < below < 1.0:
        return percentile_interval(replicates, confidence)
    shift = float(stats.norm.ppf(below))
    # In units of the largest: squares and cubes of products of a hundred ratios would overflow.
    apart = defined / defined.abs().max()
    apart = apart - apart.mean()
    if not float(apart.std(unbiased=False)) > 0:
        return percentile_interval(replicates, confidence)
    skewness = float(apart.pow(3).mean() / apart.square().mean().pow(1.5))
    speed = min(max(skewness / 6.0, -_FASTEST), _FASTEST)
    ends = shift + stats.norm.ppf([(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    levels = stats.norm.cdf(shift + ends / (1.0 - speed * ends))
    low, high = torch.quantile(defined, torch.from_numpy(levels).to(defined.dtype)).tolist()
    return low, high


def check_confidence(confidence: float) -> None:
    if not 0.0 < confidence < 1.0:
        raise InputError("confidence", f"{confidence} is not between 0 and 1", "give .95 for a 95% interval")
