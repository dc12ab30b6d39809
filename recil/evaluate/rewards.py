"""What a log shows of its rewards, whatever policy is asked about: their range, their means, their tail."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.evaluate.scoring import stretches
from recil.logs.session_log import SessionLog

_MOST_STEPS = 1 << 18
# A reward that so many sessions reach is no rare event.
_KNOWN = 10
# Of the largest numbers so many are kept, for the tail index.
_TOP = 512
# Largest reward over the mean of those that are not 0, up to which a reward counts as an event of one size.
_FLAT = 3.0


@dataclass(frozen=True)
class Rewards:
    """Facts of a log's rewards; of a slate: summed over its positions; of a session: discounted and summed.

    low, high     least and largest reward of a slate: declared, or as the log shows (with 0, as slates without reward
                  are possible where one stands in the log)
    session_low, session_high  of a session, as the log shows or, where declared, as the range allows
    declared      the range was declared
    mean          float64 [T], mean discounted reward of a slate at each step over all sessions, 0 after a session's end
    longest       most steps of a session
    gap_low, gap_high  how far the declared range goes beyond what ten sessions reach, on either side, where rewards may
                  be negative: without, the interval itself counts with one more reward of the largest size
    tail_index    of the sizes of slates' rewards (Hill 1975, the top √n); its lower 95% limit, inf for a bounded tail
    flat          no reward is more than three times as large as the mean of those that are not 0
    """

    low: float = 0.0
    high: float = 1.0
    session_low: float = 0.0
    session_high: float = 1.0
    declared: bool = False
    mean: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.float64))
    longest: int = 1
    gap_low: float = 0.0
    gap_high: float = 0.0
    tail_index: float = math.inf
    flat: bool = True

    @property
    def span(self) -> float:
        return self.high - self.low

    @property
    def words(self) -> str:
        range_ = f"{self.low:.6g} to {self.high:.6g}"
        return f"rewards lie in {range_}, as declared" if self.declared else f"rewards taken to lie in {range_}"


def rewards_of(log: SessionLog, gamma: float = 1.0, declared: tuple[float, float] | None = None) -> Rewards:
    """Read off a log in one go over its rewards.

    Args:
        log: S sessions.
        gamma: discount by step.
        declared: least and largest reward that one slate can have, where it is known.

    Raises:
        InputError: the declared range is none, or the log has rewards outside of it.
    """
    longest = int(log.lengths.max())
    discount = gamma ** np.arange(longest)
    sums = np.zeros(longest)
    slates, sessions = _Extremes(), _Extremes()
    sizes = 0.0
    for _, run in stretches(log, _MOST_STEPS):
        reward = run.reward.sum(1, dtype=np.float64) if run.slate_size > 1 else run.reward[:, 0].astype(np.float64)
        slates.add(reward)
        sizes += float(np.abs(reward).sum())
        if longest > 1:
            step = np.arange(len(reward)) - np.repeat(run.offsets[:-1], run.lengths)
            reward = reward * discount[step]
            sums += np.bincount(step, reward, minlength=longest)
            reward = np.add.reduceat(reward, run.offsets[:-1])
        else:
            sums += reward.sum()
        sessions.add(reward)
    low, high = _range(slates, declared)
    size = sizes / max(slates.nonzero, 1)
    largest = max(abs(low), abs(high)) if not slates.nonzero else 0.0
    ends = (discount.sum() * low, discount.sum() * high) if declared else (sessions.low, sessions.high)
    return Rewards(
        low=low,
        high=high,
        session_low=min(ends[0], sessions.low),
        session_high=max(ends[1], sessions.high),
        declared=declared is not None,
        mean=torch.from_numpy(sums / log.sessions),
        longest=longest,
        gap_low=max(0.0, slates.known_low - low) if declared and low < 0 else 0.0,
        gap_high=max(0.0, high - slates.known_high) if declared and low < 0 else 0.0,
        tail_index=slates.tail_index,
        flat=max(abs(low), abs(high)) <= max(_FLAT * size, largest),
    )


def _range(slates: _Extremes, declared: tuple[float, float] | None) -> tuple[float, float]:
    if declared is None:
        return slates.low, slates.high
    low, high = map(float, declared)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError("reward_range", f"{low} to {high}", "give the least and the largest reward of one slate")
    if slates.low < low or slates.high > high:
        found = f"the log has rewards from {slates.low:.6g} to {slates.high:.6g}, outside {low:.6g} to {high:.6g}"
        raise InputError("reward_range", found, "give the range that the reward of one slate can have")
    return low, high


class _Extremes:
    """The ends of numbers that come in batches: least, largest, and the largest sizes."""

    def __init__(self) -> None:
        self.low, self.high = math.inf, -math.inf
        self.nonzero = 0
        self._least = self._most = self._top = np.zeros(0)

    def add(self, values: np.ndarray) -> None:
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        self.nonzero += int(np.count_nonzero(values))
        self._most = _largest(self._most, values, _KNOWN)
        self._least = -_largest(-self._least, -values, _KNOWN)
        self._top = _largest(self._top, np.abs(values), _TOP)

    @property
    def known_high(self) -> float:
        return float(self._most.min()) if len(self._most) == _KNOWN else self.low

    @property
    def known_low(self) -> float:
        return float(self._least.max()) if len(self._least) == _KNOWN else self.high

    @property
    def tail_index(self) -> float:
        """α with one-sided 95% confidence at least; α̂ = 1 / mean log excess over the k + 1st largest, error α̂/√k."""
        k = min(max(int(math.sqrt(self.nonzero)), 5), self.nonzero - 1, _TOP - 1)
        if k < 2:
            return math.inf
        top = np.sort(self._top)[::-1][: k + 1]
        excess = float(np.log(top[:k] / top[k]).mean())
        return max(0.0, 1.0 - 1.645 / math.sqrt(k)) / excess if excess > 0 else math.inf


def _largest(kept: np.ndarray, values: np.ndarray, count: int) -> np.ndarray:
    if len(kept) == count:
        values = values[values > kept.min()]
    both = np.concatenate([kept, values])
    return both if len(both) <= count else np.partition(both, len(both) - count)[-count:]
