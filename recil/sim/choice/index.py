"""One alternative out of a few, by its logit."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from recil.sim.draws import draw, invert, uniforms_needed


class OneOf(Distribution):
    """An alternative with probability proportional to exp(logit). Values: int64 [B].

    logits: [B, n]. torch's Categorical, without the passes over the logits that a draw does not need.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits
        super().__init__(logits.shape[:-1], validate_args=False)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        return constraints.integer_interval(0, self.logits.shape[-1] - 1)

    @property
    def probs(self) -> Tensor:
        """[B, n]."""
        return self.logits.softmax(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """[B]; minus infinity for what is no alternative."""
        last = self.logits.shape[-1] - 1
        scores = self.logits.log_softmax(-1).gather(-1, value.clamp(0, last)[..., None])[..., 0]
        return torch.where((value >= 0) & (value <= last), scores, -torch.inf)


@uniforms_needed.register
def _(distribution: OneOf) -> int:
    return 1


@draw.register
def _(distribution: OneOf, uniforms: Tensor) -> Tensor:
    weights = (distribution.logits - distribution.logits.amax(-1, keepdim=True)).exp()
    return invert(weights, uniforms[..., 0])
