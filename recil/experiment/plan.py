"""What an experiment consists of: a unit for every method and seed, keyed by everything that is behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recil.config import Experiment, Method, content_hash, method_settings
from recil.experiment.version import code_version
from recil.random import stable_hash
from recil.track.store import Store

BEHAVIOUR = "behaviour"


@dataclass(frozen=True)
class Unit:
    """One policy to make and to judge.

    method      its label; BEHAVIOUR: the clone that stands for the logging policy, in no table
    seed        of its training; None where training draws on none
    policy_key  changes with what the policy is made from; key: also with what it is judged by
    start       the policy key of the policy it begins from
    """

    method: str
    seed: int | None
    policy_key: str
    key: str
    start: str | None = None

    @property
    def label(self) -> str:
        return self.method if self.seed is None else f"{self.method}-{self.seed}"


@dataclass(frozen=True)
class Setting:
    """What all units of a run share; plain values, so that it can be sent to other processes.

    folder      the experiment's work folder
    train, test, users  keys (digests) of the two parts of the log and of the fitted users, None where nothing is fitted
    behaviour   the policy key of the clone that supplies propensities, None where the log has them
    truth       the settings of the known world, None where there is none
    source      where the log was read
    others      name -> digest of the other logs that policies are judged on
    tags        what every run is tagged with
    """

    experiment: Experiment
    folder: Path
    store: Store
    experiment_id: str
    train: str
    test: str
    users: str | None
    behaviour: str | None
    truth: Path | None
    tags: Mapping[str, str]
    source: str
    others: Mapping[str, str] = field(default_factory=dict)

    @property
    def spool(self) -> Path:
        return self.folder.parent / "spool"

    def data(self, key: str) -> Path:
        return self.folder / "data" / key[:16]

    def users_folder(self) -> Path:
        return self.folder / "users" / str(self.users)

    def policy(self, key: str) -> Path:
        """The folder of a policy: `policy/` when it is made, its checkpoint and its metrics."""
        return self.folder / "policies" / key

    def result(self, unit: Unit) -> Path:
        return self.folder / "results" / unit.key


@dataclass(frozen=True)
class Plan:
    """All units. table: those of the comparison, in the file's order; behaviour: the extra clone, if one is needed."""

    table: tuple[Unit, ...]
    behaviour: Unit | None
    users: str | None

    def waves(self, experiment: Experiment) -> Iterator[list[Unit]]:
        """Units whose beginnings are made by earlier waves; what learns in a world comes after the users' fit."""
        made: set[str] = set()
        left = [unit for unit in (self.behaviour, *self.table) if unit is not None]
        left = list({unit.policy_key: unit for unit in left}.values())
        first = True
        while left:
            ready = [
                unit
                for unit in left
                if (unit.start is None or unit.start in made) and not (first and acts(experiment, unit))
            ]
            yield ready
            made |= {unit.policy_key for unit in ready}
            left = [unit for unit in left if unit not in ready]
            first = False


def method_of(experiment: Experiment, unit: Unit) -> Method:
    """The method behind a unit."""
    return behaviour_method(experiment) if unit.method == BEHAVIOUR else experiment.method(unit.method)


def behaviour_method(experiment: Experiment) -> Method:
    """The clone that stands for the logging policy where the log has no propensities: as the file's first clone is."""
    from recil.train.clone import CloneConfig

    clones = [method.settings for method in experiment.methods if method.kind == "clone"]
    return Method(BEHAVIOUR, "clone", clones[0] if clones else CloneConfig())


def acts(experiment: Experiment, unit: Unit) -> bool:
    """Whether the unit learns in the fitted world."""
    method = method_of(experiment, unit)
    return method.acts


def plan_of(
    experiment: Experiment, train: str, test: str, truth: Any, propensities: bool, others: Mapping[str, str]
) -> Plan:
    """The units of an experiment on logs with these digests. truth: what identifies the known world, or None."""
    users = _users_key(experiment, train)
    behaviour: Unit | None = None
    if not propensities:
        # A seed that no method has: a clone judged by propensities of its own would equal the log by construction.
        apart = stable_hash("behaviour", *experiment.seeds) % 2**31
        behaviour = _unit(experiment, behaviour_method(experiment), apart, train, users, None, None)
    judged_by = [
        code_version(), test, experiment.evaluate.model_dump(exclude={"logs"}), dict(others),
        experiment.world.model_dump(), truth, users,
        None if behaviour is None else behaviour.policy_key,
    ]  # fmt: skip
    table: list[Unit] = []
    for method in experiment.methods:
        for seed in experiment.seeds if method.seeded else (None,):
            starts = [unit.policy_key for unit in table if (unit.method, unit.seed) == (method.start, seed)]
            table.append(_unit(experiment, method, seed, train, users, starts[0] if starts else None, judged_by))
    return Plan(tuple(table), behaviour, users)


def _users_key(experiment: Experiment, train: str) -> str | None:
    if experiment.users is None:
        return None
    settings = experiment.resolved()["users"]
    world = [experiment.world.members, experiment.world.reference]
    return content_hash([code_version(), "users", settings, world, train, experiment.seeds[0]])


def _unit(
    experiment: Experiment,
    method: Method,
    seed: int | None,
    train: str,
    users: str | None,
    start: str | None,
    judged_by: Any,
) -> Unit:
    settings = method_settings(method)
    if method.own.get("like"):
        settings["like"] = method_settings(experiment.method(method.own["like"]))
    world = [users, experiment.world.horizon] if settings.get("source", "world") != "log" else None
    made_from = [code_version(), settings, train, seed, start, world if method.seeded else None]
    if method.kind == "clone":
        made_from[-1] = None
    policy_key = content_hash(made_from)
    seeds = list(experiment.seeds) if seed is None else [seed]
    return Unit(method.name, seed, policy_key, content_hash([method.name, policy_key, judged_by, seeds]), start)
