"""Every session a policy can have in a world small enough to list, with its exact probability: an oracle for tests."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from recil.logs.history import PAD, History
from recil.ops.returns import discounted_return
from recil.policies.protocol import Policy


class Outcome(NamedTuple):
    """What can follow a slate: its probability, the reward by position, and the user's next state (None: has left)."""

    probability: float
    reward: tuple[float, ...]
    state: Hashable | None


class ListedWorld(Protocol):
    """A world whose outcomes can be listed: A items, slates of K, sessions of at most `horizon` steps.

    A user's state is latent: policies see items and rewards, and beside them what the world's `context(state)` tells
    (name -> code), where it has one.
    """

    catalogue: int
    slate_size: int
    horizon: int

    def starts(self) -> Sequence[tuple[float, Hashable]]:
        """Probability and state of every user who may come; the probabilities sum to 1."""
        ...

    def outcomes(self, state: Hashable, slate: tuple[int, ...]) -> Sequence[Outcome]:
        """All that may follow when a user in this state is shown this slate; the probabilities sum to 1."""
        ...


@dataclass(frozen=True)
class Enumeration:
    """All n sessions and their probabilities, float64 [n], summing to 1. Propensities are float64."""

    sessions: History
    probability: Tensor

    def mean(self, values: Tensor) -> float:
        """The exact expectation of a number per session, [n]."""
        return float(self.probability @ values.double())


class _Open(NamedTuple):
    """Sessions still going: what was shown, paid and how probable it was, and the latent states."""

    items: list[list[tuple[int, ...]]]
    reward: list[list[tuple[float, ...]]]
    propensity: list[list[tuple[float, ...]]]
    probability: list[float]
    context: list[list[Mapping[str, int]]]
    state: list[Hashable | None]

    @staticmethod
    def none() -> _Open:
        return _Open([], [], [], [], [], [])

    def add(
        self, items: list, reward: list, propensity: list, probability: float, context: list, state: Hashable | None
    ) -> None:
        self.items.append(items)
        self.reward.append(reward)
        self.propensity.append(propensity)
        self.probability.append(probability)
        self.context.append(context)
        self.state.append(state)


def enumerate_sessions(world: ListedWorld, policy: Policy) -> Enumeration:
    """Follow every slate without repetition and every outcome of positive probability to its end."""
    slates = list(permutations(range(world.catalogue), world.slate_size))
    going, done, terminated = _Open.none(), _Open.none(), []
    for probability, state in world.starts():
        going.add([], [], [], probability, [_told(world, state)], state)
    for step in range(world.horizon):
        after = _Open.none()
        last = step + 1 == world.horizon
        for items, reward, propensity, probability, context, outcome in _next(world, policy, going, slates):
            ends = last or outcome.state is None
            likely, told = probability * outcome.probability, [] if ends else [_told(world, outcome.state)]
            (done if ends else after).add(
                items, [*reward, outcome.reward], propensity, likely, [*context, *told], outcome.state
            )
            if ends:
                terminated.append(outcome.state is None)
        going = after
    history = replace(_history(done, world.slate_size), terminated=torch.tensor(terminated))
    return Enumeration(history, torch.tensor(done.probability, dtype=torch.float64))


def _next(world: ListedWorld, policy: Policy, going: _Open, slates: list[tuple[int, ...]]) -> Iterator[tuple]:
    """Items, reward so far, propensities, probability, context and what follows, for each slate that can be shown."""
    if not going.items:
        return
    choice = _slate_propensities(policy, going, world.slate_size, slates).tolist()
    for row, (items, reward, propensity, probability, context, state) in enumerate(zip(*going, strict=True)):
        assert state is not None
        for slate, by_position in zip(slates, choice[row], strict=True):
            likely = probability * math.prod(by_position)
            for outcome in world.outcomes(state, slate) if likely else ():
                yield [*items, slate], reward, [*propensity, tuple(by_position)], likely, context, outcome


def _told(world: ListedWorld, state: Hashable) -> Mapping[str, int]:
    tell = getattr(world, "context", None)
    return tell(state) if tell is not None else {}


def true_value(world: ListedWorld, policy: Policy, gamma: float = 1.0) -> float:
    """J, the policy's expected discounted reward per session, exactly."""
    listed = enumerate_sessions(world, policy)
    reward = listed.sessions.reward.double().sum(-1)
    return listed.mean(discounted_return(reward, listed.sessions.happened, gamma))


def _slate_propensities(policy: Policy, going: _Open, slate_size: int, slates: list[tuple[int, ...]]) -> Tensor:
    """Probability of each item of each slate given those before it, float64 [sessions, slates, K]."""
    history = _history(going, slate_size)
    rows = len(going.items)
    columns = [
        policy.log_prob(history, torch.tensor(slate).expand(rows, slate_size)).double().exp() for slate in slates
    ]
    return torch.stack(columns, 1)


def _history(sessions: _Open, slate_size: int) -> History:
    lengths = [len(items) for items in sessions.items]
    steps = max(lengths, default=0)

    def padded(rows: list[list], fill: float, dtype: torch.dtype) -> Tensor:
        blank = (fill,) * slate_size
        block = [[*row, *[blank] * (steps - len(row))] for row in rows]
        return torch.tensor(block, dtype=dtype).reshape(len(rows), steps, slate_size)

    return History(
        items=padded(sessions.items, PAD, torch.int64),
        reward=padded(sessions.reward, 0.0, torch.float32),
        length=torch.tensor(lengths),
        session=torch.arange(len(lengths)),
        propensity=padded(sessions.propensity, 1.0, torch.float64),
        context=_context(sessions.context),
    )


def _context(rows: list[list[Mapping[str, int]]]) -> dict[str, Tensor]:
    """Codes by name, int64 [B, C], -1 behind a session's last."""
    width = max(map(len, rows), default=0)
    names = rows[0][0] if width else {}
    return {
        name: torch.tensor([[*(told[name] for told in row), *[PAD] * (width - len(row))] for row in rows])
        for name in names
    }
