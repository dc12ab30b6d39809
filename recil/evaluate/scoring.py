"""What policies say of logged sessions: their log-probabilities, and the slates they would have shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.logs.history import History
from recil.logs.session_log import PAD, SessionLog
from recil.policies.protocol import Policy, log_prob_of_sessions
from recil.random import Streams


@runtime_checkable
class WholeCatalogue(Protocol):
    """A policy that can weigh all items at once."""

    def next_logits(self, history: History) -> Tensor:
        """Logits of the coming slate's first item, [B, A]."""
        ...


def stretches(log: SessionLog, most_steps: int) -> Iterator[tuple[int, SessionLog]]:
    """The log in runs of sessions that stand side by side: the first one's position, and the run as a log of its own.

    Nothing is copied, so that a log on disk is read from end to end, a run at a time.
    """
    start = 0
    while start < log.sessions:
        first = int(log.offsets[start])
        stop = max(start + 1, int(np.searchsorted(log.offsets, first + most_steps, side="right")) - 1)
        yield start, _run(log, slice(start, stop), slice(first, int(log.offsets[stop])))
        start = stop


def _run(log: SessionLog, sessions: slice, rows: slice) -> SessionLog:
    def of_steps(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else values[rows]

    return replace(
        log,
        items=log.items[rows],
        reward=log.reward[rows],
        offsets=log.offsets[sessions.start : sessions.stop + 1] - rows.start,
        session_ids=log.session_ids[sessions],
        propensity=of_steps(log.propensity),
        timestamp=of_steps(log.timestamp),
        user_ids=None if log.user_ids is None else log.user_ids[sessions],
        terminated=None if log.terminated is None else log.terminated[sessions],
        feedback={name: column.take(rows) for name, column in log.feedback.items()},
        context={name: column.take(rows) for name, column in log.context.items()},
        propensity_of={name: values[rows] for name, values in log.propensity_of.items()},
        user_features={name: column.take(sessions) for name, column in log.user_features.items()},
    )


def session_batches(log: SessionLog, most_sessions: int, most_scores: int) -> Iterator[np.ndarray]:
    """Positions of sessions of like length, so that little is padding; every result is the same in any other order.

    A policy that scores the whole catalogue at once holds sessions * steps * items numbers: at most `most_scores`.
    """
    order = np.argsort(log.lengths, kind="stable")
    lengths = log.lengths[order]
    start = 0
    while start < len(order):
        # The next batch is as wide as its last session is long.
        cost = lengths[start : start + most_sessions] * np.arange(1, 1 + len(order[start : start + most_sessions]))
        size = max(1, int(np.searchsorted(cost, most_scores // log.catalogue, side="right")))
        yield order[start : start + size]
        start += size


def log_propensity_of(batch: History, behaviour: Policy | None) -> Tensor:
    """The log's own propensities or, when it has none, `behaviour`'s: logarithms, float64 [B, T, K]."""
    if batch.propensity is not None:
        return batch.propensity.double().log()
    assert behaviour is not None
    scores = scores_of(behaviour, batch, "behaviour")
    impossible = int((scores.isneginf() & batch.shown).sum())
    if impossible:
        raise InputError(
            "behaviour",
            f"it gives probability 0 to {impossible} items that were shown",
            "estimate the logging policy with a model that gives every item some probability",
        )
    return scores


def scores_of(policy: Policy, batch: History, name: str) -> Tensor:
    """The policy's log-probabilities of the logged slates, float64 [B, T, K], checked."""
    with torch.no_grad():
        scores = log_prob_of_sessions(policy, batch).double()
    wrong = batch.shown & (scores.isnan() | (scores > 1e-3))
    if wrong.any():
        raise InputError(
            name or "policy",
            f"log_prob gives {float(scores[wrong][0])} for {int(wrong.sum())} logged items, no log-probability",
            "check the policy's log_prob, and its weights for nan",
        )
    return scores


def target_slates(policy: Policy, batch: History, draws: int, streams: Streams) -> Tensor:
    """Slates the policy would have shown at each logged history, int64 [draws, B, T, K], -1 where nothing was shown.

    They share no draw with the log, which the doubly robust estimator needs. A slate is as full as the logged one.
    """
    own = torch.full((draws, *batch.items.shape), PAD)
    sources = [streams.child("target", draw) for draw in range(draws)]
    history = History.start(batch.session, batch.slate_size, batch.user, batch.context)
    history = replace(history, reward=batch.reward[:, :0])
    # In a slate that is not full, the first items drawn go to the places that were filled.
    k = min(batch.slate_size, policy.catalogue)
    rank = (batch.shown.cumsum(-1) - 1).clamp(0, k - 1)
    with torch.no_grad():
        for step in range(batch.steps):
            for draw, source in enumerate(sources):
                items = policy.sample(history, k, source).items
                own[draw, :, step] = torch.where(batch.shown[:, step], items.gather(1, rank[:, step]), PAD)
            feedback = {name: values[:, step] for name, values in batch.feedback.items()}
            history = history.append(batch.items[:, step], batch.reward[:, step], feedback=feedback)
    return own


def first_items(batch: History) -> Tensor:
    """The first item of each slate, wherever it stands; int64 [B, T], -1 where nothing was shown."""
    return batch.items.gather(2, batch.shown.long().argmax(2, keepdim=True))[:, :, 0]


def group_probabilities(
    policy: WholeCatalogue, batch: History, group: Tensor, groups: int
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Step by step: its number, the sessions that were shown something (int64 [b]), the groups' chances of the first
    item (float64 [b, G]); group int64 [A]. No more than [B, A] numbers are held at once.
    """
    shown = first_items(batch) >= 0
    with torch.no_grad():
        for step in range(batch.steps):
            going_on = torch.nonzero(shown[:, step])[:, 0]
            if len(going_on):
                chance = policy.next_logits(batch.prefix(step).take(going_on)).double().softmax(1)
                alike = torch.zeros(len(going_on), groups, dtype=torch.float64).index_add_(1, group, chance)
                yield step, going_on, alike


def category_log_prob(policy: WholeCatalogue, batch: History, category: Tensor) -> Tensor:
    """Log-probability that the first item shown is of the category it was of. category int64 [A] -> float64 [B, T].

    0 where nothing was shown.
    """
    found = torch.zeros(batch.batch, batch.steps, dtype=torch.float64)
    first = category[first_items(batch).clamp(min=0)]
    for step, going_on, chance in group_probabilities(policy, batch, category, int(category.max()) + 1):
        found[going_on, step] = chance.gather(1, first[going_on, step][:, None])[:, 0].clamp(max=1.0).log()
    return found
