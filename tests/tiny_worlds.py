"""A world and a policy small enough to list, shared by the tests of the oracle and of evaluation."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from recil.exact.enumerate import Outcome
from recil.logs.history import PAD, History
from recil.ops.slates import plackett_luce_log_prob, sample_plackett_luce
from recil.policies.protocol import Policy, Slates
from recil.random import Streams


@dataclass(frozen=True)
class MoodyWorld:
    """Users in one of two moods: the mood decides what they click and when they leave, a click lifts it."""

    click: Tensor  # [2, A]
    leave: Tensor  # [2, 2]: by mood and whether anything was clicked
    lift: float
    slate_size: int
    horizon: int
    start: float = 0.5

    @staticmethod
    def make(items: int, slate_size: int, horizon: int, seed: int = 0, low: float = 0.1, high: float = 0.7):
        draw = torch.Generator().manual_seed(seed)
        click = low + (high - low) * torch.rand(2, items, generator=draw, dtype=torch.float64)
        leave = 0.1 + 0.4 * torch.rand(2, 2, generator=draw, dtype=torch.float64)
        return MoodyWorld(click, leave, 0.6, slate_size, horizon)

    @property
    def catalogue(self) -> int:
        return self.click.shape[1]

    def starts(self):
        return [(self.start, 0), (1 - self.start, 1)]

    def outcomes(self, state, slate):
        for clicks in itertools.product((0.0, 1.0), repeat=self.slate_size):
            likely = 1.0
            for item, click in zip(slate, clicks, strict=True):
                rate = float(self.click[state, item])
                likely *= rate if click else 1 - rate
            leave = float(self.leave[state, int(any(clicks))])
            up = self.lift if any(clicks) else 0.2
            yield Outcome(likely * leave, clicks, None)
            yield Outcome(likely * (1 - leave) * up, clicks, 1)
            yield Outcome(likely * (1 - leave) * (1 - up), clicks, 0)

    def rollout(self, policy: Policy, sessions: Tensor, streams: Streams) -> History:
        history = History.start(sessions, self.slate_size)
        mood = (streams.uniform("mood", sessions)[:, 0] >= self.start).long()
        going, left = torch.ones_like(sessions, dtype=torch.bool), torch.zeros_like(sessions, dtype=torch.bool)
        for step in range(self.horizon):
            slates = policy.sample(history, self.slate_size, streams.child("policy"))
            draws = streams.uniform("user", sessions, step, self.slate_size + 2, dtype=torch.float64)
            clicks = draws[:, 2:] < self.click[mood].gather(1, slates.items)
            clicked = clicks.any(1)
            items = torch.where(going[:, None], slates.items, PAD)
            propensity = torch.where(going[:, None], slates.log_prob.exp(), 1.0)
            history = history.append(items, (clicks & going[:, None]).float(), propensity)
            leaves = draws[:, 0] < self.leave[mood, clicked.long()]
            left |= going & leaves
            going = going & ~leaves
            mood = (draws[:, 1] < torch.where(clicked, self.lift, 0.2)).long()
        from dataclasses import replace

        return replace(history, terminated=left)


@dataclass(frozen=True)
class RecallPolicy:
    """Plackett-Luce slates whose float64 logits [A + 1, 2, A] depend on the last slate's first item and on a click."""

    table: Tensor

    @staticmethod
    def make(items: int, seed: int, strength: float = 1.0) -> RecallPolicy:
        draw = torch.Generator().manual_seed(seed)
        return RecallPolicy(strength * torch.randn(items + 1, 2, items, generator=draw, dtype=torch.float64))

    @property
    def catalogue(self) -> int:
        return self.table.shape[-1]

    def next_logits(self, history: History) -> Tensor:
        last = (history.length - 1).clamp(min=0)
        if history.steps == 0:
            return self.table[torch.zeros_like(last), torch.zeros_like(last)]
        rows = torch.arange(history.batch)
        begun = history.length > 0
        item = torch.where(begun, history.items[rows, last, 0] + 1, 0)
        click = torch.where(begun, (history.reward[rows, last] > 0).any(-1).long(), 0)
        return self.table[item, click]

    def sample(self, history: History, k: int, streams: Streams) -> Slates:
        uniforms = streams.uniform("slate", history.session, history.length, k, dtype=torch.float64)
        return Slates(*sample_plackett_luce(self.next_logits(history), uniforms))

    def log_prob(self, history: History, slate: Tensor) -> Tensor:
        return plackett_luce_log_prob(self.next_logits(history), slate)
