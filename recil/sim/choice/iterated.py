"""Several choices from one slate, one after the other, each from what the ones before it left."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from recil.sim.choice.alternatives import or_no_choice
from recil.sim.draws import draw, invert


class IteratedChoice(Distribution):
    """`count` picks in order, without replacement, each a softmax over the alternatives that are left.

    logits: [B, K + 1], of the items and of no choice; −∞ is never picked. Values are positions, int64 [B, count], K for
    no choice, which like an item is picked once. Where no alternative is left, the pick is K with certainty.
    Plackett (1975), cut off after `count`; RecSim NG's IteratedMultinomialLogitChoiceModel.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, logits: Tensor, count: int) -> None:
        if count < 1:
            raise ValueError(f"IteratedChoice: {count} picks; wanted 1 or more")
        self.logits, self.count = logits, count
        super().__init__(logits.shape[:-1], torch.Size([count]), validate_args=False)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:
        return constraints.independent(constraints.integer_interval(0, self.logits.shape[-1] - 1), 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """[B]; minus infinity where something is picked twice, or was not to be had. value: int64 [B, count]."""
        alternatives = torch.arange(self.logits.shape[-1], device=value.device)
        picked = value[..., None] == alternatives
        gone = (picked.cumsum(-2) - picked.long()) > 0
        left = or_no_choice(self.logits[..., None, :].masked_fill(gone, -torch.inf))
        scores = left.log_softmax(-1)
        return scores.gather(-1, value[..., None])[..., 0].sum(-1)


@draw.register
def _(distribution: IteratedChoice, uniforms: Tensor) -> Tensor:
    left = distribution.logits
    picks = []
    for uniform in uniforms.unbind(-1):
        pick = invert(or_no_choice(left).softmax(-1), uniform)
        left = left.scatter(-1, pick[..., None], -torch.inf)
        picks.append(pick)
    return torch.stack(picks, -1)
