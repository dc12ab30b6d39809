"""An ensemble of fitted users: how far a log pins its users down.

The central users are fitted to the log; each member to a bootstrap of it (Efron & Tibshirani 1993, "An introduction to
the bootstrap", ch. 6): users are drawn again with all their sessions, or single sessions where the log names no users.
That is done after the split, within the part that is climbed on and within the part that says when to stop: no session
and no user stands on both sides. Members start cold, from initial weights of
their own, for the central fit's initial weights are part of its error. (Started from the central users' parameters they
take half the time; on ten logs of 1,000 sessions of a known world they spread as much for two policies of three, and a
sixth less for the uniform one. On logs so short that no fit settles they went on from where the central one stopped,
away from it.) The way of choosing and the split are the central users'. How items differ is drawn from its prior, for
what a log does not tell of them no bootstrap shows (recil.sim.prior_draw). What other priors add in bias is in all
members alike and not in their spread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from recil.errors import InputError
from recil.logs.clusters import Clusters, clusters_of
from recil.logs.session_log import SessionLog
from recil.random import Streams
from recil.sim.behaviour import Behaviour
from recil.sim.ensemble_folder import WorkFolder, read_members, write_members
from recil.sim.exposure import lean_on_exposure
from recil.sim.fit import fit_users, split_sessions, starts_of
from recil.sim.fit_checkpoint import FitCheckpoint
from recil.sim.intercepts import settle_intercepts
from recil.sim.layout import layout_of
from recil.sim.optimise import Metrics, optimise
from recil.sim.prior_draw import draw_centre, start_towards
from recil.sim.start import start_at_rates
from recil.sim.user_config import UserConfig
from recil.sim.users import UserModel, ends_of


@dataclass(frozen=True)
class UserEnsemble:
    """Users fitted to a log, and as members users fitted to bootstraps of it; at least two, over one catalogue."""

    central: UserModel
    members: tuple[UserModel, ...]

    def __post_init__(self) -> None:
        if len(self.members) < 2:
            raise InputError("ensemble.members", f"{len(self.members)}", "wanted at least 2: one alone has no spread")
        for number, member in enumerate(self.members, 1):
            if not np.array_equal(member.item_ids, self.central.item_ids):
                raise InputError(f"ensemble member {number}", "has another catalogue", "fit all to one log")
            if member.behaviour.layout != self.central.behaviour.layout:
                raise InputError(f"ensemble member {number}", "is of another shape", "fit all with one config")

    def save(self, path: str | Path) -> None:
        """Write a folder with one of users for each, whole or not at all; an older ensemble there is replaced."""
        write_members(path, (self.central, *self.members))

    @staticmethod
    def load(path: str | Path) -> UserEnsemble:
        """The ensemble saved in this folder, equal in every part. InputError where the folder does not hold one."""
        central, *members = read_members(path)
        return UserEnsemble(central, tuple(members))


@dataclass(frozen=True)
class _Member:
    """All that a member's fit depends on, to be sent to another process."""

    log: SessionLog
    config: UserConfig
    seed: int
    central: UserModel
    folder: WorkFolder | None

    def __call__(self, number: int) -> UserModel:
        if self.folder is None:
            return self.fitted(number, None)
        return self.folder.users(f"member-{number}", lambda checkpoint: self.fitted(number, checkpoint))

    def fitted(self, number: int, checkpoint: Path | None) -> UserModel:
        """The users of this member, from 1. On one thread, so that sums come out the same in every process."""
        streams = Streams(self.seed).child("users.member", number)
        train, held_out = split_sessions(self.log, self.config, Streams(self.seed))
        units = clusters_of(self.log, self.config.cluster)
        again = _drawn_again(train, units, streams, 0), _drawn_again(held_out, units, streams, 1)
        saved = None if checkpoint is None else FitCheckpoint.of(checkpoint, self.log, self.config, streams)
        columns = self.central.item_columns
        with _one_thread():
            behaviour = Behaviour(self.central.behaviour.layout, streams)
            climbed = self.log.select(again[0])
            settled = start_at_rates(behaviour, climbed, self.config)
            settled, lean = lean_on_exposure(behaviour, climbed, self.config, settled)
            centre = draw_centre(behaviour, settled, streams)
            start_towards(behaviour, centre, columns, climbed, settled)
            centre = {name: value + lean.get(name, 0.0) for name, value in centre.items()}
            report = optimise(behaviour, columns, self.log, again, settled, streams, None, saved, centre)
            settle_intercepts(behaviour, columns, self.log, np.concatenate(again))
            drawn = self.log.select(np.concatenate(again))
            starts = starts_of(behaviour, columns, drawn)
        leaving = float(ends_of(drawn).mean())
        return replace(self.central, behaviour=behaviour, starts=starts, leaving_rate=leaving, report=report)


