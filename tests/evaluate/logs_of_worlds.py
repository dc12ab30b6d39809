"""Small logs for the tests of evaluation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from tiny_worlds import MoodyWorld, RecallPolicy

from recil.evaluate import simulate
from recil.logs.session_log import SessionLog


@dataclass(frozen=True)
class Case:
    world: MoodyWorld
    behaviour: RecallPolicy
    target: RecallPolicy
    log: SessionLog


def case(sessions: int = 400, items: int = 4, slate: int = 2, horizon: int = 3, strength: float = 0.4) -> Case:
    world = MoodyWorld.make(items, slate, horizon)
    behaviour, target = RecallPolicy.make(items, 1, strength), RecallPolicy.make(items, 2, strength)
    return Case(world, behaviour, target, simulate(behaviour, world, sessions, 11))


def take(log: SessionLog, sessions: np.ndarray) -> SessionLog:
    """These sessions, in this order, as a log of their own."""
    rows = np.concatenate([np.arange(log.offsets[chosen], log.offsets[chosen + 1]) for chosen in sessions])
    return replace(
        log,
        items=log.items[rows],
        reward=log.reward[rows],
        propensity=None if log.propensity is None else log.propensity[rows],
        offsets=np.concatenate([[0], np.cumsum(log.lengths[sessions])]),
        session_ids=log.session_ids[sessions],
        terminated=None if log.terminated is None else log.terminated[sessions],
    )
