"""The runs of a claim in MLflow: written arm by arm, and read back for its page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recil.claims.file import ClaimFile
from recil.claims.found import ArmRun, Found
from recil.claims.table import claim_version
from recil.config import content_hash
from recil.errors import InputError
from recil.track.find import FoundRun, find_runs, metric_history
from recil.track.git import git_tags
from recil.track.run import RunWriter
from recil.track.store import Store, ensure_experiment, prepare_store

CURVES = "curve"


@dataclass(frozen=True)
class Sweep:
    """All runs of a claim in one size with one state of the code. spool: where what cannot be sent is kept."""

    file: ClaimFile
    store: Store
    experiment_id: str
    key: str
    spool: Path
    tags: Mapping[str, str]


def experiment_name(claim: str) -> str:
    return f"recil-claim-{claim}"


def sweep_of(file: ClaimFile, store: Store, spool: Path) -> Sweep:
    """The experiment is made where it is missing."""
    prepare_store(store)
    experiment_id = ensure_experiment(store, experiment_name(file.claim.name))
    version = claim_version(file.claim.name)
    key = content_hash([version, file.key])
    tags = {
        "recil.sweep": key,
        "recil.claim": file.claim.name,
        "recil.size": file.size,
        "recil.version": version,
        "recil.config_hash": file.key,
    }
    return Sweep(file, store, experiment_id, key, spool, tags | git_tags(file.path.parent))


def published(sweep: Sweep, key: str) -> bool:
    """Whether a part's runs are all there, in this sweep."""
    runs = find_runs(sweep.store, sweep.experiment_id, {"recil.part_key": key, "recil.sweep": sweep.key})
    return bool(runs) and len(runs) == int(runs[0].tags["recil.arms"])


def publish(
    sweep: Sweep,
    key: str,
    part: str,
    seed: int,
    arm: str,
    place: int,
    measured: Mapping[str, Any],
    arms: int,
    seconds: float,
) -> None:
    """One arm with one seed, as a run; one that was begun before is gone on with."""
    tags = dict(sweep.tags) | {
        "recil.part_key": key,
        "recil.part": part,
        "recil.method": arm,
        "recil.stage": "claim",
        "recil.seed": str(seed),
        "recil.arms": str(arms),
        "recil.place": str(place),
        "recil.seconds": f"{seconds:.3f}",
    }
    run_key = content_hash([sweep.key, key, arm])
    with RunWriter(sweep.store, sweep.experiment_id, f"{arm} {seed}", sweep.spool, tags, key=run_key) as writer:
        writer.params({"settings": sweep.file.given, "factor": measured["factors"], "seed": seed})
        writer.metrics(measured["values"])
        for name, curve in measured["curves"].items():
            for step, value in curve:
                writer.metrics({f"{CURVES}/{name}": value}, step)


def found_of(sweep: Sweep) -> Found:
    """What MLflow has of a sweep. InputError where that is nothing."""
    runs = find_runs(sweep.store, sweep.experiment_id, {"recil.sweep": sweep.key, "recil.stage": "claim"})
    if not runs:
        raise _nothing(sweep)
    wanted = set(sweep.file.claim.units(sweep.file.settings, sweep.file.seeds))
    missing = wanted - {(run.tags["recil.part"], int(run.tags["recil.seed"])) for run in runs}
    if missing:
        part, seed = min(missing)
        problem = f"{len(missing)} of {len(wanted)} parts are not finished, such as {part} with seed {seed}"
        raise InputError(sweep.file.claim.name, problem, "run it again: it goes on where it was stopped")
    parts = sweep.file.claim.parts(sweep.file.settings)
    runs.sort(key=lambda run: (parts.index(run.tags["recil.part"]), int(run.tags["recil.place"])))
    return Found(tuple(_arm_run(sweep.store, run) for run in runs), sweep.file.seeds)


def newest(sweep: Sweep) -> str:
    """The key of the latest sweep with these settings and seeds, whatever code it was run with. InputError: none."""
    tags = {"recil.config_hash": sweep.file.key, "recil.stage": "claim"}
    runs = find_runs(sweep.store, sweep.experiment_id, tags)
    if not runs:
        raise _nothing(sweep)
    return runs[-1].tags["recil.sweep"]


def _nothing(sweep: Sweep) -> InputError:
    return InputError(sweep.file.claim.name, f"no run of size {sweep.file.size} is finished", "recil run it first")


def seconds_of(sweep: Sweep) -> float:
    """Seconds that all parts took, one after the other."""
    runs = find_runs(sweep.store, sweep.experiment_id, {"recil.sweep": sweep.key, "recil.stage": "claim"})
    return sum({run.tags["recil.part_key"]: float(run.tags["recil.seconds"]) for run in runs}.values())


def _arm_run(store: Store, run: FoundRun) -> ArmRun:
    curves = {}
    for name in run.metrics:
        if name.startswith(f"{CURVES}/"):
            points = metric_history(store, run.run_id, name)
            curves[name.removeprefix(f"{CURVES}/")] = (
                np.array([step for step, _ in points]),
                np.array([value for _, value in points]),
            )
    values = {name: value for name, value in run.metrics.items() if not name.startswith(f"{CURVES}/")}
    factors = {name.removeprefix("factor."): value for name, value in run.params.items() if name.startswith("factor.")}
    tags = run.tags
    return ArmRun(tags["recil.method"], tags["recil.part"], int(tags["recil.seed"]), values, curves, factors)
