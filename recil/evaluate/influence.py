"""How much each session, or each unit of several sessions, moves an estimate: whether a few decide it.

Three kinds of estimates, by column: the mean reward of the log; one that weighs whole sessions; one that weighs steps.
A session's influence is its weighted reward less the weighted mean reward of the log, which takes the target's place.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recil.evaluate.arrays import SessionArrays
from recil.evaluate.spread import relative

COLUMNS = 3
_LARGEST_LOG = 300.0


@dataclass(frozen=True)
class Influence:
    """Sums over independent units, each number over e**scale, the largest of its column: [3] each.

    squares, cubes  of the sizes
    """

    scale: Tensor
    squares: Tensor
    cubes: Tensor

    @staticmethod
    def of(values: Tensor, scale: Tensor) -> Influence:
        """values [B, 3] over e**scale."""
        sizes = values.abs()
        largest = sizes.amax(0)
        sizes = sizes / largest.clamp(min=1e-300)
        squares = sizes.square()
        return Influence(scale + largest.log(), squares.sum(0), (squares * sizes).sum(0))

    def merge(self, other: Influence) -> Influence:
        scale = torch.maximum(self.scale, other.scale)
        here, there = relative(self.scale, scale), relative(other.scale, scale)
        return Influence(
            scale,
            self.squares * here**2 + other.squares * there**2,
            self.cubes * here**3 + other.cubes * there**3,
        )

    @property
    def skewness(self) -> Tensor:
        """Σ|ψ|³ / (Σψ²)^1.5, which bounds the skewness of the estimate; 1 where one unit decides it. [3]"""
        return torch.where(self.squares > 0, self.cubes / self.squares.clamp(min=1e-300) ** 1.5, 0.0)

    @property
    def largest(self) -> Tensor:
        """max |ψ|, kept finite, [3]."""
        return self.scale.clamp(max=_LARGEST_LOG).exp()


def influences(arrays: SessionArrays, mean: Tensor) -> tuple[Tensor, Tensor]:
    """Of B sessions under one policy: [B, 3] over e**scale, and scale [3]; mean [T or more]: the log's, by step."""
    steps = arrays.reward.shape[1]
    here, later = mean[:steps], mean[steps:].sum()
    scale = arrays.log_weight.amax()
    weight = relative(arrays.log_weight, scale)
    apart = arrays.reward.sum(1) - mean.sum()
    by_step = (weight * (arrays.reward - here)).sum(1) - weight[:, -1] * later
    return torch.stack([apart, weight[:, -1] * apart, by_step], 1), torch.stack([torch.zeros_like(scale), scale, scale])


class UnitSums:
    """Sums over the sessions of each of C units, where a unit has several.

    sessions [C]; weight [C], of whole sessions; influence [C, 3]
    """

    def __init__(self, units: int) -> None:
        self.sessions = torch.zeros(units, dtype=torch.float64)
        self.weight = torch.zeros(units, dtype=torch.float64)
        self.influence = torch.zeros(units, COLUMNS, dtype=torch.float64)

    def add(self, of: Tensor, arrays: SessionArrays, mean: Tensor) -> None:
        """Sessions of the units `of`, int64 [B]."""
        values, scale = influences(arrays, mean)
        self.sessions.index_add_(0, of, torch.ones_like(values[:, 0]))
        self.weight.index_add_(0, of, arrays.log_weight[:, -1].clamp(max=_LARGEST_LOG).exp())
        self.influence.index_add_(0, of, values * scale.clamp(max=_LARGEST_LOG).exp())

    @property
    def largest_share(self) -> float:
        """The heaviest unit's share of all weight."""
        total = float(self.weight.sum())
        return float(self.weight.max()) / total if total > 0 else 0.0

    @property
    def effective_sessions(self) -> float:
        """Effective number of units by their numbers of sessions."""
        return effective(self.sessions)

    @property
    def effective_weights(self) -> float:
        return effective(self.weight)

    def totals(self) -> Influence:
        return Influence.of(self.influence, torch.zeros(COLUMNS, dtype=torch.float64))


def effective(weights: Tensor) -> float:
    """(Σ w)² / Σ w²."""
    largest = float(weights.max())
    if not largest > 0:
        return 0.0
    weights = weights / largest
    return float(weights.sum().square() / weights.square().sum())
