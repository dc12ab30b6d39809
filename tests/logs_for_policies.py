"""Small logs with every kind of column, for tests of policies and of cloning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from recil.logs.history import History
from recil.logs.session_log import Column, SessionLog

ITEMS = 12


def log_with_all_columns(sessions: int = 40, seed: int = 0, slate_size: int = 3, catalogue: int = ITEMS) -> SessionLog:
    """Sessions of 1 to 6 steps; pads in some slates; feedback, context, user and item columns of both types."""
    draw = np.random.default_rng(seed)
    lengths = draw.integers(1, 7, sessions)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    steps = int(offsets[-1])
    # The recommender prefers low indices, and lower ones still where the session's user is of kind 0.
    kind = draw.integers(0, 2, sessions).astype(np.int32)
    pull = np.repeat(np.where(kind == 0, 0.6, 0.2), lengths)
    score = -pull[:, None] * np.arange(catalogue) + draw.gumbel(size=(steps, catalogue))
    items = np.argsort(-score, 1)[:, :slate_size].astype(np.int32)
    if slate_size > 1:
        items[draw.random(steps) < 0.2, -1] = -1
    shown = items >= 0
    reward = np.where(shown, draw.random(items.shape) < 0.2, 0).astype(np.float32)
    answer = np.where(shown, draw.integers(-1, 4, items.shape), -1).astype(np.int32)
    tags = np.where(draw.random((catalogue, 3)) < 0.3, -1, draw.integers(0, 5, (catalogue, 3))).astype(np.int32)
    return SessionLog(
        item_ids=np.array([f"item {index}" for index in range(catalogue)]),
        items=items,
        reward=reward,
        offsets=offsets,
        session_ids=np.arange(sessions) + 100,
        feedback={
            "answer": Column(answer, ("a", "b", "c", "d")),
            "seconds": Column(np.where(shown, draw.exponential(30, items.shape), 0).astype(np.float32)),
        },
        context={
            "context_tab": Column(draw.integers(-1, 3, steps).astype(np.int32), ("x", "y", "z")),
            "context_hour": Column(draw.normal(12, 4, steps).astype(np.float32)),
        },
        user_features={
            "user_kind": Column(kind, ("low", "any")),
            "user_age": Column(draw.normal(40, 9, sessions).astype(np.float32)),
        },
        item_features={
            "item_tags": Column(tags, ("p", "q", "r", "s", "t")),
            "item_price": Column(draw.normal(size=catalogue).astype(np.float32)),
        },
    )


def with_garbage_behind(history: History, steps: int) -> History:
    """The same sessions with `steps` more columns, and items, rewards, answers, contexts in all that did not happen."""
    generator = torch.Generator().manual_seed(9)
    behind = ~torch.cat([history.happened, torch.zeros(history.batch, steps, dtype=torch.bool)], 1)[..., None]

    def fill(values: torch.Tensor, largest: int) -> torch.Tensor:
        values = torch.cat([values, values.new_zeros(values.shape[0], steps, values.shape[2])], 1)
        garbage = torch.randint(0, largest, values.shape, generator=generator).to(values.dtype)
        return torch.where(behind, garbage, values)

    def later(values: torch.Tensor) -> torch.Tensor:
        """The coming step's context stays; what stands behind it is not this session's."""
        blank = 0 if values.is_floating_point() else -1
        values = torch.cat([values, values.new_full((values.shape[0], steps), blank)], 1)
        garbage = torch.randint(0, 3, values.shape, generator=generator).to(values.dtype)
        return torch.where(torch.arange(values.shape[1]) > history.length[:, None], garbage, values)

    return replace(
        history,
        context={name: later(value) for name, value in history.context.items()},
        items=fill(history.items, ITEMS),
        reward=fill(history.reward, 2),
        feedback={name: fill(value, 4) for name, value in history.feedback.items()},
        propensity=None,
        memo={},
    )
