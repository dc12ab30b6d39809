"""Making what a run needs: the users, once, and each unit's policy, from its checkpoint where there is one."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from recil.config import Method
from recil.experiment.data import kept_ensemble, kept_log, kept_users
from recil.experiment.plan import BEHAVIOUR, Setting, Unit, method_of
from recil.experiment.publish import begin, begin_users, publish_card
from recil.logs.session_log import SessionLog
from recil.policies.baselines import popular, uniform
from recil.policies.encoders import EncoderConfig
from recil.policies.markov import markov
from recil.policies.neighbours import knn
from recil.policies.softmax import SoftmaxPolicy
from recil.policies.storage import Storable, load, save
from recil.sim.card import SimulatorCard, card_beside, validate
from recil.sim.ensemble import fit_ensemble
from recil.sim.fit import fit_users
from recil.sim.reference import ReferenceConfig, fit_reference
from recil.sim.storage import save_users
from recil.sim.world import World
from recil.track.run import RunWriter
from recil.train.adversarial import adversarial
from recil.train.clone import CloneConfig, clone
from recil.train.dagger import dagger
from recil.train.dagger_expert import best_response
from recil.train.finetune import finetune
from recil.train.loop import OnMetrics
from recil.train.q_learning import q_learning
from recil.train.reinforce import reinforce


@dataclass(frozen=True)
class Making:
    """All that a policy is made from. seed: 0 for methods whose making draws on none."""

    setting: Setting
    unit: Unit
    method: Method
    on_metrics: OnMetrics | None
    checkpoint: Path

    @property
    def seed(self) -> int:
        return self.unit.seed or 0

    @property
    def log(self) -> SessionLog:
        return kept_log(self.setting.data(self.setting.train))

    @property
    def world(self) -> World:
        return world_of(self.setting)


def _clone(making: Making) -> Storable:
    return clone(
        making.log,
        making.method.settings,
        making.seed,
        on_metrics=making.on_metrics,
        checkpoint=making.checkpoint,
    )


def _start(making: Making) -> SoftmaxPolicy:
    start = load(making.setting.policy(str(making.unit.start)) / "policy")
    assert isinstance(start, SoftmaxPolicy)
    return start


def _finetune(making: Making) -> Storable:
    source = making.method.own["source"]
    return finetune(
        _start(making),
        making.log if source == "log" else making.world,
        making.method.settings,
        making.seed,
        log=making.log if source == "both" else None,
        on_metrics=making.on_metrics,
        checkpoint=making.checkpoint,
    )


def _untrained(making: Making) -> SoftmaxPolicy:
    """Built as the clone that the method is to be `like`, or as clones are by default."""
    named = making.method.own.get("like")
    built = CloneConfig() if named is None else making.setting.experiment.method(named).settings
    encoder = EncoderConfig(built.encoder, built.width)
    return SoftmaxPolicy.for_log(making.log, encoder, built.item_features, making.seed, built.tied)


def _q_learning(making: Making) -> Storable:
    return q_learning(
        making.log,
        making.method.settings,
        making.seed,
        on_metrics=making.on_metrics,
        checkpoint=making.checkpoint,
    )


def _dagger(making: Making) -> Storable:
    world = making.world
    return dagger(
        _start(making),
        world,
        best_response(world),
        making.method.settings,
        making.seed,
        on_metrics=making.on_metrics,
        checkpoint=making.checkpoint,
    ).policy


def _adversarial(making: Making) -> Storable:
    return adversarial(
        _untrained(making),
        making.world,
        making.log,
        making.method.settings,
        making.seed,
        on_metrics=making.on_metrics,
        checkpoint=making.checkpoint,
    ).policy


def _reinforce(making: Making) -> Storable:
    return reinforce(
        _untrained(making),
        making.world,
        making.method.settings,
        making.seed,
        on_metrics=making.on_metrics,
        checkpoint=making.checkpoint,
    )


MAKERS: dict[str, Callable[[Making], Storable]] = {
    "uniform": lambda making: uniform(making.log),
    "popular": lambda making: popular(making.log, **making.method.own),
    "knn": lambda making: knn(making.log, making.method.settings),
    "markov": lambda making: markov(making.log, **making.method.own),
    "clone": _clone,
    "finetune": _finetune,
    "reinforce": _reinforce,
    "q_learning": _q_learning,
    "dagger": _dagger,
    "adversarial": _adversarial,
}


def world_of(setting: Setting) -> World:
    """The world of the fitted users, with their card."""
    folder, horizon = setting.users_folder(), setting.experiment.world.horizon
    members = kept_ensemble(folder / "ensemble").members if setting.experiment.world.members else ()
    return World(kept_users(folder / "users"), horizon, card=card_beside(folder), members=members)


def is_made(setting: Setting, unit: Unit) -> bool:
    """Whether the unit's policy is there (that of the logged recommender is not made but known)."""
    known = method_of(setting.experiment, unit).kind not in MAKERS
    return known or (setting.policy(unit.policy_key) / "policy" / "policy.json").exists()


