"""Everything that recommends is a Policy."""

from __future__ import annotations

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from recil.logs.history import History
from recil.random import Streams


class Slates(NamedTuple):
    """items: int64 [B, K]; log_prob: float [B, K], log-probability of each item given those before it in its slate."""

    items: Tensor
    log_prob: Tensor


@runtime_checkable
class Policy(Protocol):
    """A conditional distribution over ordered slates of catalogue items, given the session so far.

    catalogue: A, the number of items. Slates hold no item twice, unless the policy says otherwise.
    """

    @property
    def catalogue(self) -> int: ...

    def sample(self, history: History, k: int, streams: Streams) -> Slates:
        """The next slate of k items for every session. Draws are addressed by (purpose, history.session, step)."""
        ...

    def log_prob(self, history: History, slate: Tensor) -> Tensor:
        """Log-probability of each item of `slate` (int64 [B, K], -1 pad) given those before it. [B, K], 0 at pads."""
        ...


@runtime_checkable
class SessionScorer(Protocol):
    """A policy that scores all the steps of sessions in one pass (teacher forcing)."""

    def log_prob_of_sessions(self, sessions: History) -> Tensor:
        """[B, T, K]: log-probability of each logged slate given the steps before it, 0 at pads."""
        ...


def log_prob_of_sessions(policy: Policy, sessions: History) -> Tensor:
    """Log-probability of every slate of `sessions` given the steps before it. [B, T, K], 0 at pads."""
    if isinstance(policy, SessionScorer):
        return policy.log_prob_of_sessions(sessions)
    scores = [policy.log_prob(sessions.prefix(step), sessions.items[:, step]) for step in range(sessions.steps)]
    return torch.stack(scores, 1) if scores else sessions.reward.new_zeros(sessions.items.shape)
