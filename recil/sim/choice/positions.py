"""Click models of the order on a slate: the cascade, and positions that are examined each for itself.

In both a score is the log-odds of a click on an item that is read, and −∞ stands for a position without an item.
"""

from __future__ import annotations

import math

import torch
from recsim_ng.core.value import Value, ValueSpec
from torch import Tensor

from recil.sim.choice.cascade import CascadeClicks
from recil.sim.choice.clicks import IndependentClicks
from recil.sim.entity import Entity
from recil.sim.fields import RandomField
from recil.sim.spaces import Reals


class Cascade(Entity):
    """Users read from the top, click at most one item and then stop.

    continuation_logit: log-odds of reading on after a skip, a number or [B]; by default it is certain. The value is
    clicks, float [B, K]. Craswell et al. (2008).
    """

    continuation_logit: Tensor

    def __init__(self, continuation_logit: Tensor | float = math.inf) -> None:
        super().__init__()
        self.constant("continuation_logit", continuation_logit)

    def choice(self, scores: Tensor) -> Value:
        """scores: [B, K]."""
        return Value(choice=CascadeClicks(scores, scores > -torch.inf, self.continuation_logit.sigmoid()))

    def specs(self, slate_size: int | None = None) -> ValueSpec:
        """A fresh spec of `choice`, for one session. slate_size: K, where it is known."""
        return ValueSpec(choice=RandomField(Reals((slate_size,), 0.0, 1.0)))


class IndependentByPosition(Entity):
    """Any number of clicks: a position is read by itself, and what is read is clicked by itself.

    P(click) = sigmoid(examination) · sigmoid(score). examination_logit: [positions], at least as many as a slate has.
    The value is clicks, float [B, K]. The examination hypothesis of Richardson et al. (2007).
    """

    examination_logit: Tensor

    def __init__(self, examination_logit: Tensor) -> None:
        super().__init__()
        if examination_logit.ndim != 1:
            raise ValueError(f"examination logits of shape {list(examination_logit.shape)}; wanted one per position")
        self.constant("examination_logit", examination_logit)

    def choice(self, scores: Tensor) -> Value:
        """scores: [B, K]. Raises ValueError where K is more than the positions known."""
        size, known = scores.shape[-1], len(self.examination_logit)
        if size > known:
            raise ValueError(f"a slate of {size} positions, of which {known} have an examination logit")
        read = self.examination_logit[:size].to(scores.dtype)
        possible = (scores > -torch.inf) & (read > -torch.inf)
        appeal, read = scores.masked_fill(~possible, 0.0), read.expand_as(scores).masked_fill(~possible, 0.0)
        # The odds against a product of two sigmoids are exp(-a) + exp(-b) + exp(-a - b): nothing cancels.
        against = torch.stack([-appeal, -read, -appeal - read]).logsumexp(0)
        return Value(choice=IndependentClicks(-against, possible))

    def specs(self, slate_size: int | None = None) -> ValueSpec:
        """A fresh spec of `choice`, for one session. slate_size: K, where it is known."""
        return ValueSpec(choice=RandomField(Reals((slate_size,), 0.0, 1.0)))
