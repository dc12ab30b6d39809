"""A policy out of a score: slates drawn without replacement in proportion to the items' weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from recil.logs.history import History
from recil.ops.slates import greedy_slates, plackett_luce_log_prob, sample_plackett_luce
from recil.policies.folder import Parts, write_folder
from recil.policies.protocol import Slates
from recil.random import Streams


class Scorer(Protocol):
    """What tells the baselines apart: one weight for every item, given the session so far."""

    @property
    def kind(self) -> str: ...

    @property
    def catalogue(self) -> int: ...

    def log_weights(self, history: History) -> Tensor:
        """Logarithms of the items' weights for the coming slate, finite, float [B, A]."""
        ...

    def parts(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Settings and tensors, from which `storage` builds it again."""
        ...


@dataclass(frozen=True, eq=False)
class ScoredPolicy:
    """Slates by a scorer's weights. item_ids: [A], the id behind each index, or None."""

    scorer: Scorer
    item_ids: np.ndarray | None = None

    @property
    def catalogue(self) -> int:
        return self.scorer.catalogue

    def next_logits(self, history: History) -> Tensor:
        """Logits of the coming slate's first item, [B, A]."""
        return self.scorer.log_weights(history)

    def sample(self, history: History, k: int, streams: Streams) -> Slates:
        """The coming slate of k items for every session."""
        uniforms = streams.uniform("slate", history.session, history.length, k, dtype=torch.float64)
        return Slates(*sample_plackett_luce(self.next_logits(history), uniforms))

    def greedy(self, history: History, k: int) -> Tensor:
        """The k most probable items, best first, int64 [B, k]."""
        return greedy_slates(self.next_logits(history), k)

    def log_prob(self, history: History, slate: Tensor) -> Tensor:
        """Log-probability of each item of `slate` (int64 [B, K], -1 pad) given those before it. [B, K], 0 at pads."""
        return plackett_luce_log_prob(self.next_logits(history), slate)

    def log_prob_of_sessions(self, sessions: History) -> Tensor:
        """[B, T, K]: log-probability of each logged slate given the steps before it, 0 at pads."""
        scores = sessions.items.new_zeros(sessions.items.shape, dtype=torch.float32)
        for step in range(sessions.steps):
            # Sessions that have ended are not scored again at every step of the longest one.
            going_on = torch.nonzero(sessions.length > step)[:, 0]
            scores[going_on, step] = self.log_prob(sessions.prefix(step).take(going_on), sessions.items[going_on, step])
        return scores

    def parts(self) -> Parts:
        return Parts(self.scorer.kind, *self.scorer.parts(), self.item_ids)

    def save(self, path: str | Path) -> None:
        """Write the policy to a folder; `recil.load` reads it back."""
        write_folder(path, self.parts())
