"""A world to recommend in: simulated users and a horizon."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.logs.history import History
from recil.policies.environment import Turn
from recil.policies.protocol import Policy
from recil.random import Streams
from recil.sim.resolvers import Drawn
from recil.sim.runtime import TorchRuntime
from recil.sim.stories import ANSWERS, feedback_of, recommended_story
from recil.sim.users import UserModel


@dataclass(frozen=True)
class World:
    """Users met for at most `horizon` steps, with slates of `slate_size` items (None: as in the log)."""

    users: UserModel
    horizon: int
    slate_size: int = 0

    def __post_init__(self) -> None:
        logged = self.users.behaviour.layout.slate_size
        if self.slate_size == 0:
            object.__setattr__(self, "slate_size", logged)
        if self.horizon < 1:
            raise InputError("world.horizon", f"{self.horizon}", "wanted at least 1 step")
        if not 1 <= self.slate_size <= logged:
            raise InputError(
                "world.slate_size",
                f"{self.slate_size}",
                f"users were seen with slates of {logged}; wanted 1 to {logged}",
            )

    @property
    def catalogue(self) -> int:
        return self.users.behaviour.layout.catalogue

    @property
    def item_ids(self) -> np.ndarray:
        """The names of the items, [A]."""
        return self.users.item_ids

    @torch.no_grad()
    def turns(self, policy: Policy, sessions: Tensor, streams: Streams) -> Iterator[Turn]:
        """Sessions under `policy`, slate by slate; see Environment."""
        if policy.catalogue != self.catalogue:
            raise InputError(
                "policy", f"{policy.catalogue} items, the world has {self.catalogue}", "fit both on one catalogue"
            )
        kind, start = self.users.starts.draw(sessions, self.slate_size, self.horizon, streams)
        network = recommended_story(self.users.behaviour, policy, start, self.users.item_columns, kind, streams)
        for now in islice(TorchRuntime(network, Drawn(streams, sessions)).steps(), self.horizon):
            present = now["presence"].get("present") & ~(now["departure"].get("leaves") > 0)
            # The history variable stands before the slate; what happened on it is still to be added.
            shown, clicked = now["slate"], now["response"].get("clicks")
            answers = feedback_of(self.users.behaviour, now.get(ANSWERS))
            before = now["history"].get("sessions")
            done = before.append(shown.get("items"), clicked, shown.get("propensity"), answers)
            yield Turn(replace(done, terminated=~present), present)
            if not bool(present.any()):
                break

    def rollout(self, policy: Policy, sessions: Tensor, streams: Streams) -> History:
        """Sessions under `policy`; see Environment."""
        *_, last = self.turns(policy, sessions, streams)
        return replace(last.history, memo={})
