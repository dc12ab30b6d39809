"""The log that would come if the target served a share of sessions: its moments, from a log without it.

With a probability ε a session is served by the target, else by the logging policy β. Balanced propensities are those of
the mixture over whole sessions, so that the weights w become

    w' = w / d,   d = (1 - ε) + ε w   at most 1/ε

and what is expected of a number f of a session under the mixture is E_β[d f] + ε m f̄, where m is the target's mass on
what β never shows, and f̄ its mean there. Of weights up to step t, E_β[d w_t'²] = E_β[w_t w_t']. The unseen part has
w' = 1/ε; it is taken to vary as the rest does, and by as much more as one slate can.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recil.evaluate.arrays import SessionArrays
from recil.evaluate.estimators import Estimator
from recil.evaluate.facts import LogFacts
from recil.evaluate.pass_over import PassConfig, Passed, arrays_over
from recil.evaluate.sequential import before
from recil.evaluate.spread import repeat_last, unscale
from recil.logs.session_log import PAD, SessionLog
from recil.policies.protocol import Policy

# By their influence functions: what a plan can be made for.
PLANNED = ("pdwis", "dr", "snips", "pdis", "ips")
# Weights above e**200 are taken for e**200, whose cube is finite; no verdict lets such an estimate through.
_LARGEST_LOG = 200.0


@dataclass(frozen=True)
class Moments:
    """Of sessions in a log that the target serves a share of.

    share    ε
    square   E[ψ²] of the estimate's influence: its variance is square / n
    cube     E|ψ|³
    apart    E[ψ²] of the difference to the logging policy's value
    mean, weight_square, largest  float64 [T], of weights up to each step: mean, mean square, largest
    size, size_square  mean and mean square of a session's weighted rewards, in size
    unit_square  mean over sessions of (Σ w')² of its unit, over its sessions; weight_square at the end without units
    """

    share: float
    square: float
    cube: float
    apart: float
    mean: Tensor
    weight_square: Tensor
    largest: Tensor
    size: float
    size_square: float
    unit_square: float

    @property
    def skewness(self) -> float:
        """Of the estimate, times √n."""
        return self.cube / self.square**1.5 if self.square > 0 else 0.0


class Explored(NamedTuple):
    """Moments for each share; drawn: float64 [A], how often each item stands in so many slates of the target's own."""

    moments: tuple[Moments, ...]
    drawn: np.ndarray
    slates: int


@dataclass(frozen=True)
class Centre:
    """What influences are counted from: values of the target and of the logging policy, whole and by step [T]; mean
    weights [T]."""

    value: float
    steps: Tensor
    logged: Tensor
    mean: Tensor

    @staticmethod
    def of(passed: Passed, facts: LogFacts, value: float) -> Centre:
        """Where the log shows nothing of the target, the logging policy's value takes the place of its."""
        sums, logged = passed.sums, facts.rewards.mean
        seen = sums.weight[0] > 0
        steps = torch.where(seen, sums.reward[0] / torch.where(seen, sums.weight[0], 1.0), logged)
        mean = sums.weight[0] * unscale(sums.weights.scale) / sums.sessions[0]
        return Centre(value if math.isfinite(value) else float(logged.sum()), steps, logged, mean)


def moments_of(
    policy: Policy,
    log: SessionLog,
    behaviour: Policy | None,
    estimator: Estimator,
    config: PassConfig,
    facts: LogFacts,
    centre: Centre,
    mass: float,
    shares: Sequence[float],
) -> Explored:
    """From one pass over the log.

    mass  of the target that the log cannot show
    """
    tallies = [_Tally(estimator, centre, mass, share, facts.rewards.span) for share in dict.fromkeys((0.0, *shares))]
    of = None if facts.units is None or facts.units.of is None else torch.from_numpy(facts.units.of)
    together = _Together(0 if of is None else facts.unit_count)
    drawn, slates = np.zeros(log.catalogue), 0
    for part in arrays_over({"": policy}, log, behaviour, config, facts):
        arrays = _as_long(part.arrays, len(centre.steps))
        for tally in tallies:
            tally.add(arrays)
        drawn += np.bincount(part.own[part.own != PAD], minlength=log.catalogue)
        slates += len(part.own)
        if of is not None:
            together.add(of[torch.from_numpy(part.sessions)], tallies[0].last)
    common = together.beyond(log.sessions)
    found = {tally.share: tally.moments(log.sessions, common) for tally in tallies}
    return Explored(tuple(found[share] for share in shares), drawn, slates)


def _as_long(arrays: SessionArrays, steps: int) -> SessionArrays:
    """With as many steps as the longest session has: an ended session keeps its last weight and earns nothing."""
    missing = steps - arrays.reward.shape[1]

    def longer(values: Tensor) -> Tensor:
        return torch.nn.functional.pad(values, (0, missing))

    return replace(
        arrays,
        log_weight=repeat_last(arrays.log_weight, steps).clamp(max=_LARGEST_LOG),
        reward=longer(arrays.reward),
        predicted=None if arrays.predicted is None else longer(arrays.predicted),
        expected=None if arrays.expected is None else longer(arrays.expected),
    )


class _Tally:
    """Sums over sessions as they would come at one share.

    last    [B, 3], of the last batch: ψ, ψ of the difference, w'
    powers  [2, 2], sums over sessions, taken once and by their weights: (G - V)² and |G - V|³
    """

    def __init__(self, estimator: Estimator, centre: Centre, mass: float, share: float, span: float) -> None:
        self.estimator, self.centre, self.share = estimator, centre, share
        self.mass, self.span = mass if share else 0.0, span
        self.mean = torch.maximum(centre.mean, (centre.mean + self.mass).clamp(max=1.0))
        self.sums = torch.zeros(5, dtype=torch.float64)
        self.weight_square = torch.zeros_like(self.mean)
        self.largest = torch.zeros_like(self.mean)
        self.last = torch.zeros(0, 3, dtype=torch.float64)
        self.powers = torch.zeros(2, 2, dtype=torch.float64)

    def add(self, arrays: SessionArrays) -> None:
        weight = arrays.log_weight
        often = _log_mixed(weight, self.share)
        mixed = weight - often
        of_target, of_logger = self._influence(mixed, arrays), self._logged(-often, arrays)
        size = (mixed.exp() * arrays.reward.abs()).sum(1)
        if self.estimator.leans_on == "session":
            size = mixed[:, -1].exp() * arrays.reward.abs().sum(1)
        numbers = (of_target**2, of_target.abs() ** 3, (of_target - of_logger) ** 2, size, size**2)
        self.sums += often[:, -1].exp() @ torch.stack(numbers, 1)
        self.weight_square += (weight + mixed).exp().sum(0)
        self.largest = torch.maximum(self.largest, mixed.amax(0).exp())
        self.last = torch.stack([of_target, of_target - of_logger, mixed[:, -1].exp()], 1)
        apart = arrays.reward.sum(1) - (self.centre.value if self.estimator.fills else 0.0)
        by = torch.stack([torch.ones_like(apart), weight[:, -1].exp()])
        self.powers += by @ torch.stack([apart**2, apart.abs() ** 3], 1)

    def moments(self, sessions: int, common: Tensor) -> Moments:
        square, cube, apart, size, size_square = (self.sums / sessions).tolist()
        weight_square, largest = self.weight_square / sessions, self.largest
        if self.mass:
            # What is not seen: a share ε m of sessions, each with the weight 1/ε.
            unseen = self.mass / self.share
            two, three = self._rest(sessions)
            square, apart, cube = square + unseen * two, apart + unseen * two, cube + unseen / self.share * three
            size, size_square = size + self.mass * math.sqrt(two), size_square + unseen * two
            weight_square, largest = weight_square + unseen, torch.full_like(largest, 1.0 / self.share)
        return Moments(
            share=self.share,
            square=square + float(common[0]),
            cube=cube,
            apart=apart + float(common[1]),
            mean=self.mean,
            weight_square=weight_square,
            largest=largest,
            size=size,
            size_square=size_square,
            unit_square=float(weight_square[-1]) + float(common[2]),
        )

    def _rest(self, sessions: int) -> tuple[float, float]:
        """E(G - V)² and E|G - V|³ taken for those of what is not seen: of the target where it is seen, or of the log
        where they are larger there, and of one slate with rewards at either end of their range."""
        logged = self.powers[0] / sessions
        seen = self.powers[1] / max(float(self.centre.mean[-1]) * sessions, 1e-300)
        two, three = torch.maximum(logged, seen).tolist()
        return two + (self.span / 2) ** 2, three + (self.span / 2) ** 3

    def _influence(self, log_weight: Tensor, arrays: SessionArrays) -> Tensor:
        """How much each session moves the estimate, times the number of sessions. [B]"""
        weight, name, centre = log_weight.exp(), self.estimator.name, self.centre
        if name == "ips":
            return weight[:, -1] * arrays.reward.sum(1) - centre.value
        if name == "snips":
            return weight[:, -1] * (arrays.reward.sum(1) - centre.value) / self._nonzero[-1]
        if name == "pdis":
            return (weight * arrays.reward).sum(1) - centre.value
        if name == "pdwis":
            return (weight * (arrays.reward - centre.steps) / self._nonzero).sum(1)
        assert arrays.predicted is not None and arrays.expected is not None
        model = before(log_weight).exp() * arrays.expected - weight * arrays.predicted
        return (weight * arrays.reward + model).sum(1) - centre.value

    def _logged(self, log_weight: Tensor, arrays: SessionArrays) -> Tensor:
        """The same of the logging policy's own value, by its weights 1 / d."""
        weight, logged = log_weight.exp(), self.centre.logged
        if self.estimator.leans_on == "session":
            return weight[:, -1] * (arrays.reward.sum(1) - logged.sum())
        return (weight * (arrays.reward - logged)).sum(1)

    @property
    def _nonzero(self) -> Tensor:
        return torch.where(self.mean > 0, self.mean, 1.0)


def _log_mixed(log_weight: Tensor, share: float) -> Tensor:
    """log((1 - ε) + ε w)."""
    if not share:
        return torch.zeros_like(log_weight)
    return torch.logaddexp(torch.full_like(log_weight, math.log1p(-share)), log_weight + math.log(share))


class _Together:
    """Sums by unit at a share of 0. What sessions of one unit have in common is the same at every share: d w' = w."""

    def __init__(self, units: int) -> None:
        self.totals = torch.zeros(units, 3, dtype=torch.float64)
        self.squares = torch.zeros(3, dtype=torch.float64)

    def add(self, of: Tensor, values: Tensor) -> None:
        self.totals.index_add_(0, of, values)
        self.squares += values.square().sum(0)

    def beyond(self, sessions: int) -> Tensor:
        """[3], the mean over sessions of their products with other sessions of the unit; 0 where that is negative."""
        return (self.totals.square().sum(0) - self.squares).clamp(min=0.0) / sessions
