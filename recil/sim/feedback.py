"""Feedback beside the click: likes, shares, ratings in classes. One kind is the reward; the others are answers to it.

What a user answers on an item shown depends on whether it was clicked and on how much it appealed to them.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from recil.policies.inputs import Feature
from recil.sim.draws import draw, invert, precision_of, uniforms_needed


class Answers(Distribution):
    """One class for each item shown. Values: int64 [B, K], -1 where nothing is shown or nothing was answered.

    logits: [B, K, C]; shown: bool [B, K]. What was not answered has probability 1: it is not scored.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.integer_interval(-1, 1 << 31)

    def __init__(self, logits: Tensor, shown: Tensor) -> None:
        self.logits, self.shown = torch.log_softmax(logits, -1), shown
        super().__init__(shown.shape[:1], shown.shape[1:], validate_args=False)

    @property
    def probs(self) -> Tensor:
        """[B, K, C]."""
        return self.logits.exp()

    def log_prob(self, value: Tensor) -> Tensor:
        """[B]; minus infinity where nothing was shown and yet there is an answer."""
        answered = value >= 0
        scores = self.logits.gather(-1, value.clamp(min=0)[..., None])[..., 0]
        total = torch.where(answered, scores, 0.0).sum(-1)
        return torch.where((answered & ~self.shown).any(-1), -torch.inf, total)


@precision_of.register
def _(distribution: Answers) -> torch.dtype:
    return distribution.logits.dtype


@uniforms_needed.register
def _(distribution: Answers) -> int:
    return distribution.shown.shape[1]


@draw.register
def _(distribution: Answers, uniforms: Tensor) -> Tensor:
    return torch.where(distribution.shown, invert(distribution.probs, uniforms), -1)


class FeedbackHeads(nn.Module):
    """A softmax over the classes of every kind: its rates, what a click adds, and what appeal adds with and without."""

    def __init__(self, features: tuple[Feature, ...]) -> None:
        super().__init__()
        self.features = features
        self.base = nn.ParameterList(torch.zeros(2, feature.categories or 2) for feature in features)
        self.slope = nn.ParameterList(torch.zeros(2, feature.categories or 2) for feature in features)

    def forward(self, appeal: Tensor, shown: Tensor, clicks: Tensor) -> dict[str, Answers]:
        """name -> its distribution. appeal, clicks: [B, K], log-odds and 0 or 1; shown: bool [B, K]."""
        clicked = clicks.long()
        level = torch.where(shown, appeal, 0.0)[..., None]
        return {
            feature.name: Answers(base[clicked] + slope[clicked] * level, shown)
            for feature, base, slope in zip(self.features, self.base, self.slope, strict=True)
        }


def codes_of(feature: Feature, values: Tensor) -> Tensor:
    """Logged answers as classes, int64. Numeric columns of 0 and 1 are classes 0 and 1; what is neither is missing."""
    if feature.categories is not None:
        return values.long()
    return torch.where(values == 1, 1, torch.where(values == 0, 0, -1))


def as_logged(feature: Feature, codes: Tensor) -> Tensor:
    """Classes as the log writes them: float32 for a numeric column, else codes."""
    return codes if feature.categories is not None else codes.clamp(min=0).to(torch.float32)
