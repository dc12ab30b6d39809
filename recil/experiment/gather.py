"""From what was found of each unit to the rows and differences of the result."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from recil.config import Experiment, Method
from recil.evaluate.bootstrap import percentile_interval
from recil.evaluate.compare import paired_over_seeds
from recil.evaluate.estimates import PREFERENCE
from recil.evaluate.intervals import student_interval
from recil.evaluate.verdict import VERDICTS
from recil.experiment.plan import Unit
from recil.experiment.result import Gain, Interval, Row

LOGGED = "logged"


@dataclass(frozen=True)
class Found:
    """What was found of one unit: see `judge`."""

    unit: Unit
    judged: Mapping[str, Any]
    arrays: Mapping[str, np.ndarray]

    def estimates(self, log: str | None = None) -> Mapping[str, Any]:
        """Estimator -> estimate on the held-out log, or on another log by name."""
        return self.judged["ope"] if log is None else self.judged["others"][log]

    def replicates(self, estimator: str, log: str | None = None) -> np.ndarray:
        """float64 [R]: the estimate in each bootstrap sample of a log; samples are shared by all units."""
        name = "ope" if log is None else f"ope_{log}"
        return self.arrays[name][list(self.estimates(log)).index(estimator)]

    def value(self, measure: str, seed: int) -> float | None:
        """The value in a world with the users of this seed."""
        found = self.judged.get(measure, {}).get(str(seed))
        return None if found is None else found[0]


def gather(experiment: Experiment, found: Sequence[Found], believed: bool) -> tuple[tuple[Row, ...], tuple[Gain, ...]]:
    """Rows in the file's order, and the differences. believed: whether the fitted users may be shown."""
    of = {method.name: [item for item in found if item.unit.method == method.name] for method in experiment.methods}
    estimator = _estimator(found)
    rows = tuple(_row(experiment, method, of[method.name], estimator, believed) for method in experiment.methods)
    shown = {row.method: row for row in rows}
    gains = []
    for first, second in _pairs(experiment):
        for measure in ("true", "simulated", "ope"):
            if getattr(shown[first], measure) is None or getattr(shown[second], measure) is None:
                continue
            gain = _gain(experiment, (first, second), (of[first], of[second]), measure, estimator)
            gains += [] if gain is None else [gain]
    return rows, tuple(gains)


def rows_on(experiment: Experiment, found: Sequence[Found], log: str) -> tuple[Row, ...]:
    """What every method is worth on another log; `logged` is that log's own policy, on-policy."""
    estimator = _estimator(found, log)
    rows = []
    for method in experiment.methods:
        units = [item for item in found if item.unit.method == method.name]
        name = LOGGED if method.kind == LOGGED else estimator
        ope, verdict, reasons = _on_log(experiment, units, name, log) if units else (None, "-", ())
        wanted = len(experiment.seeds) if method.seeded else 1
        seeds = (len(units), wanted)
        rows.append(Row(method.name, method.kind, seeds, None, None, ope, name, verdict, reasons))
    return tuple(rows)


def _estimator(found: Sequence[Found], log: str | None = None) -> str:
    """The estimator for all rows: the one that refuses the fewest policies, then the first of PREFERENCE."""
    asked = [name for name in PREFERENCE if any(name in item.estimates(log) for item in found)]

    def refused(name: str) -> int:
        return sum(item.estimates(log).get(name, {}).get("verdict") == "refuse" for item in found)

    return min(asked, key=refused, default=LOGGED)


def _row(experiment: Experiment, method: Method, units: Sequence[Found], estimator: str, believed: bool) -> Row:
    wanted = len(experiment.seeds) if method.seeded else 1
    worlds = {measure: _in_world(experiment, units, measure) for measure in ("true", "simulated")}
    name = LOGGED if method.kind == LOGGED else estimator
    ope, verdict, reasons = _on_log(experiment, units, name) if units else (None, "-", ())
    cloning = [item.judged["cloning"] for item in units if "cloning" in item.judged]
    return Row(
        method=method.name,
        kind=method.kind,
        seeds=(len(units), wanted),
        true=worlds["true"],
        simulated=worlds["simulated"] if believed else None,
        ope=ope,
        estimator=name,
        verdict=verdict,
        reasons=reasons,
        nll=_mean(cloning, "nll"),
        next_nll=_mean(cloning, "next_nll"),
        own_world=method.acts,
        warrant=next((item.judged["warrant"]["verdict"] for item in units if "warrant" in item.judged), None),
    )


def _mean(parts: Sequence[Mapping[str, float]], name: str) -> float | None:
    values = [part[name] for part in parts if name in part]
    return float(np.mean(values)) if values else None


