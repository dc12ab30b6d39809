"""What a unit's policy is worth: on the held-out log, in the fitted world, in the known one, and as a cloner."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from recil.evaluate.cloning import clone_report
from recil.evaluate.estimates import Estimates
from recil.evaluate.estimators import ESTIMATORS
from recil.evaluate.on_log import evaluate
from recil.evaluate.simulate import simulated_value
from recil.experiment.data import kept_log, truth_of, write_json
from recil.experiment.learn import MAKERS, world_of
from recil.experiment.looks import sessions_in, weights_on
from recil.experiment.plan import Setting, Unit, method_of
from recil.experiment.publish import publish
from recil.logs.session_log import SessionLog
from recil.policies.baselines import uniform
from recil.policies.environment import Environment
from recil.policies.protocol import Policy
from recil.policies.storage import load

Judged = dict[str, Any]
CLONERS = ("clone", "markov", "knn", "popular", "uniform")


def judge(task: tuple[Setting, Unit]) -> Judged:
    """Judges one unit's policy, unless that is done, and completes its MLflow run.

    Returns plain data: {"ope": {estimator: {...}}, "simulated" and "true": {seed: [value, low, high]}, "warrant" of the
    simulated values, "spread": {seed: [within, between]} where users were fitted to bootstraps, "cloning"}; the
    replicates of the estimators and the returns of the simulated sessions lie beside
    it in arrays.npz.
    """
    setting, unit = task
    folder = setting.result(unit)
    judged = read_judged(folder)
    if judged is None:
        judged, arrays = _judge(setting, unit)
        _write_arrays(folder / "arrays.npz", arrays)
        write_json(folder / "judged.json", judged)
    publish(setting, unit, judged, dict(_metrics(judged)))
    return judged


def read_judged(folder: Path) -> Judged | None:
    """What was found earlier, if it is all there."""
    file = folder / "judged.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """ "ope" [E, R] in the order of judged["ope"], "simulated_<seed>" and "true_<seed>" [sessions].

    "simulated_members_<seed>" [members], the values among users fitted to bootstraps, where there are any. For reports:
    what `weights_on` gives, and "rewards_<world>_<seed>", "shown_..." and "lengths_..." of `sessions_in`.
    """
    with np.load(folder / "arrays.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _judge(setting: Setting, unit: Unit) -> tuple[Judged, dict[str, np.ndarray]]:
    started = time.monotonic()
    method = method_of(setting.experiment, unit)
    test = kept_log(setting.data(setting.test))
    policy = _policy(setting, unit)
    estimates = _on_log(setting, policy, test, method.kind == "logged")
    judged: Judged = {"method": unit.method, "kind": method.kind, "seed": unit.seed}
    judged["ope"] = {row.estimator: _row(row) for row in estimates}
    arrays = {"ope": np.stack([row.replicates.numpy() for row in estimates])}
    if policy is not None and method.kind != "logged":
        arrays |= weights_on(policy, test, _behaviour(setting, test))
    judged["others"] = {}
    for name, digest in setting.others.items():
        estimates = _on_log(setting, policy, kept_log(setting.data(digest)), method.kind == "logged")
        judged["others"][name] = {row.estimator: _row(row) for row in estimates}
        arrays[f"ope_{name}"] = np.stack([row.replicates.numpy() for row in estimates])
    _judge_in_worlds(setting, unit, policy, judged, arrays)
    if method.kind in CLONERS and policy is not None:
        judged["cloning"] = _as_cloner(policy, test)
    judged["seconds"] = time.monotonic() - started
    return judged, arrays


def _judge_in_worlds(
    setting: Setting, unit: Unit, policy: Policy | None, judged: Judged, arrays: dict[str, np.ndarray]
) -> None:
    """Adds what the policy brings in the worlds it can be put into."""
    experiment = setting.experiment
    for name, world in _worlds(setting, method_of(experiment, unit).kind):
        judged[name] = {}
        for seed in experiment.seeds if unit.seed is None else (unit.seed,):
            assert policy is not None
            # One seed, one crowd of users: policies of one seed are paired, seeds are independent of each other.
            value = simulated_value(
                policy,
                world,
                experiment.world.sessions,
                seed,
                gamma=experiment.evaluate.gamma,
                confidence=experiment.evaluate.confidence,
            )
            judged[name][str(seed)] = [value.value, value.low, value.high]
            if name == "simulated":
                judged["warrant"] = {"verdict": value.verdict, "reasons": list(value.reasons)}
            arrays[f"{name}_{seed}"] = value.returns
            looked = sessions_in(policy, world, experiment.world.sessions, seed)
            arrays |= {f"{part}_{name}_{seed}": values for part, values in looked.items()}
            if value.ensemble is not None:
                judged.setdefault("spread", {})[str(seed)] = [value.ensemble.within, value.ensemble.between]
                arrays[f"{name}_members_{seed}"] = value.member_returns.mean(1)


def _policy(setting: Setting, unit: Unit) -> Policy | None:
    """The unit's policy; None for a logged recommender that nobody knows."""
    if method_of(setting.experiment, unit).kind in MAKERS:
        return load(setting.policy(unit.policy_key) / "policy")
    return None if setting.truth is None else truth_of(setting.truth).logging_policy


