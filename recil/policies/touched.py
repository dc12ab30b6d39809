"""A softmax policy over the few items that a step touches: rows of its tables, whatever the size of the catalogue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from recil.logs.history import History
from recil.ops.by_items import slate_log_prob_by_items
from recil.policies.softmax import SoftmaxPolicy

_T = TypeVar("_T")


@dataclass(frozen=True)
class Touched:
    """A policy whose catalogue is some of its items: the batch's own in front, then the others.

    items  int64 [M]: what item stands behind each index
    own    the first so many are the batch's
    rows   copies of the tables' rows at the first items, leaves where gradients are wanted: parameter name -> [n, D].
           Vectors of inputs are those of the batch's items alone, unless the table is also that of outputs.
    """

    policy: SoftmaxPolicy
    items: Tensor
    own: int
    rows: dict[str, Tensor]

    @staticmethod
    def of(policy: SoftmaxPolicy, sessions: History, others: Tensor | None = None, learn: bool = False) -> Touched:
        """The items of these sessions, and others (int64 [k], in any order, those of the sessions among them or not).

        learn: the rows are leaves that gather gradients.
        """
        own = sessions.items[sessions.shown].unique()
        items = own if others is None else torch.cat([own, others[~torch.isin(others, own)]])
        rows = {}
        for name, table in tables_of(policy).items():
            inputs = name.startswith("encoder.") and not policy.config.tied
            rows[name] = table.detach()[own if inputs else items].requires_grad_(learn)
        return Touched(policy, items, len(own), rows)

    def places(self, items: Tensor) -> Tensor:
        """The index of each of these items, -1 for a pad; all others must be among `items`."""
        if not len(self.items):
            return torch.full_like(items, -1)
        order = self.items.argsort()
        found = order[torch.searchsorted(self.items[order], items.clamp(min=0)).clamp(max=len(order) - 1)]
        return torch.where(items >= 0, found, -1)

    def relabelled(self, sessions: History) -> History:
        """The sessions with their items as indices of this catalogue."""
        return replace(sessions, items=self.places(sessions.items), memo={})

    def call(self, function: Callable[[SoftmaxPolicy], _T]) -> _T:
        """What a function of a policy is of this one. Its configuration still names the whole catalogue."""
        swapped = {f"policy.{name}": rows for name, rows in self.rows.items()}
        for name, values in self.policy.named_buffers():
            if ".column_" in name:
                output = name.startswith("output.") or self.policy.config.tied
                swapped[f"policy.{name}"] = values[self.items if output else self.items[: self.own]]
        return cast(_T, functional_call(_Calling(self.policy), swapped, (function,)))

    def items_of(self, name: str) -> Tensor:
        """The items behind the rows of this table."""
        return self.items[: len(self.rows[name])]


class _Calling(nn.Module):
    """A policy as a module whose call is that of any function: what `functional_call` needs."""

    def __init__(self, policy: SoftmaxPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, function: Callable[[SoftmaxPolicy], Any]) -> Any:
        return function(self.policy)


def tables_of(policy: SoftmaxPolicy) -> dict[str, nn.Parameter]:
    """The weights that have a row for every item, by their names in the policy."""
    ours = {id(policy.encoder.items.own.weight), id(policy.output.own.weight), id(policy.bias.weight)}
    return {name: weight for name, weight in policy.named_parameters() if id(weight) in ours}


@torch.no_grad()
def log_prob_of_sessions_by_items(policy: SoftmaxPolicy, sessions: History) -> Tensor:
    """As `policy.log_prob_of_sessions`, without gradient and in memory that does not grow with the catalogue."""
    happened = sessions.happened & sessions.shown.any(-1)
    touched = Touched.of(policy, sessions)
    states = touched.call(lambda small: small.before_steps(touched.relabelled(sessions)))[happened]
    scores = slate_log_prob_by_items(states, sessions.items[happened], policy.head, policy.catalogue)
    return scores.new_zeros(sessions.items.shape).index_put((happened,), scores)
