"""Judging users by sessions that they were not fitted to."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.sim.card.click_tables import click_tables
from recil.sim.card.groups import GroupTable
from recil.sim.card.held_out import HeldOut
from recil.sim.card.judge import Judgement, judge_gains, judge_rates, judge_simulated, judge_units
from recil.sim.card.leaving import leaving_of
from recil.sim.card.result import SimulatorCard
from recil.sim.card.rows import CardRow, row_of
from recil.sim.card.simulated import simulated_against_logged
from recil.sim.card.thresholds import CardThresholds
from recil.sim.predict import Predictions, predict
from recil.sim.users import UserModel

REFERENCE = "reference"
# Sessions that are asked about twice, and how far answers may lie apart: other batches round differently.
AGAIN, ROUNDING = 64, 1e-4


class Responses(Protocol):
    """A response model."""

    def predict(self, log: SessionLog, before: SessionLog | None = None) -> np.ndarray:
        """float64 [M]: probability of a click on each item shown, in row order. before: as in `validate`, if given."""
        ...


def validate(
    users: UserModel,
    held_out: SessionLog,
    thresholds: CardThresholds | None = None,
    *,
    reference: Responses | None = None,
    before: SessionLog | None = None,
    seed: int = 0,
    cluster: str | None = None,
) -> SimulatorCard:
    """The card of `users` on sessions they were not fitted to.

    reference: a response model that tells what is learnable; it is shown and never judged. before: the other part of a
    log split in time, where its users are known from: predictions then know what each session held there (sessions that
    run free start anew). seed: of simulated clicks. cluster: what errors and tests count as one: "user", "session", or
    a column; users when None, where the log names them.
    Raises InputError when the log has another catalogue than the users, or other columns than they look at, and when
    users or reference predict what is no probability.
    """
    if not np.array_equal(held_out.item_ids, users.item_ids):
        raise InputError("validate", "the held-out log has another catalogue than the users", "split one log in two")
    limits, seen, found = thresholds or CardThresholds(), HeldOut(held_out, cluster), Judgement()
    judge_units(seen.units, limits, found)
    predictions = predict(users, held_out, before=before)
    own = _checked("users", predictions.click[seen.shown], seen)
    rows = _rows(users, own, reference, seen, before)
    judge_gains([row for row in rows if row.model not in ("users", REFERENCE)], limits, found)
    _judge_soundness(users, predictions, seen, before, found)
    tables: tuple[GroupTable, ...] = ()
    if seen.clicked.any():
        tables = click_tables(own, seen)
    else:
        found.add(True, "no click in the held-out sessions: nothing to judge by")
    leaves = users.behaviour.layout.leaves
    leaving = leaving_of(predictions.leave, users.leaving_rate, seen) if leaves else None
    judge_rates(tables, leaving, limits, found)
    simulated = simulated_against_logged(users, seen, predictions.click, seed)
    judge_simulated(simulated, limits, found)
    return SimulatorCard(
        verdict=found.verdict,
        reasons=found.reasons,
        rows=tuple(rows),
        observed_rate=float(seen.clicked.mean()),
        leave_log_loss=None if leaving is None else (leaving.log_loss, leaving.constant),
        sessions=held_out.sessions,
        impressions=len(own),
        tables=tables,
        leaving=leaving,
        simulated=simulated,
        thresholds=limits,
        users=users.digest,
        cluster=seen.units.name,
        units=seen.units.count,
    )


def _rows(
    users: UserModel, own: np.ndarray, reference: Responses | None, seen: HeldOut, before: SessionLog | None
) -> list[CardRow]:
    if REFERENCE in users.baselines or "users" in users.baselines:
        raise InputError("validate", "a baseline is called users or reference", "give it another name")
    models = {"users": own} | {name: rates.predict(seen.log) for name, rates in users.baselines.items()}
    if reference is not None:
        probability = reference.predict(seen.log) if before is None else reference.predict(seen.log, before)
        models[REFERENCE] = _checked(REFERENCE, probability, seen)
    return [row_of(model, probability, own, seen) for model, probability in models.items()]


def _checked(model: str, probability: np.ndarray, seen: HeldOut) -> np.ndarray:
    """float64 [M]. InputError where these are no probabilities of a click on each item shown."""
    probability = np.asarray(probability, dtype=np.float64)
    wanted = f"wanted a probability for each of {len(seen.clicked)} items shown"
    if probability.shape != seen.clicked.shape:
        raise InputError(f"validate: {model}", f"predicts {probability.shape}", wanted)
    wrong = ~((probability >= 0) & (probability <= 1 + 1e-6))
    if wrong.any():
        raise InputError(f"validate: {model}", f"predicts {probability[wrong][0]} at {int(wrong.sum())} items", wanted)
    return probability


def _judge_soundness(
    users: UserModel, predictions: Predictions, seen: HeldOut, before: SessionLog | None, found: Judgement
) -> None:
    """What no sampling error excuses: sessions that cannot be, and two answers to one question."""
    impossible = int(np.isneginf(predictions.log_prob).sum())
    if impossible:
        found.add(True, f"{impossible} sessions are impossible for these users, such as two clicks on a slate")
    few = seen.log.select(np.arange(min(AGAIN, seen.log.sessions)))
    again = predict(users, few, before=before)
    pairs = ((again.click, predictions.click), (again.leave, predictions.leave))
    if not all(np.allclose(now, before[: few.steps], rtol=ROUNDING, atol=ROUNDING) for now, before in pairs):
        found.add(True, "the users give two answers to one question: something in them draws by itself (dropout on?)")
