"""A world built from entities, as an environment for policies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from recsim_ng.core.variable import Variable
from torch import Tensor

from recil.errors import InputError
from recil.logs.history import History
from recil.policies.environment import Turn
from recil.policies.protocol import Policy
from recil.random import Streams
from recil.sim.metrics import RewardMetrics
from recil.sim.network import network_of
from recil.sim.recommendation import Corpus, Recommender, User, recommendation_story
from recil.sim.recommenders.policy import PolicyRecommender
from recil.sim.resolvers import Drawn
from recil.sim.runtime import TorchRuntime


@dataclass(frozen=True)
class BuiltWorld:
    """Users and a corpus made by constructors; an Environment.

    settings    the world's own parameters, a frozen dataclass
    corpus      makes what can be recommended
    user        makes `batch` users
    vectors     float [A, D], what the items are like, and appeal float [A], how much the average user likes each
    feedback    names of outcome fields [B, K] that policies see afterwards
    population  sessions that share one corpus and are simulated together: a batch holds whole populations
    """

    name: str
    settings: Any
    catalogue: int
    slate_size: int
    horizon: int
    corpus: Callable[[int], Corpus]
    user: Callable[[int], User]
    vectors: Tensor
    appeal: Tensor
    feedback: tuple[str, ...] = ()
    population: int = 1
    item_columns: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def item_ids(self) -> np.ndarray:
        """The names of the items: their places in the catalogue."""
        return np.arange(self.catalogue)

    def story(self, recommender: Recommender, batch: int) -> list[Variable]:
        """The variables of the world with this recommender, metrics included."""
        return recommendation_story(self.corpus(batch), self.user(batch), recommender, RewardMetrics())

    def check_sessions(self, sessions: Tensor) -> None:
        """Raises InputError where a population is not whole."""
        size = self.population
        begins = sessions[::size] // size * size
        whole = (begins[:, None] + torch.arange(size, device=sessions.device)).flatten()
        if not torch.equal(sessions, whole):
            raise InputError(
                "sessions",
                f"{len(sessions)} from {int(sessions[0]) if len(sessions) else 0} on",
                f"users of {self.name} meet in populations of {self.population}: give a multiple of that, from a"
                " multiple of that on",
            )

    @torch.no_grad()
    def turns(self, policy: Policy, sessions: Tensor, streams: Streams) -> Iterator[Turn]:
        """Sessions under `policy`, slate by slate; see Environment."""
        if policy.catalogue != self.catalogue:
            raise InputError(
                "policy", f"{policy.catalogue} items, the world has {self.catalogue}", "fit both on one catalogue"
            )
        self.check_sessions(sessions)
        start = History.start(sessions, self.slate_size)
        recommender = PolicyRecommender(policy, start, streams, self.feedback)
        runtime = TorchRuntime(network_of(self.story(recommender, len(sessions))), Drawn(streams, sessions))
        for now in islice(runtime.steps(), self.horizon):
            state, outcome = now["recommender"], now["outcome"]
            staying = recommender.staying(state, outcome)
            history = recommender.after(state, now["slate"], outcome)
            yield Turn(replace(history, terminated=~staying), staying)
            if not bool(staying.any()):
                break

    def rollout(self, policy: Policy, sessions: Tensor, streams: Streams) -> History:
        """Sessions under `policy`; see Environment."""
        *_, last = self.turns(policy, sessions, streams)
        return replace(last.history, memo={})
