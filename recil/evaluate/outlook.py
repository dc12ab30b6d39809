"""What becomes of an estimate with other numbers of sessions, and with a share of them served by the target.

More sessions make noise smaller, as n**-1/2, and effective sizes larger. They do not change the share of sessions that
the weights leave effective, the bias from what the log cannot show, propensities that are wrong or fitted, nor a tail
of rewards that is too heavy. Exploration shows what was not shown, and leaves no weight above 1 / share.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from scipy import stats
from torch import Tensor

from recil.evaluate.diagnostics import Diagnostics
from recil.evaluate.estimates import Estimate, Interval
from recil.evaluate.exploration import Centre, Moments
from recil.evaluate.facts import Faults, LogFacts
from recil.evaluate.margins import Margins
from recil.evaluate.missing import Missing
from recil.evaluate.planned import Cell, Way
from recil.evaluate.verdict import VERDICTS, Thresholds, Verdict, judge

MOST_SESSIONS = 10**9
_TIMES, _FAR = 2, 10_000
_NORMAL = torch.from_numpy(stats.norm.ppf((torch.arange(999, dtype=torch.float64) + 0.5).numpy() / 999))


@dataclass(frozen=True)
class Outlook:
    """Today's estimate, and all that says what becomes of it.

    moments by share; missing: what the log cannot show; sum_of_propensities: what speaks against the log because they
    add up to more than 1; counts [T], how much the weights at each step count
    """

    today: Estimate
    facts: LogFacts
    moments: dict[float, Moments]
    centre: Centre
    missing: Missing
    sum_of_propensities: str
    counts: Tensor
    confidence: float
    thresholds: Thresholds

    def cell(self, sessions: int, share: float) -> Cell:
        """With so many sessions, a share of them served by the target. Today's are as `evaluate` answers."""
        interval, verdict, reasons, seen = self._at(sessions, share)
        half, apart = 0.5 * (interval.high - interval.low), self._apart(sessions, share)
        return Cell(sessions, share, half, verdict, reasons, apart, seen.ess)

    def way(self, share: float) -> Way:
        """The fewest sessions for the best verdict that so many or more bring, and what keeps that from trust.

        Fewer than today's count where the verdict is as good all the way down to them: a bias can hide behind the noise
        of a small log.
        """
        sizes = [self.facts.sessions]
        while self._grade(sizes[-1], share) and _TIMES * sizes[-1] <= self._most:
            sizes.append(_TIMES * sizes[-1])
        grades = [self._grade(size, share) for size in sizes]
        best = min(grades)
        lasting = tuple(self._lasting(share)) if best else ()
        if best == VERDICTS.index("refuse"):
            return Way(share, "refuse", None, lasting)
        enough = sizes[grades.index(best)]
        while enough > 1 and self._grade(enough // 2, share) <= best:
            enough //= 2
        return Way(share, VERDICTS[best], self._bisected(enough // 2, enough, share, best), lasting)

    def _grade(self, sessions: int, share: float) -> int:
        return VERDICTS.index(self._at(sessions, share)[1])

    def _bisected(self, low: int, high: int, share: float, grade: int) -> int:
        while high - low > max(1, high // 100):
            middle = (low + high) // 2
            low, high = (low, middle) if self._grade(middle, share) <= grade else (middle, high)
        return high

    @property
    def _most(self) -> int:
        """As far as a plan looks."""
        return min(MOST_SESSIONS, _FAR * self.facts.sessions)

    def _at(self, sessions: int, share: float) -> tuple[Interval, Verdict, tuple[str, ...], Diagnostics]:
        """Interval, verdict and its reasons, and diagnostics."""
        if not share and (sessions == self.facts.sessions or not math.isfinite(self.today.raw.value)):
            return self.today.raw, self.today.verdict, self.today.reasons, self.today.diagnostics
        moments, value = self.moments[share], self.centre.value
        seen = self._diagnostics(sessions, moments)
        margins = self._margins(sessions, moments, seen)
        low, high = margins.noise(value, value + math.sqrt(moments.square / sessions) * _NORMAL, self.confidence)
        half = 0.5 * (high - low)
        seen = replace(seen, priced=max(margins.unseen_low, margins.unseen_high) / half if half > 0 else 0.0)
        interval = Interval(value, low - margins.unseen_low, high + margins.unseen_high)
        return interval, *judge(*interval, seen, self.thresholds, self._faults(sessions, share)), seen

    def _lasting(self, share: float) -> Iterator[str]:
        """What speaks against the estimate however many sessions there are."""
        seen, limit = self._at(self._most, share)[3], self.thresholds
        if not share and not math.isfinite(self.today.raw.value):
            yield "the target never shows what the log holds"
            return
        if seen.ess_share < limit.ess_share[0]:
            yield f"the weights leave {seen.ess_share:.1%} of {seen.units} effective, however many there are"
        if seen.priced > limit.priced[0]:
            mass = self.missing.mass * self.missing.left(self._most, share)
            yield f"{mass:.1%} of the target is not in the log, which is a bias and no noise"
        if self._over:
            yield f"mean weight {seen.mean_weight:.3g}: propensities are too small"
        if seen.skewness > min(limit.skewness[0], limit.tail_skewness[0]) and not seen.flat:
            yield f"large rewards keep deciding it (tail index {seen.tail_index:.2g})"
        if seen.fitted_propensities:
            yield "propensities are a fitted model's: have the logging policy write its own"
        faults = self._faults(self._most, share)
        yield from dict.fromkeys(reason for _, reason in (*faults.sessions, *faults.propensities))

    @property
    def _over(self) -> bool:
        """The mean weight is above 1 by more than chance."""
        now, limit = self.today.diagnostics, self.thresholds
        least = max(limit.mean_weight_over[0], limit.mean_weight_errors[0] * now.mean_weight_error)
        return now.mean_weight - 1.0 > least

    def _faults(self, sessions: int, share: float) -> Faults:
        """The log's, but that its items are withheld, where the target shows them."""
        faults = self.facts.faults
        if not (share and self.missing.withheld) or self.missing.left(sessions, share):
            return faults
        kept = tuple(fault for fault in faults.propensities if fault[1] != self.sum_of_propensities)
        return replace(faults, propensities=kept)

    def _diagnostics(self, sessions: int, moments: Moments) -> Diagnostics:
        """All but `priced`. What is not named here does not change."""
        now, before, times = self.today.diagnostics, self.moments[0.0], sessions / self.facts.sessions
        ess, more = self._ess(sessions, moments), _ratio(moments.skewness, before.skewness)
        size = _ratio(moments.size**2 * before.size_square, moments.size_square * before.size**2)
        kept = self._over or (not moments.share and now.mean_weight < 1)
        return replace(
            now,
            sessions=sessions,
            rewarded=math.ceil(now.rewarded * times),
            rewarded_ess=now.rewarded_ess * times * size,
            ess=ess,
            mean_weight=now.mean_weight if kept else 1.0,
            mean_weight_error=now.mean_weight_error / math.sqrt(times),
            largest_share=now.largest_share / times * _ratio(self._heaviest(moments), self._heaviest(before)),
            unseen_share=now.unseen_share * self.missing.left(sessions, moments.share),
            effective_units=now.effective_units * times,
            skewness=now.skewness * more * times ** -_pace(now),
        )

    def _ess(self, sessions: int, moments: Moments) -> float:
        """In units; as `diagnose` has it."""
        used = (self.counts > 0) & (moments.weight_square > 0)
        if not used.any():
            return 0.0
        squares, means = moments.weight_square[used], moments.mean[used] ** 2
        ess = sessions / float((self.counts[used] * squares / means).sum())
        return ess * min(1.0, float(moments.weight_square[-1]) / moments.unit_square)

    def _heaviest(self, moments: Moments) -> float:
        """The largest weight's share, times the number of sessions."""
        return float((self.counts * moments.largest / moments.mean.clamp(min=1e-300)).sum())

    def _margins(self, sessions: int, moments: Moments, seen: Diagnostics) -> Margins:
        now, rewards = self.today.margins, self.facts.rewards
        heavier = _ratio(float(moments.largest.max()), float(self.moments[0.0].largest.max()))
        fewer = heavier * self.facts.sessions / sessions
        rare, rarer = 3.0 / max(self.today.diagnostics.ess, 1.0), 3.0 / max(seen.ess, 1.0)
        left = self.missing.left(sessions, moments.share)
        gaps = (rewards.gap_low, rewards.gap_high)
        low, high = (
            left * max(0.0, unseen - rare * gap) + rarer * gap
            for unseen, gap in zip((now.unseen_low, now.unseen_high), gaps, strict=True)
        )
        return replace(
            now,
            units=max(seen.ess, 1.0),
            more_low=now.more_low * fewer,
            more_high=now.more_high * fewer,
            spread=math.sqrt(moments.square / sessions),
            unseen_low=low,
            unseen_high=high,
        )

    def _apart(self, sessions: int, share: float) -> float:
        """The smallest difference to the logging policy that would be clear."""
        moments = self.moments[share]
        pair = self._margins(sessions, moments, self._diagnostics(sessions, moments)).minus(Margins())
        low, high = pair.interval(0.0, math.sqrt(moments.apart / sessions) * _NORMAL, self.confidence)
        return max(-low, high)


def _ratio(new: float, old: float) -> float:
    return new / old if old > 0 else 1.0


def _pace(seen: Diagnostics) -> float:
    """Skewness falls as n to the power of minus this: 1/2; less without a third moment, and 0 without a second."""
    return 0.5 if seen.flat else min(0.5, max(0.0, 1.5 - 3.0 / max(seen.tail_index, 1e-9)))
