"""Users fitted to Entree up to June 1998, judged on its last quarter: when sessions end, and where."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

import recil
from recil.logs.session_log import SessionLog
from recil.sim.card import SimulatorCard, validate
from recil.sim.card.groups import GroupTable
from recil.sim.card.leaving import LEAVING_STEP
from recil.sim.fit import fit_users
from recil.sim.predict import predict
from recil.sim.reference import fit_reference
from recil.sim.users import UserModel

CUT = int(pd.Timestamp("1998-07-01", tz="UTC").timestamp())
LENGTHS = 16


def parts(folder: Path) -> tuple[SessionLog, SessionLog]:
    """Sessions that began before July 1998, and those that began from then on."""
    return recil.read_log(folder).split(by="time", at=CUT)


def lengths(log: SessionLog, users: UserModel) -> pd.DataFrame:
    """The share of sessions of each length, predicted, observed, and the standard error of the observed one.

    Predicted: as many as go on to a step, times the mean hazard there (one step ahead, on the logged slates).
    """
    hazard = predict(users, log).leave
    step = np.arange(log.steps) - np.repeat(log.offsets[:-1], log.lengths)
    at_risk = np.bincount(step, minlength=LENGTHS)
    mean = np.bincount(step, hazard, LENGTHS) / np.maximum(at_risk, 1)
    share = np.concatenate([[1.0], np.cumprod(1 - mean)])[:-1] * mean
    ended = np.bincount(np.minimum(log.lengths, LENGTHS), minlength=LENGTHS + 1)[1:]
    predicted = np.append(share[: LENGTHS - 1], 1 - share[: LENGTHS - 1].sum())
    observed = ended / log.sessions
    error = np.sqrt(observed * (1 - observed) / log.sessions)
    names = [*(str(number) for number in range(1, LENGTHS)), f"{LENGTHS} or more"]
    return pd.DataFrame({"steps": names, "predicted": predicted, "observed": observed, "error": error})


def hazard_of(card: SimulatorCard) -> GroupTable:
    assert card.leaving is not None
    return next(table for table in card.leaving.tables if table.name == LEAVING_STEP)


def section(folder: Path, seed: int = 0) -> str:
    """Markdown."""
    train, test = parts(folder)
    users = fit_users(train, seed=seed)
    card = validate(users, test, reference=fit_reference(train, seed=seed), seed=seed)
    by_length = lengths(test, users)
    table = hazard_of(card)
    off = [group for group in table.groups if abs(group.miss) > 1.96 * group.error]
    lines = [
        "Fitted to sessions up to June 1998, judged on those from July to September. The reward marks the restaurant "
        "where a session ended. ±: 95%, over sessions.",
        "",
        "```",
        str(card),
        "```",
        "",
        f"Leaving by step: joint test p = {table.p_value:.3f}; {len(off)} of {len(table.groups)} steps outside their "
        f"own 95% interval{': ' + ', '.join(group.label for group in off) if off else ''}.",
        "",
        "| step | predicted hazard | observed |",
        "|---|---|---|",
        *(
            f"| {group.label} | {group.predicted:.3f} | {group.observed:.3f} ± {1.96 * group.error:.3f} |"
            for group in table.groups
        ),
        "",
        "| steps in the session | predicted share | observed |",
        "|---|---|---|",
        *(
            f"| {row.steps} | {row.predicted:.4f} | {row.observed:.4f} ± {1.96 * row.error:.4f} |"
            for row in by_length.itertuples()
        ),
    ]
    return "\n".join(lines)
