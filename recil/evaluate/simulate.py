"""A policy in a world: its value there with an interval, and the log it would have written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from recil.errors import InputError
from recil.evaluate.bootstrap import check_confidence
from recil.evaluate.intervals import student_interval
from recil.logs.history import History
from recil.logs.session_log import SessionLog
from recil.ops.returns import discounted_return
from recil.policies.environment import Environment, population_of
from recil.policies.protocol import Policy
from recil.random import Streams
from recil.sim.record import log_of


@dataclass(frozen=True)
class SimulatedValue:
    """Mean return per session with a Student t interval over `sessions` users; returns: float64 [sessions]."""

    value: float
    low: float
    high: float
    sessions: int
    confidence: float = 0.95
    returns: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False, compare=False)

    def __str__(self) -> str:
        return (
            f"{self.value:.5g} [{self.low:.5g}, {self.high:.5g}] reward per session, "
            f"{self.confidence:.0%} interval, {self.sessions:,} simulated sessions"
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
    """The policy's value in this world. Two policies with one seed meet the same users: their returns are paired."""
    check_confidence(confidence)
    parts = [
        discounted_return(
            torch.where(history.shown, history.reward, 0.0).sum(-1, dtype=torch.float64), history.happened, gamma
        )
        for history in _rollouts(policy, environment, sessions, seed, batch)
    ]
    returns = torch.cat(parts).cpu().numpy()
    # Sessions that meet are not independent: where they do, a population counts as one.
    apart = returns.reshape(-1, population_of(environment)).mean(1)
    return SimulatedValue(*student_interval(apart, confidence), sessions, confidence, returns)


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
