"""Running a claim: every part with every seed, kept as it is finished, and in MLflow run by run."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recil.claims.claim import Measured
from recil.claims.file import ClaimFile
from recil.claims.publish import Sweep, publish, published, sweep_of
from recil.claims.table import claim_of, claim_version
from recil.config import content_hash
from recil.errors import InputError
from recil.jobs import Failure, run_units
from recil.track.find import end_runs
from recil.track.outbox import send_spooled
from recil.track.store import Store

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class PartUnit:
    """A part with a seed; plain values, so that it can be sent to other processes. file: where its result is kept."""

    claim: str
    settings: Any
    part: str
    seed: int
    key: str
    file: Path

    @property
    def label(self) -> str:
        return f"{self.part}-{self.seed}"


@dataclass(frozen=True)
class Ran:
    """What came of a run. failures: label of a unit -> what stopped it."""

    sweep: Sweep
    failures: Mapping[str, Failure] = field(default_factory=dict)


def run_claim(
    file: ClaimFile,
    store: Store,
    work: Path = Path(".recil"),
    jobs: int = 1,
    progress: Progress = lambda done, total, what: None,
) -> Ran:
    """Runs what is not yet finished of a claim, and puts every arm and seed into MLflow as a run of its own.

    Numbers do not depend on `jobs`, nor on interruptions. A part that fails is named in the result and the rest runs.
    """
    folder = Path(work).resolve() / f"claim-{file.claim.name}"
    sweep = sweep_of(file, store, folder.parent / "spool")
    send_spooled(sweep.spool)
    units = units_of(file, folder)
    failures: dict[str, Failure] = {}
    total, done = len(units), 0
    try:
        for unit, outcome in _outcomes(units, jobs):
            done += 1
            if isinstance(outcome, Failure):
                failures[unit.label] = outcome
            elif not published(sweep, unit.key):
                _publish(sweep, unit)
            progress(done, total, f"ran {unit.label}")
    except KeyboardInterrupt:
        end_runs(store, sweep.experiment_id, {"recil.sweep": sweep.key})
        raise
    return Ran(sweep, failures)


def units_of(file: ClaimFile, folder: Path) -> list[PartUnit]:
    """Every part with its seeds."""
    try:
        (folder / "parts").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(str(folder), f"cannot be written ({error})", "run where you may write") from error
    claim, units = file.claim, []
    for part, seed in claim.units(file.settings, file.seeds):
        key = content_hash([claim_version(claim.name), claim.name, dataclasses.asdict(file.settings), part, seed])
        units.append(PartUnit(claim.name, file.settings, part, seed, key, folder / "parts" / f"{key}.json"))
    return units


def _outcomes(units: list[PartUnit], jobs: int) -> Any:
    """(unit, what came of it): first what is finished, then the rest as it finishes."""
    left = []
    for unit in units:
        if unit.file.exists():
            yield unit, None
        else:
            left.append(unit)
    yield from run_units(measure, left, jobs)


def measure(unit: PartUnit) -> None:
    """Runs a part with a seed and keeps what it came to, whole or not at all."""
    begun = time.monotonic()
    arms = claim_of(unit.claim).measure(unit.settings, unit.part, unit.seed)
    content = {
        "seconds": time.monotonic() - begun,
        "arms": {arm: _plain(measured) for arm, measured in arms.items()},
    }
    partial = unit.file.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(content), encoding="utf-8")
    partial.replace(unit.file)


def _plain(measured: Measured) -> dict[str, Any]:
    curves = {name: [[int(step), float(value)] for step, value in curve] for name, curve in measured.curves.items()}
    values = {name: float(value) for name, value in measured.values.items()}
    return {"values": values, "curves": curves, "factors": dict(measured.factors)}


def _publish(sweep: Sweep, unit: PartUnit) -> None:
    content = json.loads(unit.file.read_text(encoding="utf-8"))
    for place, (arm, measured) in enumerate(content["arms"].items()):
        publish(sweep, unit.key, unit.part, unit.seed, arm, place, measured, len(content["arms"]), content["seconds"])
