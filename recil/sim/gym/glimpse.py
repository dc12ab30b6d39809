"""How sessions look before their first slate: environments show it to policies only."""

from __future__ import annotations

import torch
from torch import Tensor

from recil.logs.history import History
from recil.policies.environment import TurnByTurn
from recil.policies.protocol import Slates
from recil.random import Streams


class _Witness:
    """Shows the first items of the catalogue, and keeps the first history it was shown."""

    def __init__(self, catalogue: int) -> None:
        self.catalogue = catalogue
        self.start: History | None = None

    def sample(self, history: History, k: int, streams: Streams) -> Slates:
        if self.start is None:
            self.start = history
        items = torch.arange(k, device=history.items.device).expand(history.batch, k)
        return Slates(items, torch.zeros(items.shape, device=items.device))

    def log_prob(self, history: History, slate: Tensor) -> Tensor:
        raise NotImplementedError("a witness does not score slates")


def glimpse(environment: TurnByTurn, sessions: Tensor, streams: Streams) -> tuple[History, History]:
    """The histories of these sessions before any slate, and after one of no interest. sessions: int64 [B].

    Sessions are functions of their addresses: nothing of this is felt when they are played.
    """
    witness = _Witness(environment.catalogue)
    turn = next(iter(environment.turns(witness, sessions, streams)))
    assert witness.start is not None
    return witness.start, turn.history
