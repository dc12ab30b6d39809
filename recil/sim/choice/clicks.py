"""Distributions over the clicks on a slate: at most one of them, or each item for itself."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn import functional as F

from recil.ops.elementwise import sigmoid
from recil.sim.draws import draw, precision_of, uniforms_needed


class SlateChoice(Distribution):
    """At most one click per slate: multinomial logit with an explicit no-click option of appeal 0.

    appeal: [B, K] log-odds of each item against no click; shown: bool [B, K]. Values are clicks, float [B, K].
    McFadden (1974); RecSim NG's MultinomialLogitChoiceModel with a no-choice option.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.boolean

    def __init__(self, appeal: Tensor, shown: Tensor) -> None:
        self.appeal = appeal.masked_fill(~shown, -torch.inf)
        super().__init__(appeal.shape[:1], appeal.shape[1:], validate_args=False)

    @property
    def log_normaliser(self) -> Tensor:
        """[B]: log(1 + sum of exp appeal)."""
        return torch.logsumexp(F.pad(self.appeal, (0, 1)), -1)

    @property
    def probs(self) -> Tensor:
        """[B, K]: probability that this item is the one clicked."""
        return torch.exp(self.appeal - self.log_normaliser[:, None])

    def log_prob(self, value: Tensor) -> Tensor:
        """[B]; minus infinity where a slate has two clicks or a click on nothing."""
        chosen = torch.where(value > 0, self.appeal, 0.0).sum(-1)
        return torch.where(value.sum(-1) > 1, -torch.inf, chosen - self.log_normaliser)


class IndependentClicks(Distribution):
    """Any number of clicks: each item is clicked or not by itself, whatever stands beside it.

    appeal: [B, K] log-odds; shown: bool [B, K]. Values are clicks, float [B, K].
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.boolean

    def __init__(self, appeal: Tensor, shown: Tensor) -> None:
        self.appeal, self.shown = appeal, shown
        super().__init__(appeal.shape[:1], appeal.shape[1:], validate_args=False)

    @property
    def probs(self) -> Tensor:
        """[B, K]: probability of a click on this item."""
        return sigmoid(self.appeal) * self.shown

    def log_prob(self, value: Tensor) -> Tensor:
        """[B]; minus infinity where something is clicked that is not shown."""
        scores = -F.binary_cross_entropy_with_logits(self.appeal, value, reduction="none")
        impossible = ((value > 0) & ~self.shown).any(-1)
        return torch.where(impossible, -torch.inf, (scores * self.shown).sum(-1))


def one_click(probs: Tensor, uniforms: Tensor) -> Tensor:
    """The click that a uniform falls on, or none, float [B, K].

    probs: [B, K], summing to at most 1; what is left to 1 is no click. uniforms: [B, 1].
    """
    edges = probs.cumsum(-1)
    below = torch.cat([torch.zeros_like(edges[:, :1]), edges[:, :-1]], -1)
    return ((uniforms >= below) & (uniforms < edges)).to(uniforms.dtype)


@uniforms_needed.register
def _(distribution: SlateChoice) -> int:
    return 1


@precision_of.register(SlateChoice)
@precision_of.register(IndependentClicks)
def _(distribution: SlateChoice | IndependentClicks) -> torch.dtype:
    return distribution.appeal.dtype


@draw.register
def _(distribution: SlateChoice, uniforms: Tensor) -> Tensor:
    return one_click(distribution.probs, uniforms)


@draw.register
def _(distribution: IndependentClicks, uniforms: Tensor) -> Tensor:
    return (uniforms < distribution.probs).to(uniforms.dtype)
