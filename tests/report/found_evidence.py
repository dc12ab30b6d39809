"""Evidence made by hand: methods with given rows, differences and arrays, without anything having been run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from recil.config import Experiment, Method
from recil.config.tables import EvaluateTable, LogTable, TruthTable, WorldTable
from recil.experiment.evidence import Evidence
from recil.experiment.gather import Found
from recil.experiment.plan import Setting, Unit
from recil.experiment.result import Gain, Result, Row

SHOWN = (0.2, 0.1, 0.3)


def row(method: str, kind: str = "clone", **options: Any) -> Row:
    """A method with a value by every measure that is to be trusted, unless said otherwise."""
    whole = {"seeds": (2, 2), "true": SHOWN, "simulated": SHOWN, "ope": SHOWN, "estimator": "pdwis", "verdict": "trust"}
    return Row(method, kind, **(whole | {"reasons": (), "warrant": "trust"} | options))


def gain(first: str, second: str, measure: str, sign: int) -> Gain:
    """Clearly positive, clearly negative, or a tie."""
    return Gain(first, second, measure, 0.1 * sign, 0.1 * sign - 0.05, 0.1 * sign + 0.05)


def evidence(
    rows: Sequence[Row] = (),
    gains: Sequence[Gain] = (),
    *,
    found: Sequence[Found] = (),
    seeds: tuple[int, ...] = (0, 1),
    truth: bool = True,
    users: str | None = "users",
    world: tuple[str, tuple[str, ...]] | None = ("trust", ()),
    gamma: float = 1.0,
    catalogue: int = 4,
    folder: Path = Path("nowhere"),
) -> Evidence:
    """What the parts of a report read of it."""
    result = Result("made", tuple(rows), tuple(gains), 0.95, world)
    experiment = Experiment(
        name="made",
        seeds=seeds,
        log=LogTable(path="log"),
        world=WorldTable(horizon=3, sessions=10),
        evaluate=EvaluateTable(gamma=gamma),
        methods=tuple(Method(each.method, each.kind) for each in rows),
        truth=TruthTable(settings="settings.toml") if truth else None,
    )
    setting = Setting(
        experiment=experiment, folder=folder, store=SimpleNamespace(), experiment_id="1", train="train", test="test",
        users=users, behaviour=None, truth=Path("settings.toml") if truth else None,
        tags={"recil.sweep": "sweep", "recil.version": "0+test", "recil.world": "w"}, source="log",
    )  # fmt: skip
    made = _Evidence(setting, tuple(found), SimpleNamespace(verdict=world[0]) if world else None, result)
    made.kept["train"] = SimpleNamespace(catalogue=catalogue)
    return made


class _Evidence(Evidence):
    """Evidence whose logs are not on disk."""

    kept: dict[str, Any] = {}  # noqa: RUF012

    @property
    def train(self) -> Any:
        return self.kept["train"]


def unit(method: str, seed: int | None, arrays: Mapping[str, np.ndarray]) -> Found:
    return Found(Unit(method, seed, f"{method}-{seed}", f"{method}-{seed}"), {"seconds": 0.0}, arrays)
