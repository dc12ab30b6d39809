"""Sums over sessions that only some estimators need: one number, or a table by step, per session and term."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from recil.evaluate.arrays import SessionArrays
from recil.evaluate.spread import Spread, log_total, relative, repeat_last, unscale


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


class Table(NamedTuple):
    """Numbers of sessions over e**scale: [B] or [B, T, M], scale []; summed once where no replicate needs them."""

    numbers: Tensor
    scale: Tensor
    resampled: bool = True

    @property
    def once(self) -> Tensor:
        """The sum over sessions, each taken once, [1, ...]."""
        return self.numbers.sum(0, dtype=torch.float64)[None]


@dataclass(frozen=True)
class Term:
    """A number per session, summed. Terms of one name are one and the same."""

    name: str
    of: Callable[[SessionArrays], Sized]

    def table(self, arrays: SessionArrays) -> Table:
        factor, log_size = self.of(arrays)
        scale = log_size.amax(0)
        return Table(relative(log_size, scale) * factor, scale)


@dataclass(frozen=True)
class StepTerm:
    """A table [T, M] per session, summed: `of` gives [B, T, M], 0 at steps that did not take place.

    resampled  False where the sum in the sample is all that is asked for
    """

    name: str
    of: Callable[[SessionArrays], Tensor]
    resampled: bool = True

    def table(self, arrays: SessionArrays) -> Table:
        return Table(self.of(arrays), torch.zeros(()).double(), self.resampled)


@dataclass(frozen=True)
class TermSums:
    """total [R+1] or [R+1, T, M]: the sums over e**scale, one row per replicate ([1, T, M]: none); scale []."""

    total: Tensor
    scale: Tensor

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

    def table(self, arrays: SessionArrays) -> WeightTable:
        log_weight = self.of(arrays)
        weights = Spread.of(log_weight)
        size = log_total(log_weight + arrays.reward.abs().log())
        return WeightTable(relative(log_weight, weights.scale), weights, Spread.of(size[:, None]))


class WeightTable(NamedTuple):
    """weight [B, T] over e**scale_t; weights and contributions as in WeightSums."""

    weight: Tensor
    weights: Spread
    contributions: Spread

    def sums(self, total: Tensor) -> WeightSums:
        return WeightSums(total, self.weights, self.contributions)


@dataclass(frozen=True)
class WeightSums:
    """weight [R+1, T] sums over e**scale_t; weights: their Spread; contributions: Spread of sum_t weight_t |r_t|."""

    weight: Tensor
    weights: Spread
    contributions: Spread

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
