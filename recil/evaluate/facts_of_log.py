"""A log looked at before any policy is valued on it: its units, copies, rewards and faults, once for all estimates."""

from __future__ import annotations

from recil.evaluate.facts import Faults, LogFacts
from recil.evaluate.log_checks import check_log
from recil.evaluate.rewards import rewards_of
from recil.logs.clusters import clusters_of
from recil.logs.repeats import NOTHING, Repeats, merged, repeats_of
from recil.logs.session_log import SessionLog
from recil.policies.environment import WarrantVerdict
from recil.policies.protocol import Policy

# Checks of the log whose findings say nothing of a policy until it is known what the policy shows.
_PRICED = frozenset({"share of items never shown", "share shown with certainty"})
# Beyond so many sessions copies are not looked for: their contents would not fit into a fixed amount of memory.
_MOST_COMPARED = 2_000_000


def facts_of(
    log: SessionLog,
    behaviour: Policy | None = None,
    *,
    gamma: float = 1.0,
    cluster: str | None = None,
    reward_range: tuple[float, float] | None = None,
) -> LogFacts:
    """Options as in `evaluate`."""
    units = clusters_of(log, cluster)
    copies = repeats_of(log, units) if log.sessions <= _MOST_COMPARED else NOTHING
    return LogFacts(
        sessions=log.sessions,
        impressions=log.impressions,
        units=merged(units, copies),
        rewards=rewards_of(log, gamma, reward_range),
        fitted_propensities=log.propensity is None,
        faults=Faults(_of_propensities(log, behaviour, cluster), _of_sessions(copies)),
    )


def _of_sessions(copies: Repeats) -> tuple[tuple[WarrantVerdict, str], ...]:
    """Copies count as one unit, so that the interval holds; where they come from is for people to find out."""
    return (("caution", f"{copies.reason}; they count once"),) if copies.copies else ()


def _of_propensities(
    log: SessionLog, behaviour: Policy | None, cluster: str | None
) -> tuple[tuple[WarrantVerdict, str], ...]:
    """What `check_log` finds; a catalogue that is shown in part is priced for each policy by itself."""
    rows = check_log(log, behaviour, cluster=cluster).rows
    return tuple((row.verdict, row.reason) for row in rows if row.reason and row.name not in _PRICED)
