"""An agent as someone else would write it, on numpy; and the walk of an agent through an environment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from known_users import SMALL, users_with_columns
from torch import Tensor

from recil.logs.history import History
from recil.policies.environment import Environment, Turn
from recil.policies.protocol import Policy, Slates
from recil.random import Streams
from recil.sim.generate import Truth
from recil.sim.gym.layout import Observation
from recil.sim.world import World
from recil.sim.worlds.interest_evolution import InterestEvolutionSettings, interest_evolution

LEAVING = Truth(SMALL).world
WITH_COLUMNS = World(users_with_columns(), 4)
EVOLVING = interest_evolution(InterestEvolutionSettings(items=12, slate_size=3, horizon=5, topics=4))
SINGLE = interest_evolution(InterestEvolutionSettings(items=6, slate_size=1, horizon=4, topics=4))
WORLDS = {"leaving": LEAVING, "columns": WITH_COLUMNS, "evolving": EVOLVING, "single": SINGLE}


@dataclass(frozen=True)
class Ranker:
    """Slates that follow from what was shown and paid so far, and from every column: whatever is amiss changes them."""

    catalogue: int
    slate_size: int

    def __call__(self, seen: Observation) -> np.ndarray:
        told = sum(
            (7 + place) * np.nan_to_num(seen[key]).astype(np.float64).reshape(len(seen["step"]), -1).sum(1)
            for place, key in enumerate(sorted(seen))
        )
        first = (np.floor(np.abs(10 * told)).astype(np.int64) + 3 * seen["items"][:, -1, 0]) % self.catalogue
        return (first[:, None] + np.arange(self.slate_size)) % self.catalogue

    @staticmethod
    def of(environment: Environment) -> Ranker:
        return Ranker(environment.catalogue, environment.slate_size)


@dataclass
class Episode:
    """What a walk met: observations with the first, and of every step what `step` returned."""

    seen: list[Observation]
    actions: list[np.ndarray] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    infos: list[dict[str, Any]] = field(default_factory=list)
    terminated: bool = False
    truncated: bool = False


def alone(observation: Observation) -> Observation:
    """The observation of one session as a batch of one."""
    return {key: values[None] for key, values in observation.items()}


def played(env: Any, agent: Ranker, **reset: Any) -> Episode:
    """A whole episode."""
    first, _ = env.reset(**reset)
    episode = Episode([first])
    while not (episode.terminated or episode.truncated):
        action = agent(alone(episode.seen[-1]))[0]
        answer = env.step(action if agent.slate_size > 1 else int(action[0]))
        episode.seen.append(answer[0])
        episode.actions.append(action)
        episode.rewards.append(answer[1])
        episode.terminated, episode.truncated = answer[2], answer[3]
        episode.infos.append(answer[4])
    return episode


def assert_equal(one: Observation, other: Observation) -> None:
    """To the last bit, in shape and type too."""
    assert one.keys() == other.keys()
    for key in one:
        assert one[key].dtype == other[key].dtype and one[key].shape == other[key].shape, key
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)


@dataclass
class Strict:
    """A policy whose every item must be one of the catalogue, also for sessions that have ended."""

    policy: Policy

    @property
    def catalogue(self) -> int:
        return self.policy.catalogue

    def sample(self, history: History, k: int, streams: Streams) -> Slates:
        slates = self.policy.sample(history, k, streams)
        assert int(slates.items.min()) >= 0 and int(slates.items.max()) < self.catalogue
        assert bool(torch.isfinite(slates.log_prob).all())
        return slates

    def log_prob(self, history: History, slate: Tensor) -> Tensor:
        return self.policy.log_prob(history, slate)


@dataclass
class Watched:
    """An environment that notes the size of each batch it simulates, and is strict with whoever recommends."""

    inner: Environment
    batches: list[int] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def turns(self, policy: Policy, sessions: Tensor, streams: Streams) -> Iterator[Turn]:
        self.batches.append(len(sessions))
        return self.inner.turns(Strict(policy), sessions, streams)
