"""Climbing the likelihood of a log: minibatches, priors, averaged weights, early stopping."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.random import Streams
from recil.sim.behaviour import Behaviour
from recil.sim.fit_checkpoint import FitCheckpoint, FitState
from recil.sim.prior_draw import OWN, Centre, column
from recil.sim.user_config import UserConfig
from recil.sim.users import score

# Smaller groups pad less, and cost more in what every operator costs by itself.
GROUP = 512

Metrics = Callable[[int, Mapping[str, float]], None]


def log_prior(behaviour: Behaviour, config: UserConfig, centre: Centre | None = None) -> Tensor:
    """Log-density of the parameters under their Gaussian priors, up to a constant. centre: means that are not 0."""
    centre = centre or {}

    def gaussian(values: Tensor, scale: float) -> Tensor:
        return -0.5 * (values / scale).square().sum()

    assert config.appeal_scale is not None and config.item_scales is not None, "settled by start_at_rates"
    total = gaussian(behaviour.item_vector, config.vector_scale)
    total = total + gaussian(behaviour.item_appeal - centre.get(OWN, 0.0), config.appeal_scale)
    for place, (table, scale) in enumerate(zip(behaviour.item_effects.tables, config.item_scales, strict=True)):
        total = total + gaussian(table[:, 0] - centre.get(column(place), 0.0), scale)
        total = total + gaussian(table[:, 1:], config.effect_scale)
    for table in behaviour.user_effects.tables:
        total = total + gaussian(table, config.effect_scale)
    for table in behaviour.context_effects.tables:
        total = total + gaussian(table, config.context_scale)
    for parameter in (behaviour.type_home, behaviour.type_appeal, behaviour.type_hazard):
        total = total + gaussian(parameter, 1.0)
    for parameter in (*behaviour.answers.base, *behaviour.answers.slope):
        total = total + gaussian(parameter, 3.0)
    for repeated in (behaviour.repeat_seen, behaviour.repeat_taken):
        if repeated is not None:
            total = total + gaussian(repeated, config.repeat_scale)
    return total + gaussian(behaviour.position, 0.5) + gaussian(behaviour.hazard_step, 0.5)


def session_log_prob(
    behaviour: Behaviour, item_columns: Mapping[str, Tensor], log: SessionLog, chosen: np.ndarray
) -> Tensor:
    """[B]: log-probability of what users did in these sessions, given what they were shown."""
    by_kind, _ = score(behaviour, item_columns, log.batch(chosen))
    return torch.logsumexp(by_kind + behaviour.type_log_prior(), -1)


def by_length(log: SessionLog, chosen: np.ndarray, size: int) -> list[np.ndarray]:
    """The chosen sessions in groups of at most `size` and of like length, so that little is padded."""
    ordered = chosen[np.argsort(log.lengths[chosen], kind="stable")]
    return [ordered[first : first + size] for first in range(0, len(ordered), size)]


def _groups(behaviour: Behaviour, learning_rate: float) -> list[dict[str, Any]]:
    """What many sessions share learns faster: it must settle before the tables, of which each row has few sessions."""
    tables = ("item_vector", "item_appeal", "item_effects.", "user_effects.")
    slow = [value for name, value in behaviour.named_parameters() if name.startswith(tables)]
    fast = [value for name, value in behaviour.named_parameters() if not name.startswith(tables)]
    return [{"params": values, "fastest": rate} for values, rate in ((slow, learning_rate), (fast, 5 * learning_rate))]


@torch.no_grad()
def _follow(average: Behaviour, behaviour: Behaviour, share: float) -> None:
    """Polyak's average of the steps: with a few clicks per batch, single steps are too noisy to be calibrated."""
    for kept, now in zip(average.parameters(), behaviour.parameters(), strict=True):
        kept.lerp_(now, share)


