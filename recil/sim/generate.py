"""A known world, a mediocre recommender in it, and the log that it writes.

Everything follows from the settings; the same settings give the same bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional as F

from recil.logs.history import History
from recil.logs.session_log import SessionLog
from recil.ops.slates import plackett_luce_log_prob, sample_plackett_luce
from recil.policies.protocol import Slates
from recil.random import Streams
from recil.sim.record import log_of
from recil.sim.world import World
from recil.sim.worlds.built import BuiltWorld
from recil.sim.worlds.settings import KnownSettings, load_settings, make_world
from recil.sim.worlds.sparse_clicks import Settings, normal_draws

__all__ = ["KnownSettings", "Recommender", "Settings", "Truth", "load_settings"]


@dataclass(frozen=True)
class Recommender:
    """A mediocre recommender: a blurred idea of appeal, a liking for what was clicked, a wish for variety.

    idea: [A] log-odds; directions: [A, D], unit vectors of the items; memory, variety: see Settings.
    """

    idea: Tensor
    directions: Tensor
    memory: float
    variety: float
    decay: float = 0.7

    @property
    def catalogue(self) -> int:
        return len(self.idea)

    def logits(self, history: History) -> Tensor:
        """[B, A]. Recent steps count most: the step before last counts `decay` times the last."""
        steps = torch.arange(history.steps, device=history.items.device)
        age = history.length[:, None] - 1 - steps
        weight = torch.where(age >= 0, self.decay ** age.clamp(min=0).to(self.idea.dtype), 0.0)[..., None]
        shown = history.shown.to(self.idea.dtype)
        directions = self.directions[history.items.clamp(min=0)]

        def profile(per_item: Tensor) -> Tensor:
            return ((directions * (per_item * weight)[..., None]).sum((1, 2))) @ self.directions.T

        seen = profile(shown / shown.sum(-1, keepdim=True).clamp(min=1))
        return self.idea + self.memory * profile(history.reward * shown) - self.variety * seen

    def sample(self, history: History, k: int, streams: Streams) -> Slates:
        """The coming slate; see Policy."""
        uniforms = streams.uniform("slate", history.session, history.length, k, dtype=torch.float64)
        return Slates(*sample_plackett_luce(self.logits(history), uniforms))

    def log_prob(self, history: History, slate: Tensor) -> Tensor:
        """[B, K]; see Policy."""
        return plackett_luce_log_prob(self.logits(history), slate)


@dataclass(frozen=True)
class Truth:
    """What is true of a generated log: the world it comes from and the recommender that wrote it."""

    settings: Settings | KnownSettings

    @cached_property
    def world(self) -> World | BuiltWorld:
        """The known world: an Environment whose policy values are the true ones."""
        return make_world(self.settings)

    @cached_property
    def logging_policy(self) -> Recommender:
        """The recommender that writes the log, with exact propensities."""
        settings, (appeal, direction) = self.settings, _known(self.world)
        noise = normal_draws(Streams(settings.seed).generator("recommender"), self.world.catalogue)
        known = (appeal - appeal.mean()) / appeal.std().clamp(min=1e-6)
        blurred = settings.recommender_knowledge * known + math.sqrt(1 - settings.recommender_knowledge**2) * noise
        return Recommender(
            settings.recommender_sharpness * blurred,
            direction,
            settings.recommender_memory,
            settings.recommender_variety,
        )

    def log(self) -> SessionLog:
        """The log: `settings.sessions` sessions of the recommender in the world."""
        streams = Streams(self.settings.seed).child("log")
        history = self.world.rollout(self.logging_policy, torch.arange(self.settings.sessions), streams)
        return log_of([history], self.world.item_ids)


def _known(world: World | BuiltWorld) -> tuple[Tensor, Tensor]:
    """What there is to know of a world's items: their appeal to the average user [A], and unit vectors [A, D]."""
    if isinstance(world, BuiltWorld):
        return world.appeal.double(), F.normalize(world.vectors.double(), dim=-1, eps=1e-6)
    catalogue = world.users.behaviour.catalogue({})
    return catalogue.appeal, catalogue.direction
