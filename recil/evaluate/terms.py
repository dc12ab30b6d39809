"""Sums over sessions that only some estimators need: one number, or a table by step, per session and term."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from recil.evaluate.arrays import SessionArrays
from recil.evaluate.spread import Spread, relative, repeat_last, unscale


class Sized(NamedTuple):
    """A number per session as factor · e**log_size: weights beyond the range of floats stay exact. [B] each."""

    factor: Tensor
    log_size: Tensor

    @property
    def values(self) -> Tensor:
        """[B], kept finite."""
        return torch.where(self.factor == 0, 0.0, self.factor * unscale(self.log_size))


def plain(values: Tensor) -> Sized:
    """Numbers that are no product of ratios, [B]."""
    return Sized(values, torch.zeros_like(values))


def collected(log_weight: Tensor, values: Tensor) -> Sized:
    """Per session the sum of e**log_weight · values, both [B, ...]."""
    log_weight, values = log_weight.flatten(1), values.flatten(1)
    log_size = torch.where(values == 0, -math.inf, log_weight).amax(1)
    return Sized((relative(log_weight, log_size[:, None]).masked_fill(values == 0, 0.0) * values).sum(1), log_size)


@dataclass(frozen=True)
class Term:
    """A number per session, summed. Terms of one name are one and the same."""

    name: str
    of: Callable[[SessionArrays], Sized]


@dataclass(frozen=True)
class StepTerm:
    """A table [T, M] per session, summed: `of` gives [B, T, M], 0 at steps that did not take place."""

    name: str
    of: Callable[[SessionArrays], Tensor]


@dataclass(frozen=True)
class TermSums:
    """total [R+1] or [R+1, T, M]: the sums over e**scale, one row per replicate; scale []."""

    total: Tensor
    scale: Tensor

    @staticmethod
    def of(term: Term | StepTerm, arrays: SessionArrays, counts: Tensor) -> TermSums:
        """counts: float64 [R+1, B]."""
        if isinstance(term, StepTerm):
            table = term.of(arrays)
            return TermSums((counts @ table.flatten(1)).unflatten(1, table.shape[1:]), torch.zeros(()).double())
        factor, log_size = term.of(arrays)
        scale = log_size.amax(0)
        return TermSums(counts @ (relative(log_size, scale) * factor), scale)

    def merge(self, other: TermSums) -> TermSums:
        scale = torch.maximum(self.scale, other.scale)
        here, there = relative(self.scale, scale), relative(other.scale, scale)
        first, second = self.total, other.total
        if first.ndim == 3:
            steps = max(first.shape[1], second.shape[1])
            first, second = (_more_steps(total, steps) for total in (first, second))
        return TermSums(first * here + second * there, scale)

    @property
    def value(self) -> Tensor:
        """The sums themselves, kept finite."""
        return self.total * unscale(self.scale)


def _more_steps(total: Tensor, steps: int) -> Tensor:
    return torch.nn.functional.pad(total, (0, 0, 0, steps - total.shape[1]))


def kept_after_end(values: Tensor, happened: Tensor) -> Tensor:
    """values [B, T] with a session's last one at every step after its end."""
    last = (happened.sum(1, keepdim=True) - 1).clamp(min=0)
    return values.gather(1, torch.minimum(torch.arange(values.shape[1]), last))


@dataclass(frozen=True)
class Weighting:
    """Weights other than w_{0:t} that an estimator multiplies rewards by: log [B, T], an ended session keeps its last.

    unit_mean  they have a mean of 1 where propensities are right
    shrinks    they are w_{0:t} made smaller
    """

    name: str
    of: Callable[[SessionArrays], Tensor]
    unit_mean: bool = True
    shrinks: bool = False


@dataclass(frozen=True)
class WeightSums:
    """weight [R+1, T] sums over e**scale_t; weights: their Spread; contributions: Spread of sum_t weight_t |r_t|."""

    weight: Tensor
    weights: Spread
    contributions: Spread

    @staticmethod
    def of(weighting: Weighting, arrays: SessionArrays, counts: Tensor) -> WeightSums:
        log_weight = weighting.of(arrays)
        weights = Spread.of(log_weight)
        size = torch.logsumexp(log_weight + arrays.reward.abs().log(), 1)
        return WeightSums(counts @ relative(log_weight, weights.scale), weights, Spread.of(size[:, None]))

    def merge(self, other: WeightSums) -> WeightSums:
        steps = max(self.weight.shape[1], other.weight.shape[1])
        first, second = self.weights.widen(steps), other.weights.widen(steps)
        weights = first.merge(second)
        return WeightSums(
            repeat_last(self.weight, steps) * relative(first.scale, weights.scale)
            + repeat_last(other.weight, steps) * relative(second.scale, weights.scale),
            weights,
            self.contributions.merge(other.contributions),
        )
