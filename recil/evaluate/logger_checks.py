"""Do several loggers' propensities and shares fit the log that they wrote together, policy by policy?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats

from recil.errors import InputError
from recil.evaluate.log_checks import Check, LogCheck, LogLimits
from recil.evaluate.loggers import logger_parts, served
from recil.evaluate.verdict import VERDICTS
from recil.logs.clusters import clusters_of
from recil.logs.rows import OF_POLICY
from recil.logs.session_log import PAD, POLICY, SessionLog


def check_loggers(log: SessionLog, *, cluster: str | None = None, limits: LogLimits | None = None) -> LogCheck:
    """Whether balanced weights hold on this log, which has `policy` and `propensity_<name>`; see `loggers`.

    What a session holds says how probable each logger is to have served it. Where propensities are right and all
    loggers met alike users, those who did serve it are as many as that says, among all sessions (`sessions of`: served
    over expected) and among those with much reward (`reward under`: mean reward of the sessions it served, over that of
    the sessions it is expected to have served). Loggers that show nothing in common cannot be told by this.
    Chances are by `cluster` (users where the log has them), corrected for the number of checks. Raises InputError where
    a column is missing.
    """
    names = list(served(log))
    for name in names:
        if name not in log.propensity_of:
            raise InputError("check_loggers", f"no column {OF_POLICY}{name}", "give it, or use balanced(log, loggers)")
    expected = np.empty((len(names), log.sessions))
    for part in logger_parts(log):
        expected[:, part.sessions] = part.log_posterior[..., -1].exp().numpy()
    rows = tuple(_checks(log, names, expected, cluster, limits or LogLimits()))
    return LogCheck(rows, log.sessions, log.impressions, log.sessions)


def _checks(
    log: SessionLog, names: list[str], expected: np.ndarray, cluster: str | None, limits: LogLimits
) -> Iterator[Check]:
    column, units = log.context[POLICY], clusters_of(log, cluster)
    assert column.categories is not None
    codes = column.values[log.offsets[:-1]]
    gain = np.add.reduceat(np.where(log.items != PAD, log.reward, 0.0).sum(1, dtype=float), log.offsets[:-1])
    for name, likely in zip(names, expected, strict=True):
        own = (codes == column.categories.index(name)).astype(float)
        ratio = float(own.sum() / likely.sum())
        chance = _chance(own - likely, units.numbers, 2 * len(names))
        reason = f"policy {name} served {ratio:.3g} times the sessions that what was shown makes likely"
        yield _graded(f"sessions of {name}", ratio, chance, limits, f"{reason}: wrong propensities, or other users")
        mean, wanted = float(gain @ own / own.sum()), float(gain @ likely / likely.sum())
        ratio = mean / wanted if wanted else 1.0
        chance = _chance((own - likely) * (gain - gain.mean()), units.numbers, 2 * len(names))
        reason = (
            f"the same things brought policy {name} {ratio:.3g} times the reward: it met other users, or other days"
        )
        yield _graded(f"reward under {name}", ratio, chance, limits, reason)


def _chance(apart: np.ndarray, unit: np.ndarray, checks: int) -> float:
    """Of so large a sum by chance, where every unit's part of it has mean 0."""
    parts = np.bincount(unit, apart)
    spread = float(np.sqrt(np.square(parts).sum()))
    # Loggers that can be told apart for sure leave rounding alone.
    if spread < 1e-6 * np.sqrt(len(parts)):
        return 1.0
    return min(1.0, checks * 2 * float(stats.norm.sf(abs(parts.sum()) / spread)))


def _graded(name: str, ratio: float, chance: float, limits: LogLimits, reason: str) -> Check:
    bounds = zip(limits.off, limits.probability, strict=True)
    grade = sum(abs(ratio - 1.0) > off and chance < probability for off, probability in bounds)
    return Check(name, ratio, 1.0, chance, VERDICTS[grade], reason if grade else "")
