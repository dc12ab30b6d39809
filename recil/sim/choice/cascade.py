"""The cascade: users read a slate from the top, and stop at the first click."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn import functional as F

from recil.sim.choice.alternatives import log_of
from recil.sim.choice.clicks import one_click
from recil.sim.draws import draw, precision_of, uniforms_needed


class CascadeClicks(Distribution):
    """At most one click: items are read in order, and each one read is clicked with probability sigmoid(appeal).

    After a click the user stops; after a skip, reads on with probability `continuation`. Items not shown are passed
    over: they are neither clicked nor does reading on past them cost anything.

    appeal: [B, K] log-odds of a click on an item that is read; shown: bool [B, K]; continuation: probability, a number
    or [B]. Values are clicks, float [B, K]. Craswell et al. (2008), with continuation 1.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    support = constraints.boolean

    def __init__(self, appeal: Tensor, shown: Tensor, continuation: Tensor | float = 1.0) -> None:
        self.appeal, self.shown = appeal.masked_fill(~shown, 0.0), shown
        self.continuation = torch.as_tensor(continuation, dtype=appeal.dtype, device=appeal.device)
        super().__init__(appeal.shape[:1], appeal.shape[1:], validate_args=False)

    @property
    def _log_read(self) -> Tensor:
        """[B, K + 1]: log-probability that the item at this position is read; the last, that all were skipped."""
        skip_and_go_on = F.logsigmoid(-self.appeal) + log_of(self.continuation)[..., None]
        passed = torch.where(self.shown, skip_and_go_on, 0.0)
        return F.pad(passed.cumsum(-1), (1, 0))

    @property
    def _log_click(self) -> Tensor:
        clicked = self._log_read[:, :-1] + F.logsigmoid(self.appeal)
        return torch.where(self.shown, clicked, -torch.inf)

    @property
    def log_no_click(self) -> Tensor:
        """[B]: log-probability that the user gives up after some item, or reads them all, without a click."""
        read = self._log_read
        give_up = read[:, :-1] + F.logsigmoid(-self.appeal) + log_of(1 - self.continuation)[..., None]
        ends = torch.cat([torch.where(self.shown, give_up, -torch.inf), read[:, -1:]], -1)
        return torch.logsumexp(ends, -1)

    @property
    def probs(self) -> Tensor:
        """[B, K]: probability that this item is the one clicked."""
        return self._log_click.exp()

    def log_prob(self, value: Tensor) -> Tensor:
        """[B]; minus infinity where a slate has two clicks or a click on nothing."""
        clicks = value.sum(-1)
        clicked = torch.where(value > 0, self._log_click, 0.0).sum(-1)
        return torch.where(clicks > 1, -torch.inf, torch.where(clicks > 0, clicked, self.log_no_click))


@uniforms_needed.register
def _(distribution: CascadeClicks) -> int:
    return 1


@precision_of.register
def _(distribution: CascadeClicks) -> torch.dtype:
    return distribution.appeal.dtype


@draw.register
def _(distribution: CascadeClicks, uniforms: Tensor) -> Tensor:
    return one_click(distribution.probs, uniforms)
