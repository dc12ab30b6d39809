"""A policy for tests of worlds: it shows given slates in turn."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from recil.logs.history import History
from recil.policies.protocol import Slates
from recil.random import Streams


@dataclass(frozen=True)
class Shows:
    """Shows slate number (session + step) of a list, for certain, and begins again at its end."""

    slates: list[list[int]]
    catalogue: int

    def _slate(self, history: History) -> Tensor:
        return torch.tensor(self.slates)[(history.session + history.length) % len(self.slates)]

    def sample(self, history: History, k: int, streams: Streams) -> Slates:
        items = self._slate(history)
        return Slates(items, torch.zeros(items.shape))

    def log_prob(self, history: History, slate: Tensor) -> Tensor:
        return torch.where(slate == self._slate(history), 0.0, -torch.inf)
