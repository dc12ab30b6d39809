"""A batch of sessions so far: what a policy may look at, and what a learner is trained on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

PAD = -1


@dataclass(frozen=True)
class History:
    """B sessions of up to T steps with slates of up to K items.

    items       int64 [B, T, K], catalogue index, -1 where nothing is shown
    reward      float32 or float64 [B, T, K], 0 where nothing is shown
    length      int64 [B], number of steps that took place; steps from there on are padding
    session     int64 [B], the sessions' addresses for draws (recil.random), not their position in the batch
    propensity  float32 [B, T, K] or None, probability of each item given the items before it in its slate
    feedback    name -> [B, T, K] float32, or int64 codes (-1 missing), seen after the slate
    context     name -> [B, C] float32 or int64 codes, seen before the slate; C >= T, and C > T where the coming step's
                context is known
    user        name -> [B] float32 or int64 codes, constant over the session
    terminated  bool [B] or None: the user left after the last step (False: the log or the horizon cut the session)
    memo        what encoders have already computed, keyed by encoder; carried along by `append`

    Padding never changes what a policy does: the slate after a history depends on its first `length` steps only.
    """

    items: Tensor
    reward: Tensor
    length: Tensor
    session: Tensor
    propensity: Tensor | None = None
    feedback: Mapping[str, Tensor] = field(default_factory=dict)
    context: Mapping[str, Tensor] = field(default_factory=dict)
    user: Mapping[str, Tensor] = field(default_factory=dict)
    terminated: Tensor | None = None
    memo: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.items.ndim != 3 or self.reward.shape != self.items.shape:
            raise ValueError(
                f"History: items {tuple(self.items.shape)} and reward {tuple(self.reward.shape)} must be [B, T, K]"
            )
        if self.length.shape != self.items.shape[:1] or self.session.shape != self.items.shape[:1]:
            raise ValueError("History: length and session must be [B]")

    @staticmethod
    def start(
        session: Tensor,
        slate_size: int,
        user: Mapping[str, Tensor] | None = None,
        context: Mapping[str, Tensor] | None = None,
    ) -> History:
        """Empty histories for the sessions at these addresses (int64 [B])."""
        shape = (session.shape[0], 0, slate_size)
        return History(
            items=torch.empty(shape, dtype=torch.int64, device=session.device),
            reward=torch.empty(shape, dtype=torch.float32, device=session.device),
            length=torch.zeros_like(session),
            session=session,
            user=user or {},
            context=context or {},
        )

    @property
    def batch(self) -> int:
        return self.items.shape[0]

    @property
    def steps(self) -> int:
        """T, the number of steps the tensors hold (padding included)."""
        return self.items.shape[1]

    @property
    def slate_size(self) -> int:
        return self.items.shape[2]

    @property
    def shown(self) -> Tensor:
        """bool [B, T, K]: an item stands here."""
        return self.items >= 0

    @property
    def happened(self) -> Tensor:
        """bool [B, T]: this step took place."""
        return torch.arange(self.steps, device=self.items.device) < self.length[:, None]

    def append(
        self,
        items: Tensor,
        reward: Tensor,
        propensity: Tensor | None = None,
        feedback: Mapping[str, Tensor] | None = None,
    ) -> History:
        """The history one step later. items, reward, propensity: [B, K]; a row of -1 leaves that session as it was."""
        took_place = (items >= 0).any(-1)

        def grow(before: Tensor, now: Tensor) -> Tensor:
            return torch.cat([before, now[:, None].to(before.dtype)], 1)

        if propensity is not None:
            before = self.propensity if self.propensity is not None else self.reward.new_empty(self.items.shape)
            propensity = grow(before, propensity)
        return replace(
            self,
            items=grow(self.items, items),
            reward=grow(self.reward, reward),
            length=self.length + took_place,
            propensity=propensity,
            feedback={
                name: grow(self.feedback[name], value) if self.steps else value[:, None]
                for name, value in (feedback or {}).items()
            },
            memo=dict(self.memo),
        )

    def prefix(self, steps: int) -> History:
        """The first `steps` steps, as the policy saw them before it chose slate number `steps`."""
        return replace(
            self,
            items=self.items[:, :steps],
            reward=self.reward[:, :steps],
            length=self.length.clamp(max=steps),
            propensity=None if self.propensity is None else self.propensity[:, :steps],
            feedback={name: value[:, :steps] for name, value in self.feedback.items()},
            context={name: value[:, : steps + 1] for name, value in self.context.items()},
            terminated=None,
            memo={},
        )

    def take(self, rows: Tensor) -> History:
        """The sessions at these places of the batch (int64 [R]), in this order; repeats are allowed."""
        return self._each(lambda values: values[rows])

    def to(self, device: str | torch.device) -> History:
        return self._each(lambda values: values.to(device))

    def _each(self, change: Callable[[Tensor], Tensor]) -> History:
        tensors = ("items", "reward", "length", "session", "propensity", "terminated")
        changed: dict[str, Any] = {
            name: change(getattr(self, name)) for name in tensors if getattr(self, name) is not None
        }
        for name in ("feedback", "context", "user"):
            changed[name] = {key: change(values) for key, values in getattr(self, name).items()}
        return replace(self, memo={}, **changed)