def fit_ensemble(
    log: SessionLog,
    config: UserConfig | None = None,
    seed: int = 0,
    *,
    members: int = 5,
    jobs: int = 1,
    on_metrics: Metrics | None = None,
    users: UserModel | None = None,
    checkpoint: str | Path | None = None,
) -> UserEnsemble:
    """Users fitted to the log, and `members` more to bootstraps of its users (sessions, where it names none).

    A member depends on (log, config, seed, its number) alone, not on how many there are or in how many processes
    (`jobs`) they are fitted. users: the central ones, where `fit_users(log, config, seed)` has already made them.
    on_metrics: as in fit_users for the central fit; then, after each member, with its number and `ensemble/epochs`,
    `ensemble/held_out_nll`.
    checkpoint: a folder; finished members found there are not fitted again, unfinished ones go on.
    Raises InputError as fit_users does, and where users or checkpoint do not belong to the log, config and seed.
    """
    config = config or UserConfig()
    for name, value, least in (("members", members, 2), ("jobs", jobs, 1)):
        if value < least:
            raise InputError(name, f"{value}", f"give {least} or more")
    folder = None if checkpoint is None else WorkFolder.of(checkpoint, log, config, Streams(seed))

    def central_fit(unfinished: Path | None) -> UserModel:
        return fit_users(log, config, seed, on_metrics=on_metrics, checkpoint=unfinished)

    if users is not None:
        _check_users(users, log, config)
        central = users
    else:
        central = central_fit(None) if folder is None else folder.users("central", central_fit)
    known = replace(config, choice=central.behaviour.layout.choice)
    found = []
    for number, member in enumerate(_each(_Member(log, known, seed, central, folder), members, jobs), 1):
        found.append(member)
        if on_metrics:
            told = {f"ensemble/{name}": member.report[name] for name in ("epochs", "held_out_nll")}
            on_metrics(number, told)
    return UserEnsemble(central, tuple(found))


def _each(fit: Callable[[int], UserModel], members: int, jobs: int) -> Iterable[UserModel]:
    """The members in order, each as soon as it is there."""
    numbers = range(1, members + 1)
    if jobs == 1:
        return map(fit, numbers)
    from joblib import Parallel, delayed, parallel_config

    with parallel_config("loky", inner_max_num_threads=1):
        return Parallel(n_jobs=jobs, return_as="generator", batch_size=1)(delayed(fit)(number) for number in numbers)


def _drawn_again(sessions: np.ndarray, units: Clusters, streams: Streams, part: int) -> np.ndarray:
    """As many units as these sessions are of, each drawn from all of them, with all their sessions."""
    generator = streams.numpy("users.bootstrap", part)
    if units.of is None:
        return generator.choice(sessions, len(sessions))
    ordered = sessions[np.argsort(units.of[sessions], kind="stable")]
    _, starts = np.unique(units.of[ordered], return_index=True)
    parts = np.split(ordered, starts[1:])
    return np.concatenate([parts[number] for number in generator.integers(0, len(parts), len(parts))])


def _check_users(users: UserModel, log: SessionLog, config: UserConfig) -> None:
    layout = users.behaviour.layout
    # Whether users remember items is found by the central fit.
    told = replace(config, window=min(layout.window, config.window))
    if not np.array_equal(users.item_ids, log.item_ids) or layout != layout_of(log, told, layout.choice):
        raise InputError("users", "are not of this log and config", "give those of fit_users(log, config, seed)")


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
