"""A tabular world to recommend in: items are actions, and the state is seen before each slate."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.exact.draw import Moves
from recil.exact.enumerate import Outcome
from recil.exact.mdp import TabularMDP
from recil.exact.policy import STATE
from recil.logs.history import PAD, History
from recil.policies.environment import Turn
from recil.policies.protocol import Policy
from recil.random import Streams


@dataclass(frozen=True, eq=False)
class TabularWorld:
    """Sessions of a tabular MDP, cut after `horizon` steps; slates hold one item, which is the action.

    observed  int64 [S], what a policy is told of each state: the context column `state` holds observed[state] before
              each slate. None tells the state itself, zeros tell nothing

    Values are undiscounted unless asked otherwise: mdp.gamma belongs to learning and to exact values. It can be rolled
    out (Environment), and its sessions can be listed (ListedWorld).
    """

    mdp: TabularMDP
    horizon: int
    observed: Tensor | None = None
    slate_size = 1

    def __post_init__(self) -> None:
        states = self.mdp.size[0]
        if self.horizon < 1:
            raise InputError("world.horizon", f"{self.horizon}", "wanted at least 1 step")
        seen = torch.arange(states) if self.observed is None else self.observed
        if seen.shape != (states,) or seen.dtype != torch.int64 or int(seen.min()) < 0:
            raise InputError(
                "world.observed", f"is {seen.dtype} {tuple(seen.shape)}", f"give a code from 0 on, [{states}]"
            )
        object.__setattr__(self, "observed", seen)

    @property
    def catalogue(self) -> int:
        return self.mdp.size[1]

    @property
    def item_ids(self) -> np.ndarray:
        """The names of the actions, [A]."""
        return np.array(self.mdp.actions)

    @cached_property
    def identity(self) -> str:
        """A digest of the tables and the horizon: equal where every session would go the same way."""
        digest = hashlib.blake2b(digest_size=8)
        for table in (self.mdp.transition, self.mdp.reward, self.mdp.start, self.mdp.terminal, self.codes):
            digest.update(table.contiguous().numpy().tobytes())
        return f"tabular {digest.hexdigest()}, {self.horizon} steps"

    @property
    def codes(self) -> Tensor:
        """What a policy is told of each state, int64 [S]."""
        assert self.observed is not None
        return self.observed

    def expanded(self, policy: Tensor) -> Tensor:
        """A policy over what is observed, [O, A], as one over states, [S, A]."""
        return policy[self.codes]

    @torch.no_grad()
    def turns(self, policy: Policy, sessions: Tensor, streams: Streams) -> Iterator[Turn]:
        """Sessions under `policy`, slate by slate; see Environment."""
        if policy.catalogue != self.catalogue:
            raise InputError(
                "policy", f"{policy.catalogue} items, the world has {self.catalogue}", "give a policy over its actions"
            )
        moves = Moves.of(self.mdp)
        state = moves.start(streams.uniform("start", sessions, dtype=torch.float64)[:, 0])
        history = History.start(sessions, 1, context={STATE: self.codes[state][:, None]})
        present = torch.ones_like(sessions, dtype=torch.bool)
        for step in range(self.horizon):
            slates = policy.sample(history, 1, streams.child("policy"))
            draw = streams.uniform("world", sessions, step, dtype=torch.float64)[:, 0]
            after, paid = moves.step(state, slates.items[:, 0], draw)
            reward = torch.where(present, paid, 0.0)
            items = torch.where(present[:, None], slates.items, PAD)
            propensity = torch.where(present[:, None], slates.log_prob.exp(), 1.0)
            history = history.append(items, reward[:, None], propensity)
            state = torch.where(present, after, state)
            present = present & ~self.mdp.terminal[state]
            seen = torch.where(present, self.codes[state], -1)
            context = {STATE: torch.cat([history.context[STATE], seen[:, None]], 1)}
            history = replace(history, context=context)
            yield Turn(replace(history, terminated=~present), present)
            if not bool(present.any()):
                break

    def rollout(self, policy: Policy, sessions: Tensor, streams: Streams) -> History:
        """Sessions under `policy`; see Environment."""
        *_, last = self.turns(policy, sessions, streams)
        return replace(last.history, memo={})

    def starts(self) -> Sequence[tuple[float, int]]:
        """See ListedWorld."""
        return [(float(self.mdp.start[state]), int(state)) for state in self.mdp.start.nonzero()[:, 0]]

    def outcomes(self, state: int, slate: tuple[int, ...]) -> Sequence[Outcome]:
        """See ListedWorld."""
        after = self.mdp.transition[state, slate[0]]
        paid = self.mdp.reward_on_arrival[state, slate[0]]
        return [
            Outcome(float(after[then]), (float(paid[then]),), None if self.mdp.terminal[then] else int(then))
            for then in after.nonzero()[:, 0]
        ]

    def context(self, state: int) -> Mapping[str, int]:
        """What a policy is told before the next slate; see ListedWorld."""
        return {STATE: int(self.codes[state])}