def _gradient_step(
    behaviour: Behaviour,
    item_columns: Mapping[str, Tensor],
    log: SessionLog,
    chosen: np.ndarray,
    config: UserConfig,
    train_sessions: int,
    centre: Centre | None = None,
) -> tuple[Tensor, float]:
    """The loss of a batch, gradients set; and the batch's negative log-likelihood.

    A batch holds sessions of all lengths; they are scored in groups of like length only to save padding.
    """
    groups = by_length(log, chosen, max(GROUP, config.batch // 4))
    likelihood = torch.cat([session_log_prob(behaviour, item_columns, log, group) for group in groups])
    loss = -likelihood.mean() - log_prior(behaviour, config, centre) / train_sessions
    loss.backward()
    return loss.detach(), -float(likelihood.detach().sum())


@torch.no_grad()
def _held_out_nll(
    behaviour: Behaviour, item_columns: Mapping[str, Tensor], log: SessionLog, held_out: np.ndarray, size: int
) -> float:
    groups = by_length(log, held_out, size)
    scores = [session_log_prob(behaviour, item_columns, log, group).double().sum() for group in groups]
    return -float(sum(scores)) / len(held_out)


def optimise(
    behaviour: Behaviour,
    item_columns: Mapping[str, Tensor],
    log: SessionLog,
    parts: tuple[np.ndarray, np.ndarray],
    config: UserConfig,
    streams: Streams,
    on_metrics: Metrics | None,
    checkpoint: FitCheckpoint | None = None,
    centre: Centre | None = None,
) -> dict[str, float]:
    """Fit `behaviour` in place to the sessions parts[0]; those in parts[1] say when to stop.

    Adam on the mean negative log-posterior per session, with an average over about the last epoch of steps; the best
    average by held-out likelihood is kept. checkpoint: written after each epoch, and gone on from where there is one.
    centre: means of priors, as in `log_prior`.
    """
    train, held_out = parts
    steps_per_epoch = math.ceil(len(train) / config.batch)
    optimiser = torch.optim.Adam(_groups(behaviour, config.learning_rate))
    state = FitState(behaviour, copy.deepcopy(behaviour), optimiser, copy.deepcopy(behaviour.state_dict()))
    if checkpoint:
        checkpoint.read(state)
    while state.epoch < config.epochs and state.epoch - state.best_epoch < config.patience:
        state.epoch += 1
        inside = _epoch(state, item_columns, log, train, config, streams, steps_per_epoch, centre)
        outside = _held_out_nll(state.average, item_columns, log, held_out, config.batch)
        if outside < state.best:
            state.best, state.best_epoch = outside, state.epoch
            state.kept = copy.deepcopy(state.average.state_dict())
        if checkpoint:
            checkpoint.write(state)
        if on_metrics:
            on_metrics(state.epoch, {"users/nll": inside, "users/held_out_nll": outside})
    behaviour.load_state_dict(state.kept)
    return {"epochs": float(state.best_epoch), "held_out_nll": state.best, "sessions": float(log.sessions)}


def _epoch(
    state: FitState,
    item_columns: Mapping[str, Tensor],
    log: SessionLog,
    train: np.ndarray,
    config: UserConfig,
    streams: Streams,
    steps_per_epoch: int,
    centre: Centre | None,
) -> float:
    """One pass over the sessions `train`; the negative log-likelihood per session that it met on the way."""
    seen = 0.0
    order = streams.numpy("users.order", state.epoch).permutation(train)
    for first in range(0, len(order), config.batch):
        chosen = order[first : first + config.batch]
        for group in state.optimiser.param_groups:
            group["lr"] = group["fastest"] * _pace(state.steps / (config.epochs * steps_per_epoch))
        state.optimiser.zero_grad(set_to_none=True)
        loss, batch_nll = _gradient_step(state.behaviour, item_columns, log, chosen, config, len(train), centre)
        if not torch.isfinite(loss):
            names = ", ".join(str(log.session_ids[session]) for session in chosen[:3])
            where = f"loss {float(loss)} in epoch {state.epoch}, in the batch of sessions {names}, ..."
            raise InputError("fit_users", where, "lower users.learning_rate")
        state.optimiser.step()
        state.steps, seen = state.steps + 1, seen + batch_nll
        _follow(state.average, state.behaviour, max(1 / state.steps, 1 / steps_per_epoch))
    return seen / len(train)


def _pace(done: float) -> float:
    """The learning rate as a share of its first value, when this share of all steps is done: a cosine down to .1."""
    return 0.1 + 0.45 * (1 + math.cos(math.pi * min(done, 1)))
