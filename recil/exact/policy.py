"""A table as a policy: one distribution over the items for each state that is observed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recil.errors import InputError
from recil.logs.history import History
from recil.ops.slates import greedy_slates, plackett_luce_log_prob, sample_plackett_luce
from recil.policies.protocol import Slates
from recil.random import Streams

STATE = "state"


@dataclass(frozen=True, eq=False)
class TabularPolicy:
    """Reads the state off a context column, as tabular worlds show it before each slate.

    probability  float64 [O, A], a distribution over items for each code of the column
    column       the name of the context column
    """

    probability: Tensor
    column: str = STATE

    def __post_init__(self) -> None:
        table = self.probability
        if table.ndim != 2 or table.dtype != torch.float64:
            raise InputError("tabular policy", f"is {table.dtype} {tuple(table.shape)}", "give float64 [states, items]")
        if not bool((table >= 0).all()) or not torch.allclose(table.sum(-1), table.new_ones(len(table)), 0.0, 1e-9):
            raise InputError("tabular policy", "a row is no distribution", "give probabilities that sum to 1")

    @property
    def catalogue(self) -> int:
        return self.probability.shape[1]

    def next_logits(self, history: History) -> Tensor:
        """Log-probabilities of the coming slate's first item, float64 [B, A]; -inf for what is never shown."""
        return self.probability.log()[self._state(history)]

    def sample(self, history: History, k: int, streams: Streams) -> Slates:
        """The coming slate of k items for every session, without replacement."""
        uniforms = streams.uniform("slate", history.session, history.length, k, dtype=torch.float64)
        return Slates(*sample_plackett_luce(self.next_logits(history), uniforms))

    def greedy(self, history: History, k: int) -> Tensor:
        """The k most probable items, best first, int64 [B, k]."""
        return greedy_slates(self.next_logits(history), k)

    def log_prob(self, history: History, slate: Tensor) -> Tensor:
        """Log-probability of each item of `slate` (int64 [B, K], -1 pad) given those before it. [B, K], 0 at pads."""
        return plackett_luce_log_prob(self.next_logits(history), slate)

    def _state(self, history: History) -> Tensor:
        """int64 [B]"""
        codes = history.context.get(self.column)
        if codes is None or codes.is_floating_point():
            known = ", ".join(history.context) or "none"
            raise InputError(
                f"context column {self.column}",
                f"is not there as codes; the sessions have {known}",
                "use sessions of a tabular world, or name the column of the policy",
            )
        state = codes.gather(1, history.length.clamp(max=codes.shape[1] - 1)[:, None])[:, 0]
        if state.numel() and int(state.max()) >= len(self.probability):
            raise InputError(
                f"context column {self.column}",
                f"code {int(state.max())} where the policy knows {len(self.probability)} states",
                "use a policy made for this world",
            )
        return state.clamp(min=0)  # a session that has ended has no state, and its slate is not looked at