def _behaviour(setting: Setting, log: SessionLog) -> Policy | None:
    """The clone that supplies propensities; None where the log has its own."""
    return None if log.propensity is not None else load(setting.policy(str(setting.behaviour)) / "policy")


def _on_log(setting: Setting, policy: Policy | None, test: SessionLog, logged: bool) -> Estimates:
    """Estimates from the held-out log; of the logged recommender, the mean of what it brought."""
    options = setting.experiment.evaluate
    names = tuple(ESTIMATORS) if options.estimators is None else options.estimators
    names = tuple(name for name in names if ESTIMATORS[name].target)
    behaviour = _behaviour(setting, test)
    if logged:  # any policy will do: the estimator looks at the log alone
        policy, names = behaviour or uniform(test), ("logged",)
    assert policy is not None
    return evaluate(
        policy,
        test,
        behaviour=behaviour,
        estimators=names,
        gamma=options.gamma,
        replicates=options.replicates,
        confidence=options.confidence,
    )


def _row(row: Any) -> dict[str, Any]:
    seen = row.diagnostics
    return {
        "value": row.raw.value,
        "low": row.raw.low,
        "high": row.raw.high,
        "verdict": row.verdict,
        "reasons": list(row.reasons),
        "ess": row.ess,
        "mean_weight": seen.mean_weight,
    }


def _worlds(setting: Setting, kind: str) -> Iterator[tuple[str, Environment]]:
    """The worlds the policy can be put into: an unknown recommender cannot be put into any."""
    if kind == "logged" and setting.truth is None:
        return
    if setting.users is not None:
        yield "simulated", world_of(setting)
    if setting.truth is not None:
        yield "true", truth_of(setting.truth).world


def _as_cloner(policy: Any, test: SessionLog) -> dict[str, float]:
    report = clone_report(policy, test)
    found = {name: getattr(report, name) for name in ("nll", "hit_rate_at_10", "ndcg_at_10", "coverage_at_10")}
    if int(test.lengths.max()) > 1:
        # What the recommender answered, without the first slate, before which there is nothing to answer.
        found["next_nll"] = clone_report(policy, test, from_step=1).nll
    return found


def _metrics(judged: Judged) -> Iterator[tuple[str, float]]:
    """The same as MLflow metrics. What is refused is not shown as a number, but for simulated values.

    Those are in every run, so that charts compare like with like; the tag `sim.verdict` says what they are worth.
    """
    sections = {"ope": judged["ope"]} | {f"ope_{log}": found for log, found in judged["others"].items()}
    for section, found in sections.items():
        for name, row in found.items():
            if row["verdict"] != "refuse":
                yield f"{section}/{name}", row["value"]
                yield f"{section}/{name}_low", row["low"]
                yield f"{section}/{name}_high", row["high"]
            yield f"{section}/{name}_ess", row["ess"]
            yield f"{section}/{name}_mean_weight", row["mean_weight"]
    for world, section in (("simulated", "sim"), ("true", "true")):
        if world in judged:
            value, low, high = (float(part) for part in np.mean(list(judged[world].values()), axis=0))
            yield f"{section}/return", value
            if len(judged[world]) == 1:
                yield f"{section}/return_low", low
                yield f"{section}/return_high", high
    for place, name in enumerate(("within", "between")):
        if "spread" in judged:
            yield f"sim/{name}", float(np.mean([parts[place] for parts in judged["spread"].values()]))
    for name, value in judged.get("cloning", {}).items():
        yield f"rank/{name}", value
    yield "time/judging_seconds", judged["seconds"]


def _write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}.new")
    with fresh.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    fresh.replace(path)
