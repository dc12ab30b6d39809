"""Fitting users to a log by maximum likelihood, through the same story that simulates them.

A session's type is latent: its likelihood is the mixture over types, exact by scoring the session under each of them.
Parameters carry Gaussian priors (maximum a posteriori), so that a short log does not overfit; a log of sessions the
gradient never saw decides when to stop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.logs.clusters import Clusters, clusters_of
from recil.logs.session_log import SessionLog
from recil.random import Streams
from recil.sim.behaviour import Behaviour
from recil.sim.exposure import lean_on_exposure
from recil.sim.fit_checkpoint import FitCheckpoint
from recil.sim.intercepts import settle_intercepts
from recil.sim.layout import layout_of
from recil.sim.optimise import Metrics, by_length, optimise
from recil.sim.rates import baselines_of
from recil.sim.select_choice import select_choice, select_window
from recil.sim.start import start_at_rates
from recil.sim.units import set_aside
from recil.sim.user_config import UserConfig
from recil.sim.users import Starts, UserModel, ends_of, item_columns_of, score


def check_rewards(log: SessionLog) -> None:
    """Simulated users click or do not: rewards must be 0 or 1, and some must be 1."""
    odd = ~np.isin(log.reward, (0.0, 1.0))
    if odd.any():
        value = float(log.reward[odd][0])
        raise InputError(
            "reward",
            f"{int(odd.sum())} values are neither 0 nor 1, the first is {value}",
            "name a 0/1 column with reward=",
        )
    if not log.reward.any():
        raise InputError(
            "reward",
            "no click in the whole log: users cannot be fitted to it",
            "choose another reward column or a longer log",
        )


def enough_units(log: SessionLog, cluster: str | None, what: str) -> Clusters:
    """The units of the log. InputError where they are too few to hold some out. what: is to be fitted."""
    units = clusters_of(log, cluster)
    if units.count < 10:
        remedy = "bring at least 10" + ("" if log.sessions < 10 else ', or set cluster to "session"')
        raise InputError("log", f"{units.count} {units.plural} are too few to fit {what} to", remedy)
    return units


def fit_users(
    log: SessionLog,
    config: UserConfig | None = None,
    seed: int = 0,
    *,
    on_metrics: Metrics | None = None,
    checkpoint: str | Path | None = None,
) -> UserModel:
    """Simulated users that behave like the log's.

    on_metrics is called after each epoch with `users/nll` and `users/held_out_nll`, per session, in nats.
    checkpoint: a file, written after each epoch; a fit that was cut off goes on from it and ends where it would have.
    Raises InputError when rewards are not 0/1, none is 1, there are too few users (sessions, where the log names no
    users) to hold some out, or the checkpoint is damaged or of another log, config or seed.
    """
    config = config or UserConfig()
    check_rewards(log)
    enough_units(log, config.cluster, "users")
    streams = Streams(seed)
    choice, choices = select_choice(log, config, streams)
    window, windows = select_window(log, config, choice, streams)
    behaviour = Behaviour(layout_of(log, replace(config, window=window), choice), streams)
    item_columns = item_columns_of(log)
    train, held_out = split_sessions(log, config, streams)
    climbed = log.select(train)
    settled, centre = lean_on_exposure(behaviour, climbed, config, start_at_rates(behaviour, climbed, config))
    saved = None if checkpoint is None else FitCheckpoint.of(checkpoint, log, config, streams)
    report = optimise(behaviour, item_columns, log, (train, held_out), settled, streams, on_metrics, saved, centre)
    settle_intercepts(behaviour, item_columns, log, np.arange(log.sessions))
    return UserModel(
        behaviour,
        starts_of(behaviour, item_columns, log),
        log.item_ids,
        item_columns,
        baselines_of(log, config.cluster),
        float(ends_of(log).mean()),
        {**report, **choices, **windows},
    )


def split_sessions(log: SessionLog, config: UserConfig, streams: Streams) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the sessions to climb on, and of those that say when to stop; no unit has some in both."""
    count = max(1, int(config.held_out * log.sessions))
    held_out, train = set_aside(clusters_of(log, config.cluster), count, streams.numpy("users.held_out"))
    return train, held_out


def starts_of(behaviour: Behaviour, item_columns: Mapping[str, Tensor], log: SessionLog) -> Starts:
    """The starts of the log's own sessions: types given what they did, user columns, contexts."""
    everything = np.arange(log.sessions)
    kinds = torch.zeros(log.sessions, behaviour.layout.types)
    with torch.no_grad():
        for chosen in by_length(log, everything, 2048):
            by_kind, _ = score(behaviour, item_columns, log.batch(chosen))
            kinds[torch.from_numpy(chosen)] = torch.softmax(by_kind + behaviour.type_log_prior(), -1)
    rows, inside = log.rows(everything)
    context = {}
    for name, column in log.known_context.items():
        values = column.tensor(rows)
        context[name] = torch.where(torch.from_numpy(inside), values, torch.zeros((), dtype=values.dtype))
    user = {name: column.tensor(everything) for name, column in log.user_features.items()}
    return Starts(kinds, user, context, torch.from_numpy(log.lengths))
