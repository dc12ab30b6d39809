"""A claim in its smallest form, run without MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from recil.claims.claim import Claim, Measured, Point, Standing, standing_of
from recil.claims.file import load_claim
from recil.claims.found import ArmRun, Found

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"


@dataclass(frozen=True)
class Tried:
    claim: Claim
    settings: Any
    found: Found

    @property
    def points(self) -> tuple[Point, ...]:
        return self.claim.points(self.settings, self.found)

    @property
    def standing(self) -> Standing:
        return standing_of(self.points)

    def swapped(self, first: str, second: str) -> Tried:
        """As if the two arms had been each other."""
        names = {first: second, second: first}
        runs = tuple(replace(run, arm=names.get(run.arm, run.arm)) for run in self.found.runs)
        return replace(self, found=replace(self.found, runs=runs))


def smallest(name: str, **settings: Any) -> Tried:
    """The smallest form of experiments/<name>, every part with every seed. settings: to change."""
    file = load_claim(EXPERIMENTS / name / "experiment.toml", "smallest")
    chosen = replace(file.settings, **settings)
    runs = [
        run
        for part, seed in file.claim.units(chosen, file.seeds)
        for run in arm_runs(file.claim.measure(chosen, part, seed), part, seed)
    ]
    return Tried(file.claim, chosen, Found(tuple(runs), file.seeds))


def arm_runs(arms: Mapping[str, Measured], part: str, seed: int) -> list[ArmRun]:
    """As they come back from MLflow."""
    return [
        ArmRun(
            arm,
            part,
            seed,
            dict(measured.values),
            {
                name: (np.array([step for step, _ in curve]), np.array([value for _, value in curve]))
                for name, curve in measured.curves.items()
            },
            {name: str(value) for name, value in measured.factors.items()},
        )
        for arm, measured in arms.items()
    ]
