"""What fitted users predict for logged sessions, step by step, from what was seen before each step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.sim.earlier import with_earlier
from recil.sim.likelihood import LogProb
from recil.sim.optimise import by_length
from recil.sim.stories import CLICKS, LEAVES
from recil.sim.users import UserModel


@dataclass(frozen=True)
class Predictions:
    """Predictions for a log's own steps, each from the steps before it (and, for leaving, the clicks of the step).

    click     float64 [N, K], probability of a click on each item shown, 0 at pads
    leave     float64 [N], probability that the session ends after the step
    log_prob  float64 [S], log-probability of each session's clicks and end
    """

    click: np.ndarray
    leave: np.ndarray
    log_prob: np.ndarray


def probabilities(scored: LogProb, name: str) -> Tensor:
    """[T, B, ...]: the probability of 1 that each observed value of a binary field was scored under."""
    return torch.stack([cast(Any, step).probs for step in scored.distributions[name]])


def check_fit_for(users: UserModel, log: SessionLog) -> None:
    """Raises InputError where the users look at something that the log does not have."""
    layout = users.behaviour.layout
    if log.catalogue != layout.catalogue or log.slate_size > layout.slate_size:
        raise InputError(
            "log",
            f"{log.catalogue} items in slates of {log.slate_size}; the users know {layout.catalogue} in slates of up to"
            f" {layout.slate_size}",
            "use a log like the one the users were fitted to",
        )
    for features, columns in ((layout.contexts, log.context), (layout.users, log.user_features)):
        for feature in features:
            column = columns.get(feature.name)
            found = None if column is None or column.categories is None else len(column.categories)
            if column is None or found != feature.categories:
                problem = "is missing" if column is None else f"has {found} categories, not {feature.categories}"
                raise InputError("log", f"column {feature.name} {problem}", "use a log with the users' columns")


def _weights(scores: Tensor, prior: Tensor) -> Tensor:
    """[..., M]: probability of each type given log-scores; what no type can do says nothing about the type."""
    impossible = torch.isneginf(scores).all(-1, keepdim=True)
    return torch.softmax(torch.where(impossible, prior, scores), -1)


@torch.no_grad()
def predict(users: UserModel, log: SessionLog, batch: int = 1024, *, before: SessionLog | None = None) -> Predictions:
    """One-step-ahead predictions: types are weighed by what the session has shown of them so far.

    before: another part of the log, whose sessions lead in those of the same id: after a split in time, users then come
    to the later part with the mood, and what is known of their type, from the earlier one. The log-probability is that
    of the later part given the earlier one. Raises InputError where the users look at something that is not there.
    """
    check_fit_for(users, log)
    whole, rows = with_earlier(log, before)
    led = whole.lengths - log.lengths
    click, leave = np.zeros(whole.items.shape), np.zeros(whole.steps)
    total = np.zeros(whole.sessions)
    for chosen in by_length(whole, np.arange(whole.sessions), batch):
        places, inside = whole.rows(chosen)
        clicks, leaves, scores = _of_batch(users, whole, chosen, torch.from_numpy(led[chosen]))
        click[places[inside]] = clicks.double().numpy()[inside]
        leave[places[inside]] = leaves.double().numpy()[inside]
        total[chosen] = scores.double().numpy()
    return Predictions(click[rows], leave[rows], total)


def _of_batch(users: UserModel, log: SessionLog, chosen: np.ndarray, led: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Clicks [B, T, K], departures [B, T], and log-probabilities [B] of all but the first `led` steps of each."""
    by_kind, scored = users.log_prob(log.batch(chosen))
    kinds, prior = users.behaviour.layout.types, users.behaviour.type_log_prior()
    shape = (scored.by_step.shape[0], len(chosen), kinds)
    after = prior + scored.by_step.reshape(shape).cumsum(0)
    until = torch.cat([prior.expand(1, len(chosen), kinds), after[:-1]])
    clicked = until + scored.fields[CLICKS].reshape(shape)
    clicks = probabilities(scored, CLICKS).reshape(*shape, -1) * _weights(until, prior)[..., None]
    leaves = probabilities(scored, LEAVES).reshape(shape) * _weights(clicked, prior)
    scores = torch.logsumexp(by_kind + prior, -1)
    known = torch.logsumexp(until[led, torch.arange(len(chosen))], -1)
    scores = torch.where(torch.isneginf(scores), scores, scores - known)
    return clicks.sum(2).transpose(0, 1), leaves.sum(2).transpose(0, 1), scores
