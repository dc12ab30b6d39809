"""A policy in a world: its value there with an interval, and the log it would have written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from recil.errors import InputError
from recil.evaluate.bootstrap import check_confidence
from recil.evaluate.components import EnsembleValue
from recil.evaluate.intervals import student_interval
from recil.evaluate.verdict import VERDICTS, Verdict
from recil.logs.history import History
from recil.logs.session_log import SessionLog
from recil.ops.returns import discounted_return
from recil.policies.environment import Environment, identity_of, members_of, population_of, warrant_of
from recil.policies.protocol import Policy
from recil.random import Streams
from recil.sim.record import log_of

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Meeting:
    """Which users were met: returns of one meeting are paired.

    world       the world's identity, None where it has none (see identity_of)
    gamma       discount per step of the returns
    population  sessions that meet; those of one population are not independent
    members     of the ensemble of users, 0 where the world has none
    """

    world: str | None
    seed: int
    gamma: float = 1.0
    population: int = 1
    members: int = 0


@dataclass(frozen=True)
class SimulatedValue:
    """Mean return per session with a Student t interval over `sessions` users, and over an ensemble's members.

    value, low, high  in this world, believed or not: a refused value is not printed, and had by asking alone
    returns           float64 [sessions]
    verdict, reasons  the world's own: that of the card of fitted users, `trust` for known worlds
    meeting           whom the policy met; None for a value that is not to be held against others
    ensemble          what is uncertain within the simulator and between simulators, apart and together; None where the
                      world has one kind of fitted users only, so that nothing is known of the latter
    member_returns    float64 [members, sessions], at the same addresses
    """

    value: float
    low: float
    high: float
    sessions: int
    confidence: float = 0.95
    returns: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False, compare=False)
    verdict: Verdict = "trust"
    reasons: tuple[str, ...] = ()
    meeting: Meeting | None = None
    ensemble: EnsembleValue | None = None
    member_returns: np.ndarray = field(default_factory=lambda: np.empty((0, 0)), repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise InputError("simulated value", f"verdict {self.verdict!r}", f"give one of {', '.join(VERDICTS)}")

    @property
    def refused(self) -> bool:
        return self.verdict == "refuse"

    def to_frame(self) -> pd.DataFrame:
        """One row; a refused value is nan."""
        import pandas as pd

        hidden = {name: float("nan") for name in ("value", "low", "high") if self.refused}
        names = ("value", "low", "high", "sessions", "verdict")
        row = {name: getattr(self, name) for name in names} | hidden
        if self.ensemble is not None and not self.refused:
            row |= {"within": self.ensemble.within, "between": self.ensemble.between}
        return pd.DataFrame([row | {"reasons": "; ".join(self.reasons)}])

    def __str__(self) -> str:
        reasons = "; ".join(self.reasons)
        if self.refused:
            return f"refuse: {reasons} ({self.sessions:,} simulated sessions)"
        return (
            f"{self.value:.5g} [{self.low:.5g}, {self.high:.5g}] reward per session, "
            f"{self.confidence:.0%} interval, {self.sessions:,} simulated sessions"
            + (f", {self.ensemble.parts}" if self.ensemble is not None else "")
            + (f"; {self.verdict}: {reasons}" if reasons else "")
        )


def simulated_value(
    policy: Policy,
    environment: Environment,
    sessions: int,
    seed: int = 0,
    *,
    gamma: float = 1.0,
    confidence: float = 0.95,
    batch: int = 2048,
) -> SimulatedValue:
    """The policy's value in this world, with the world's verdict.

    Two policies with one seed meet the same users: their returns are paired. Where the world has members of an ensemble
    the policy meets each member's users too, and the interval covers what differs between members.
    """
    check_confidence(confidence)
    returns = _returns(policy, environment, sessions, seed, gamma, batch)
    members = [_returns(policy, member, sessions, seed, gamma, batch) for member in members_of(environment)]
    meeting = Meeting(identity_of(environment), seed, gamma, population_of(environment), len(members))
    warrant = warrant_of(environment)
    found = SimulatedValue(
        *student_interval(independent(returns, meeting.population), confidence),
        sessions, confidence, returns, warrant.verdict, warrant.reasons, meeting,
    )  # fmt: skip
    if not members:
        return found
    if sessions < 2:
        raise InputError("sessions", f"{sessions}", "give 2 or more: one alone has no standard error")
    spread = EnsembleValue.of(np.stack([returns, *members]), confidence)
    return replace(found, low=spread.low, high=spread.high, ensemble=spread, member_returns=np.stack(members))


def _returns(
    policy: Policy, environment: Environment, sessions: int, seed: int, gamma: float, batch: int
) -> np.ndarray:
    """float64 [sessions]."""
    parts = [
        discounted_return(
            torch.where(history.shown, history.reward, 0.0).sum(-1, dtype=torch.float64), history.happened, gamma
        )
        for history in _rollouts(policy, environment, sessions, seed, batch)
    ]
    return torch.cat(parts).cpu().numpy()


def independent(returns: np.ndarray, population: int) -> np.ndarray:
    """float64 [sessions / population]: sessions that meet are not independent, so a population counts as one."""
    return returns.reshape(-1, population).mean(1)


def simulate(
    policy: Policy,
    environment: Environment,
    sessions: int,
    seed: int = 0,
    item_ids: Sequence | np.ndarray | None = None,
    *,
    batch: int = 2048,
    categories: Mapping[str, tuple[str, ...]] | None = None,
) -> SessionLog:
    """The log this policy would write: exact propensities, `terminated`, session ids 0 to sessions - 1.

    item_ids    the catalogue's names; 0 to A - 1 when None
    categories  name of a coded feedback, context or user column -> the names behind its codes; the codes when None
    """
    names = np.arange(environment.catalogue) if item_ids is None else np.asarray(item_ids)
    if len(names) != environment.catalogue:
        raise InputError("item_ids", f"{len(names)} ids", f"the world has {environment.catalogue} items")
    histories = [history.to("cpu") for history in _rollouts(policy, environment, sessions, seed, batch)]
    return log_of(histories, names, categories)


def _rollouts(policy: Policy, environment: Environment, sessions: int, seed: int, batch: int) -> Iterator[History]:
    """Histories of sessions 0 to sessions - 1, `batch` at a time; nothing depends on the size of the batch."""
    if sessions < 1 or batch < 1:
        raise InputError("sessions", f"{sessions} in batches of {batch}", "give 1 or more of each")
    population = population_of(environment)
    batch = max(batch // population, 1) * population
    for start in range(0, sessions, batch):
        addresses = torch.arange(start, min(start + batch, sessions))
        with torch.no_grad():
            yield environment.rollout(policy, addresses, Streams(seed))
