"""A small world whose best policy is known: users of one taste each, few items that the taste clicks on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recil.logs.history import History
from recil.logs.session_log import Column, SessionLog
from recil.ops.slates import plackett_luce_log_prob, sample_plackett_luce
from recil.policies.protocol import Policy, Slates
from recil.random import Streams


@dataclass(frozen=True)
class TastePolicy:
    """Plackett-Luce with a row of logits for each taste: demonstrators, the best policy, foils. logits: [tastes, A]."""

    logits: Tensor

    @property
    def catalogue(self) -> int:
        return self.logits.shape[1]

    def sample(self, history: History, k: int, streams: Streams) -> Slates:
        uniforms = streams.uniform("slate", history.session, history.length, k, dtype=torch.float64)
        return Slates(*sample_plackett_luce(self.logits[history.user["taste"]], uniforms))

    def log_prob(self, history: History, slate: Tensor) -> Tensor:
        return plackett_luce_log_prob(self.logits[history.user["taste"]], slate)


@dataclass(frozen=True)
class TasteWorld:
    """click: [tastes, A], chance of a click on an item shown, independent by position; a user leaves after a slate with
    chance `leave_after_click` if it was clicked on and `leave` if not."""

    click: Tensor
    slate_size: int = 3
    horizon: int = 7
    leave: float = 0.15
    leave_after_click: float = 0.02

    @staticmethod
    def sparse(seed: int, tastes: int = 20, items: int = 100, liked: int = 4) -> TasteWorld:
        """`liked` items of each taste are clicked at 5%, the others at 0.5%."""
        draws = Streams(seed).numpy("world")
        click = np.full((tastes, items), 0.005)
        for row in click:
            row[draws.choice(items, liked, replace=False)] = 0.05
        return TasteWorld(torch.from_numpy(click))

    @property
    def tastes(self) -> int:
        return self.click.shape[0]

    @property
    def catalogue(self) -> int:
        return self.click.shape[1]

    def best(self) -> TastePolicy:
        """The items with the most clicks, always: no other slate brings more now, and clicks keep the user."""
        return TastePolicy(self.click * 1e4)

    def demonstrator(self, seed: int, skill: float = 1.0, opinion: float = 1.0) -> TastePolicy:
        """A mediocre recommender: what is liked is `skill` nats likelier, under opinions about every item."""
        draws = torch.from_numpy(Streams(seed).numpy("demonstrator").normal(size=tuple(self.click.shape)))
        return TastePolicy(skill * (self.click > self.click.mean()) + opinion * draws)

    def rollout(self, policy: Policy, sessions: Tensor, streams: Streams) -> History:
        taste = (streams.uniform("taste", sessions)[:, 0] * self.tastes).long()
        history = History.start(sessions, self.slate_size, user={"taste": taste})
        here = torch.ones(len(sessions), dtype=torch.bool)
        for step in range(self.horizon):
            slate = policy.sample(history, self.slate_size, streams)
            chance = self.click[taste[:, None], slate.items]
            draws = streams.uniform("answer", sessions, step, self.slate_size + 1)
            click = (draws[:, 1:] < chance) & here[:, None]
            items = torch.where(here[:, None], slate.items, -1)
            propensity = torch.where(here[:, None], slate.log_prob.exp(), 1.0)
            history = history.append(items, click.float(), propensity.float())
            here = here & (draws[:, 0] >= torch.where(click.any(-1), self.leave_after_click, self.leave))
        return History(**{**vars(history), "terminated": ~here, "memo": {}})

    def log(self, policy: Policy, sessions: int, seed: int, propensities: bool = True) -> SessionLog:
        """Sessions under `policy` as a log."""
        rolled = self.rollout(policy, torch.arange(sessions), Streams(seed).child("log"))
        happened = rolled.happened
        return SessionLog(
            item_ids=np.arange(self.catalogue),
            items=rolled.items[happened].numpy().astype(np.int32),
            reward=rolled.reward[happened].numpy(),
            offsets=np.concatenate([[0], np.cumsum(rolled.length.numpy())]),
            session_ids=np.arange(sessions),
            propensity=rolled.propensity[happened].numpy() if propensities else None,
            terminated=rolled.terminated.numpy(),
            user_features={
                "taste": Column(rolled.user["taste"].numpy().astype(np.int32), tuple(map(str, range(self.tastes))))
            },
        )

    def returns(self, policy: Policy, sessions: int = 8000, seed: int = 10_000) -> Tensor:
        """[sessions] clicks per session; the same users and moods under every policy."""
        with torch.no_grad():
            rolled = self.rollout(policy, torch.arange(sessions), Streams(seed).child("value"))
        return rolled.reward.sum((1, 2))
