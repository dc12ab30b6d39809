"""Numbers per session, for intervals that look at the sample itself: 8 bytes a session, where `evaluate` keeps sums."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recil.errors import InputError
from recil.evaluate.estimators import Estimator, find
from recil.evaluate.pass_over import PassConfig, arrays_over
from recil.logs.session_log import SessionLog
from recil.policies.protocol import Policy


@dataclass(frozen=True)
class SessionScores:
    """In the order of the log's sessions, float64 [S] each.

    score    numbers whose mean is the estimate
    weight   w_{0:T-1}, whose mean is 1 where propensities are right and cover the target
    returns  G, the discounted reward of the session; Σ weight · returns / Σ weight is the self-normalised estimate
    """

    score: np.ndarray
    weight: np.ndarray
    returns: np.ndarray


def session_scores(
    policy: Policy,
    log: SessionLog,
    estimator: str | Estimator = "ips",
    *,
    behaviour: Policy | None = None,
    gamma: float = 1.0,
    seed: int = 0,
    cap: float | None = None,
    category: str | None = None,
) -> SessionScores:
    """What each session contributes to an estimate that is a mean; options as in `evaluate`.

    Raises InputError for an estimator that is no mean over sessions, such as a self-normalised one.
    """
    chosen = find(estimator)
    if chosen.score is None:
        raise InputError("estimator", f"{chosen.name} is no mean over sessions", "use ips, pdis, dr or another mean")
    config = PassConfig(
        gamma=gamma,
        cap=cap,
        replicates=2,
        seed=seed,
        model=chosen.needs_model,
        estimators=(chosen,),
        category=category,
    )
    found = SessionScores(*(np.zeros(log.sessions) for _ in range(3)))
    for part in arrays_over({"policy": policy}, log, behaviour, config):
        found.score[part.sessions] = chosen.score(part.arrays).values.numpy()
        found.weight[part.sessions] = part.arrays.log_weight[:, -1].exp().numpy()
        found.returns[part.sessions] = part.arrays.reward.sum(1).numpy()
    return found
