"""When users leave: rates of leaving by step and by outcome, and who is still there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recil.sim.card.groups import GroupTable, group_table, merged
from recil.sim.card.held_out import HeldOut
from recil.sim.rates import log_losses
from recil.sim.users import ends_of

AT_RISK = 20
LEAVING_STEP, IN_VAIN = "step, leaving", "steps in vain, leaving"


@dataclass(frozen=True)
class SurvivalRow:
    """Sessions still going on after a step, as a share. error: of the observed share, over units."""

    step: int
    at_risk: int
    predicted: float
    observed: float
    error: float


@dataclass(frozen=True)
class Leaving:
    """How users leave on the held-out log. Sessions that were cut short end without an end.

    log_loss, constant  nats per step: the users', and a constant rate's; gain: of the users over it, with its error
    tables              rates of leaving, by step and by how many steps in a row had no click (0: this one had)
    survival            while sessions of at least 20 units go on
    """

    log_loss: float
    constant: float
    gain: float
    error: float
    tables: tuple[GroupTable, ...]
    survival: tuple[SurvivalRow, ...]


def leaving_of(hazard: np.ndarray, rate: float, seen: HeldOut) -> Leaving:
    """hazard: float64 [N], the users' probabilities of leaving after each step; rate: the constant one."""
    ends = ends_of(seen.log)
    own, constant = log_losses(hazard, ends), log_losses(np.full(len(ends), rate), ends)
    gain = float((constant - own).mean())
    apart = np.bincount(seen.unit, constant - own - gain)
    return Leaving(
        log_loss=float(own.mean()),
        constant=float(constant.mean()),
        gain=gain,
        error=float(np.sqrt((apart**2).sum())) / len(ends),
        tables=_tables(hazard, ends, seen),
        survival=_survival(hazard, ends, seen),
    )


def _tables(hazard: np.ndarray, ends: np.ndarray, seen: HeldOut) -> tuple[GroupTable, ...]:
    steps = [str(number) for number in range(int(seen.step.max()) + 1)]
    kinds = ((LEAVING_STEP, seen.step, steps), (IN_VAIN, np.minimum(seen.in_vain, 3), ["0", "1", "2", "3 or more"]))
    tables = []
    for name, code, labels in kinds:
        code, labels = merged(code, labels, hazard)
        tables.append(group_table(name, "steps", labels, code, hazard, ends, seen.unit, np.arange(len(ends))))
    return tuple(tables)


def _survival(hazard: np.ndarray, ends: np.ndarray, seen: HeldOut) -> tuple[SurvivalRow, ...]:
    """Products over steps of one less the rate of leaving among those at risk (Kaplan & Meier 1958)."""
    at_risk = np.bincount(seen.step)
    enough = int((_units_at_risk(seen) >= AT_RISK).sum())  # at-risk counts never rise
    left, expected = (np.bincount(seen.step, values)[:enough] for values in (ends, hazard))
    at_risk = at_risk[:enough]
    observed, predicted = np.cumprod(1 - left / at_risk), np.cumprod(1 - expected / at_risk)
    staying = np.maximum(at_risk - left, 1)
    if seen.units.of is None:
        variance = np.cumsum(left / (at_risk * staying))  # Greenwood's formula
    else:
        variance = _variance_over_units(ends, left / at_risk, staying, seen)
    errors = observed * np.sqrt(variance)
    rows = zip(at_risk, predicted, observed, errors, strict=True)
    return tuple(SurvivalRow(t, int(n), float(p), float(o), float(e)) for t, (n, p, o, e) in enumerate(rows))


def _units_at_risk(seen: HeldOut) -> np.ndarray:
    """int64 [T]: how many units have a session that comes to each step."""
    if seen.units.of is None:
        return np.bincount(seen.step)
    return np.bincount(np.unique(seen.step * seen.units.count + seen.unit) // seen.units.count)


def _variance_over_units(ends: np.ndarray, rate: np.ndarray, staying: np.ndarray, seen: HeldOut) -> np.ndarray:
    """[T]: of the logarithm of the share still there, by what each unit adds to it.

    It is Greenwood's where units are sessions. rate, staying: [T], of the sessions at risk the share that left, and how
    many stayed.
    """
    sums, variance = np.zeros(seen.units.count), np.zeros(len(rate))
    rows = np.split(np.argsort(seen.step, kind="stable"), np.cumsum(np.bincount(seen.step))[:-1])
    for step, (share, stayed) in enumerate(zip(rate, staying, strict=True)):
        apart = (ends[rows[step]] - share) / stayed
        sums += np.bincount(seen.unit[rows[step]], apart, len(sums))
        variance[step] = (sums**2).sum()
    return variance
