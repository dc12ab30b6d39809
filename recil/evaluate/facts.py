"""What is known of a log before any policy is looked at; every estimate on it and every verdict rests on that."""

from __future__ import annotations

from dataclasses import dataclass, field

from recil.evaluate.rewards import Rewards, rewards_of
from recil.logs.clusters import Clusters, clusters_of
from recil.logs.session_log import SessionLog
from recil.policies.environment import WarrantVerdict


@dataclass(frozen=True)
class Faults:
    """What speaks against the log itself: the gravest verdict that an estimate on it may have, and why.

    propensities  what concerns weights, and so every target; sessions: what concerns any mean of the log
    """

    propensities: tuple[tuple[WarrantVerdict, str], ...] = ()
    sessions: tuple[tuple[WarrantVerdict, str], ...] = ()


@dataclass(frozen=True)
class LogFacts:
    """units: what is independent; rewards: their range and tail; fitted_propensities: the log has none of its own."""

    sessions: int = 1
    impressions: int = 1
    units: Clusters | None = None
    rewards: Rewards = field(default_factory=Rewards)
    fitted_propensities: bool = False
    faults: Faults = field(default_factory=Faults)

    @property
    def unit(self) -> str:
        """What intervals count: session, user, or a column."""
        return "session" if self.units is None else self.units.name

    @property
    def units_in_words(self) -> str:
        return f"{self.unit_count:,} {self.unit}s"

    @property
    def unit_count(self) -> int:
        return self.sessions if self.units is None else self.units.count


def facts_without_checks(log: SessionLog, gamma: float = 1.0) -> LogFacts:
    """Units and rewards alone; for a whole answer see `facts_of`."""
    return LogFacts(
        sessions=log.sessions,
        impressions=log.impressions,
        units=clusters_of(log),
        rewards=rewards_of(log, gamma),
        fitted_propensities=log.propensity is None,
    )
