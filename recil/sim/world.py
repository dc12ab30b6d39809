"""A world to recommend in: simulated users and a horizon."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.logs.history import History
from recil.policies.environment import Turn, Warrant, WarrantVerdict
from recil.policies.protocol import Policy
from recil.random import Streams
from recil.sim.resolvers import Drawn
from recil.sim.runtime import TorchRuntime
from recil.sim.stories import ANSWERS, feedback_of, recommended_story
from recil.sim.users import UserModel

if TYPE_CHECKING:
    from recil.sim.card import SimulatorCard
    from recil.sim.ensemble import UserEnsemble

NO_CARD = "no card: validate the users on held-out sessions (recil.validate)"


@dataclass(frozen=True)
class World:
    """Users met for at most `horizon` steps, with slates of `slate_size` items (0: as in the log).

    card     of fitted users, by which values in this world are trusted or refused; without one they are refused
    known    these users stand for nobody: the world is what it is, and needs no card
    members  users fitted to bootstraps of the same log: how far values differ among them is how far the log pins them
             down, and goes into every interval
    """

    users: UserModel
    horizon: int
    slate_size: int = 0
    card: SimulatorCard | None = None
    known: bool = False
    members: tuple[UserModel, ...] = ()

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
        if self.card is not None and self.card.users != self.users.digest:
            raise InputError("world.card", "judges other users", "validate these (recil.validate)")
        if len(self.members) == 1:
            raise InputError("world.members", "1", "give 2 or more, or none: one alone has no spread")
        if any(not np.array_equal(member.item_ids, self.users.item_ids) for member in self.members):
            raise InputError("world.members", "have another catalogue", "fit all to one log")

    @staticmethod
    def of(ensemble: UserEnsemble, horizon: int, slate_size: int = 0, card: SimulatorCard | None = None) -> World:
        """The world of an ensemble's central users, with its members. card: of the central users."""
        return World(ensemble.central, horizon, slate_size, card, members=ensemble.members)

    @property
    def catalogue(self) -> int:
        return self.users.behaviour.layout.catalogue

    @property
    def item_ids(self) -> np.ndarray:
        """The names of the items, [A]."""
        return self.users.item_ids

    @property
    def warrant(self) -> Warrant:
        """The verdict of the users' card and its reasons."""
        if self.known:
            return Warrant("trust")
        if self.card is None:
            return Warrant("refuse", (NO_CARD,))
        return Warrant(cast(WarrantVerdict, self.card.verdict), tuple(self.card.reasons))

    @property
    def others(self) -> tuple[World, ...]:
        """The worlds of the members, at the same addresses."""
        return tuple(World(member, self.horizon, self.slate_size, known=True) for member in self.members)

    @cached_property
    def identity(self) -> str:
        """A name and a digest of users, horizon and slates: equal where every session would go the same way."""
        return f"users {self.users.digest}, {self.horizon} steps, slates of {self.slate_size}"

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
