"""An agent trained elsewhere as a recil policy: simulated, evaluated and compared like any other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.logs.history import History
from recil.ops.slates import plackett_luce_log_prob, sample_plackett_luce
from recil.policies.protocol import Slates
from recil.random import Streams
from recil.sim.gym.actions import check_slates
from recil.sim.gym.layout import Layout, Observation

Agent = Callable[[Observation], Any]


class Reading(Protocol):
    """How what an agent answers is read as a distribution over slates. answer: [B, ...]."""

    def sample(self, answer: Tensor, uniforms: Tensor) -> Slates:
        """uniforms: [B, k]."""
        ...

    def log_prob(self, answer: Tensor, slate: Tensor) -> Tensor:
        """As Policy.log_prob."""
        ...


@dataclass(frozen=True)
class AsActions:
    """The agent answers with slates, [B, K] (or [B], one item), and means those and no others."""

    catalogue: int

    def sample(self, answer: Tensor, uniforms: Tensor) -> Slates:
        wanted = uniforms.shape[1]
        items = self._items(answer)
        if items.shape[1] < wanted:
            raise InputError("agent", f"slates of {items.shape[1]}", f"here it must show {wanted} items")
        return Slates(items[:, :wanted], torch.zeros_like(uniforms, dtype=torch.float32))

    def log_prob(self, answer: Tensor, slate: Tensor) -> Tensor:
        items, shown = self._items(answer), slate >= 0
        # Pads take no item of the agent's.
        rank = (shown.cumsum(1) - 1).clamp(min=0)
        meant = items.gather(1, rank.clamp(max=items.shape[1] - 1))
        likely = (meant == slate) & (rank < items.shape[1])
        return torch.where(shown & ~likely, -torch.inf, 0.0)

    def _items(self, answer: Tensor) -> Tensor:
        if answer.ndim not in (1, 2) or answer.is_floating_point() or answer.dtype == torch.bool:
            raise InputError(
                "agent", f"{answer.dtype} of shape {list(answer.shape)}", "actions are whole numbers of shape [B, K]"
            )
        items = answer.long().reshape(len(answer), -1)
        check_slates(items.cpu().numpy(), self.catalogue, np.ones(len(items), dtype=bool), "agent's actions[{row}]")
        return items


@dataclass(frozen=True)
class AsLogits:
    """The agent answers with logits over the catalogue, [B, A]; slates are drawn from them without replacement."""

    catalogue: int

    def sample(self, answer: Tensor, uniforms: Tensor) -> Slates:
        logits, wanted = self._logits(answer), uniforms.shape[1]
        possible = (logits > -torch.inf).sum(1)
        if len(possible) and int(possible.min()) < wanted:
            row = int(possible.argmin())
            raise InputError(
                f"agent's logits[{row}]", f"{int(possible[row])} items above -inf", f"here it must show {wanted}"
            )
        return Slates(*sample_plackett_luce(logits, uniforms))

    def log_prob(self, answer: Tensor, slate: Tensor) -> Tensor:
        return plackett_luce_log_prob(self._logits(answer), slate)

    def _logits(self, answer: Tensor) -> Tensor:
        if answer.shape[1:] != (self.catalogue,):
            raise InputError("agent", f"logits of shape {list(answer.shape)}", f"give one for each of {self.catalogue}")
        logits = answer if answer.dtype == torch.float64 else answer.float()
        bad = (logits.isnan() | (logits == torch.inf)).any(1).nonzero()[:, 0]
        if len(bad):
            raise InputError(f"agent's logits[{int(bad[0])}]", "NaN or +inf", "logits are finite, or -inf: never")
        return logits


@dataclass(frozen=True, eq=False)
class AgentPolicy:
    """What an agent would recommend. Made by `of_actions` or `of_logits`.

    agent    from observations, arrays [B, ...] as the layout says, to its answers [B, ...] (numpy or torch); it must
             answer each session by itself, whatever else is in the batch
    layout   what the agent sees: that of the environment it was trained in, `env.unwrapped.layout`
    reading  how its answers are read
    """

    agent: Agent
    layout: Layout
    reading: Reading

    @staticmethod
    def of_actions(agent: Agent, layout: Layout) -> AgentPolicy:
        """The agent answers with slates, int [B, K] (or [B], one item): these have probability 1, all others 0.

        More than K items are a ranking, of which the first are shown.
        """
        return AgentPolicy(agent, layout, AsActions(layout.catalogue))

    @staticmethod
    def of_logits(agent: Agent, layout: Layout) -> AgentPolicy:
        """The agent answers with logits over the catalogue, float [B, A], -inf for what it never shows.

        Logarithms of probabilities are such logits. Slates are drawn item after item without replacement
        (Plackett-Luce), with exact propensities.
        """
        return AgentPolicy(agent, layout, AsLogits(layout.catalogue))

    @property
    def catalogue(self) -> int:
        return self.layout.catalogue

    def sample(self, history: History, k: int, streams: Streams) -> Slates:
        """The coming slate of k items for every session."""
        uniforms = streams.uniform("slate", history.session, history.length, k, dtype=torch.float64)
        return self.reading.sample(self._answer(history), uniforms)

    def log_prob(self, history: History, slate: Tensor) -> Tensor:
        """Log-probability of each item of `slate` (int64 [B, K], -1 pad) given those before it. [B, K], 0 at pads."""
        return self.reading.log_prob(self._answer(history), slate)

    def save(self, path: str | Path) -> NoReturn:
        """InputError: only the agent's own library can write it."""
        raise InputError(
            f"policy folder {path}",
            "an agent from elsewhere has no parts that recil could write",
            "save the agent with its own library, and wrap it again once it is loaded",
        )

    def _answer(self, history: History) -> Tensor:
        answer = _as_tensor(self.agent(self.layout.observe(history)))
        if answer.ndim == 0 or len(answer) != history.batch:
            raise InputError("agent", f"answers of shape {list(answer.shape)}", f"give one for each of {history.batch}")
        return answer.to(history.items.device)


def _as_tensor(answer: Any) -> Tensor:
    return answer.detach() if isinstance(answer, Tensor) else torch.as_tensor(np.asarray(answer))
