"""Did those who served a log's sessions serve what their propensities say, and alike users?"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import stats

from recil.evaluate.log_rows import Asked, Check, graded
from recil.evaluate.loggers import logger_parts, served
from recil.logs.clusters import clusters_of
from recil.logs.session_log import PAD, POLICY, SessionLog


def logger_rows(log: SessionLog, asked: Asked, cluster: str | None = None) -> Iterator[Check]:
    """Two rows a policy, of a log that knows what each of those who served says of its items (`knows_its_loggers`).

    What a session holds says how probable each logger is to have served it. Where propensities are right and all
    loggers met alike users, those who did serve it are as many as that says, among all sessions (`sessions of`: served
    over expected) and among those with much reward (`reward under`: mean reward of the sessions it served, over that of
    those it is expected to have served). Loggers that show nothing in common cannot be told by this.
    """
    expected = np.empty((len(served(log)), log.sessions))
    for part in logger_parts(log):
        expected[:, part.sessions] = part.log_posterior[..., -1].exp().numpy()
    column, units = log.context[POLICY], clusters_of(log, cluster)
    assert column.categories is not None
    codes = column.values[log.offsets[:-1]]
    gain = np.add.reduceat(np.where(log.items != PAD, log.reward, 0.0).sum(1, dtype=float), log.offsets[:-1])
    for name, likely in zip(served(log), expected, strict=True):
        own = (codes == column.categories.index(name)).astype(float)
        ratio = float(own.sum() / likely.sum())
        chance = _chance(own - likely, units.numbers, 2 * len(expected))
        reason = f"policy {name} served {ratio:.3g} times the sessions that what was shown makes likely"
        yield _row(f"sessions of {name}", ratio, chance, asked, f"{reason}: wrong propensities, or other users")
        mean, wanted = float(gain @ own / own.sum()), float(gain @ likely / likely.sum())
        ratio = mean / wanted if wanted else 1.0
        chance = _chance((own - likely) * (gain - gain.mean()), units.numbers, 2 * len(expected))
        reason = f"the same things brought policy {name} {ratio:.3g} times the reward: other users, or other days"
        yield _row(f"reward under {name}", ratio, chance, asked, reason)


def _chance(apart: np.ndarray, unit: np.ndarray, checks: int) -> float:
    """Of so large a sum by chance, where every unit's part of it has mean 0."""
    parts = np.bincount(unit, apart)
    spread = float(np.sqrt(np.square(parts).sum()))
    # Loggers that can be told apart for sure leave rounding alone.
    if spread < 1e-6 * np.sqrt(len(parts)):
        return 1.0
    return min(1.0, checks * 2 * float(stats.norm.sf(abs(parts.sum()) / spread)))


def _row(name: str, ratio: float, chance: float, asked: Asked, reason: str) -> Check:
    bounds = zip(asked.off, asked.probability, strict=True)
    grade = sum(abs(ratio - 1.0) > off and chance < probability for off, probability in bounds)
    return graded(name, ratio, 1.0, grade, reason, chance)
