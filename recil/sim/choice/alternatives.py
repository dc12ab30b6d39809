"""The alternatives of a choice: the items of a slate and, after them, no choice."""

from __future__ import annotations

import torch
from recsim_ng.core.value import ValueSpec
from torch import Tensor

from recil.sim.fields import RandomField
from recil.sim.spaces import Integers


def log_of(mass: Tensor) -> Tensor:
    """The logarithm of masses, minus infinity at 0 and below, where its gradient is 0 instead of infinite."""
    positive = mass > 0
    return torch.where(positive, torch.where(positive, mass, 1.0).log(), -torch.inf)


def or_no_choice(logits: Tensor) -> Tensor:
    """`logits` [..., A] with the last alternative, no choice, made certain where none is possible (all are −∞)."""
    nothing = (logits == -torch.inf).all(-1, keepdim=True)
    last = torch.arange(logits.shape[-1], device=logits.device) == logits.shape[-1] - 1
    return logits.masked_fill(nothing & last, 0.0)


def with_no_choice(scores: Tensor, no_choice: Tensor) -> Tensor:
    """Scores of all alternatives, [B, K + 1], in the precision of the items' scores.

    scores: [B, K]; no_choice: a number, or [B]. Raises ValueError on other shapes.
    """
    if scores.ndim != 2:
        raise ValueError(f"scores of shape {list(scores.shape)}; wanted [sessions, positions]")
    sessions = scores.shape[0]
    if no_choice.ndim and no_choice.shape != (sessions,):
        raise ValueError(
            f"no choice has the shape {list(no_choice.shape)} beside scores {list(scores.shape)};"
            f" wanted one number, or [{sessions}]"
        )
    return torch.cat([scores, no_choice.to(scores.dtype).expand(sessions)[:, None]], -1)


def index_spec(slate_size: int | None, picks: tuple[int, ...] = ()) -> ValueSpec:
    """The field `choice` of models that choose positions: whole numbers from 0 to `slate_size`, which is no choice.

    slate_size: None where it is not known; picks: (how many are chosen,) where there are several.
    """
    count = torch.iinfo(torch.int64).max if slate_size is None else slate_size + 1
    return ValueSpec(choice=RandomField(Integers(count, picks)))
