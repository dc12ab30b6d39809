"""What a policy can be rolled out in: a fitted world, a built world, an exact world."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from torch import Tensor

from recil.logs.history import History
from recil.policies.protocol import Policy
from recil.random import Streams


class Turn(NamedTuple):
    """history: the sessions so far, with the latest slate and `terminated`; present: bool [B], who is still there."""

    history: History
    present: Tensor


class Environment(Protocol):
    """Sessions of at most `horizon` steps with slates of `slate_size` out of `catalogue` items."""

    @property
    def catalogue(self) -> int: ...

    @property
    def slate_size(self) -> int: ...

    @property
    def horizon(self) -> int: ...

    def rollout(self, policy: Policy, sessions: Tensor, streams: Streams) -> History:
        """Sessions under `policy`, with its propensities and `terminated`.

        sessions: int64 [B], the addresses: a session meets the same user with the same moods under every policy and in
        every batch. Nothing is differentiated.
        """
        ...


class TurnByTurn(Environment, Protocol):
    """An environment that can be watched while sessions go on."""

    def turns(self, policy: Policy, sessions: Tensor, streams: Streams) -> Iterator[Turn]:
        """The sessions of `rollout` slate by slate: ends after `horizon` slates, or when everybody has left."""
        ...


def population_of(environment: Environment) -> int:
    """Sessions that meet and must be simulated together; 1 where every session is by itself."""
    return getattr(environment, "population", 1)