def _by_seed(experiment: Experiment, units: Sequence[Found], measure: str) -> dict[int, float]:
    """Seed -> value; a method without chance has one unit and a crowd of users for every seed."""
    values = {}
    for item in units:
        for seed in experiment.seeds if item.unit.seed is None else (item.unit.seed,):
            value = item.value(measure, seed)
            if value is not None:
                values[seed] = value
    return values


def _in_world(experiment: Experiment, units: Sequence[Found], measure: str) -> Interval | None:
    """Over seeds where training draws on them; else, and with one seed, over all simulated sessions."""
    values = _by_seed(experiment, units, measure)
    if not values:
        return None
    confidence = experiment.evaluate.confidence
    if len(units) > 1:
        found = student_interval(list(values.values()), confidence)
    else:
        returns = np.concatenate([units[0].arrays[f"{measure}_{seed}"] for seed in values])
        found = student_interval(returns, confidence)
    return _widened(found, _among_members(units, values, measure), confidence)


def _among_members(units: Sequence[Found], seeds: Iterable[int], measure: str) -> np.ndarray | None:
    """[members]: the mean over seeds among each member's users; None where there are none."""
    name = f"{measure}_members"
    parts = [
        item.arrays[f"{name}_{seed}"] for seed in seeds for item in units
        if item.unit.seed in (None, seed) and f"{name}_{seed}" in item.arrays
    ]  # fmt: skip
    return np.mean(parts, axis=0) if parts else None


def _widened(interval: Interval, members: np.ndarray | None, confidence: float) -> Interval:
    """The interval with what differs between members added, as a Student t half-width, in the root of squares.

    Member values hold the noise of their own simulation, too, so that this is rather too wide.
    """
    if members is None:
        return interval
    value, low, high = interval
    middle, least, _ = student_interval(members * len(members) ** 0.5, confidence)  # t times the members' own spread
    half = math.hypot((high - low) / 2, middle - least)
    return value, value - half, value + half


def _on_log(
    experiment: Experiment, units: Sequence[Found], estimator: str, log: str | None = None
) -> tuple[Interval | None, str, tuple[str, ...]]:
    """Mean over the seeds' policies, its interval over resampled sessions, the gravest verdict and its reasons."""
    rows = [item.estimates(log)[estimator] for item in units]
    worst = max(rows, key=lambda row: VERDICTS.index(row["verdict"]))
    if worst["verdict"] == "refuse":
        return None, "refuse", tuple(worst["reasons"])
    replicates = np.mean([item.replicates(estimator, log) for item in units], axis=0)
    interval = percentile_interval(torch.from_numpy(replicates), experiment.evaluate.confidence)
    return (float(np.mean([row["value"] for row in rows])), *interval), worst["verdict"], tuple(worst["reasons"])


def _pairs(experiment: Experiment) -> list[tuple[str, str]]:
    """What the methods were run to learn: each learned one against the logged, its start, and the clone it lacks."""
    logged = [method.name for method in experiment.methods if method.kind == LOGGED]
    clones = [method.name for method in experiment.methods if method.kind == "clone"]
    pairs = []
    for method in experiment.methods:
        if not method.seeded:
            continue
        others = logged[:1] + ([method.start] if method.start else [])
        if method.kind != "clone" and not method.start:
            others += [method.own.get("like") or name for name in clones[:1]]
        pairs += [(method.name, other) for other in others]
    return pairs


def _gain(
    experiment: Experiment,
    names: tuple[str, str],
    units: tuple[Sequence[Found], Sequence[Found]],
    measure: str,
    estimator: str,
) -> Gain | None:
    confidence = experiment.evaluate.confidence
    if measure == "ope":
        means = [np.mean([item.replicates(_name(item, estimator)) for item in part], axis=0) for part in units]
        values = [np.mean([item.judged["ope"][_name(item, estimator)]["value"] for item in part]) for part in units]
        low, high = percentile_interval(torch.from_numpy(means[0] - means[1]), confidence)
        return Gain(*names, measure, float(values[0] - values[1]), low, high)
    first, second = (_by_seed(experiment, part, measure) for part in units)
    shared = [seed for seed in experiment.seeds if seed in first and seed in second]
    if not shared:
        return None
    if len(shared) > 1:
        found = paired_over_seeds([first[seed] for seed in shared], [second[seed] for seed in shared], confidence)
    else:
        arrays = [part[0].arrays[f"{measure}_{shared[0]}"] for part in units]
        found = student_interval(arrays[0] - arrays[1], confidence)
    members = [_among_members(part, shared, measure) for part in units]
    apart = None if members[0] is None or members[1] is None else members[0] - members[1]
    return Gain(*names, measure, *_widened(found, apart, confidence))


def _name(item: Found, estimator: str) -> str:
    return LOGGED if LOGGED in item.judged["ope"] else estimator