def users_are_made(setting: Setting) -> bool:
    """Whether the fitted users and their card are there, or nothing is to be fitted."""
    folder = setting.users_folder()
    return setting.users is None or all((folder / name).exists() for name in ("card.json", "users/users.json"))


def learn(task: tuple[Setting, Unit | None]) -> None:
    """Makes one unit's policy, or the users (None), unless it is there. Its training is logged as it goes."""
    setting, unit = task
    if unit is None:
        return None if users_are_made(setting) else _learn_users(setting)
    if is_made(setting, unit):
        return None
    method = method_of(setting.experiment, unit)
    folder = setting.policy(unit.policy_key)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    # What is not trained has no curve to follow: its run begins when it is judged.
    writer = begin(setting, unit, folder) if method.seeded and unit.method != BEHAVIOUR else None
    with writer or nullcontext():
        on_metrics = None if writer is None else _reporter(writer)
        policy = MAKERS[method.kind](Making(setting, unit, method, on_metrics, folder / "checkpoint.safetensors"))
        if writer is not None:
            writer.metrics({"time/training_seconds": time.monotonic() - started})
    save(policy, folder / "policy")
    return None


def _reporter(writer: RunWriter) -> Callable[[int, Mapping[str, float]], None]:
    def on_metrics(step: int, metrics: Mapping[str, float]) -> None:
        writer.metrics(metrics, step)

    return on_metrics


def _learn_users(setting: Setting) -> None:
    """Fits the users to the training log and judges them on the held-out one; the run of the fit holds both."""
    train, test = (kept_log(setting.data(key)) for key in (setting.train, setting.test))
    folder, experiment = setting.users_folder(), setting.experiment
    seed, members = experiment.seeds[0], experiment.world.members
    with begin_users(setting) as writer:
        on_metrics = _reporter(writer)
        under_way = folder / "fit"
        folder.mkdir(parents=True, exist_ok=True)
        users = fit_users(train, experiment.users, seed, on_metrics=on_metrics, checkpoint=under_way)
        if members:
            ensemble = fit_ensemble(
                train, experiment.users, seed, members=members, users=users, checkpoint=folder / "members.fit"
            )
            ensemble.save(folder / "ensemble")
        cluster = experiment.users.cluster
        learnable = ReferenceConfig(cluster=cluster)
        reference = fit_reference(train, learnable, seed) if experiment.world.reference else None
        card = validate(users, test, reference=reference, seed=seed, cluster=cluster)
        card.save(folder)
        _report(writer, card)
        publish_card(setting, writer)
    # Last: where the users are, their run is complete.
    save_users(users, folder / "users")
    under_way.unlink(missing_ok=True)
    shutil.rmtree(folder / "members.fit", ignore_errors=True)


def _report(writer: RunWriter, card: SimulatorCard) -> None:
    """The card in the users' run, where it can be charted and read."""
    if card.gap is not None:
        writer.metrics({"card/reference_gap": card.gap[0]})
    for row in card.rows:
        model = row.model.replace(", ", "_").replace(" ", "_")
        writer.metrics({f"card/{model}_log_loss": row.log_loss, f"card/{model}_calibration": row.calibration_error})
    writer.text(card.table + "\n", "card.txt")
    writer.figure(card.plot(), "card.png")
    writer.tags({"recil.verdict": card.verdict})
