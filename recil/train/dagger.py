"""DAgger: the learner acts, the expert says what it would have done there, and all of it is learned from."""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.logs.history import History
from recil.logs.session_log import SessionLog
from recil.ops.one_pass import slate_log_prob
from recil.policies.environment import Environment, identity_of
from recil.policies.mixture import Mixture
from recil.policies.protocol import Policy
from recil.policies.softmax import SoftmaxPolicy
from recil.random import Streams
from recil.train.checkpoint import digest_of_run, load_checkpoint, save_checkpoint
from recil.train.clone import held_out_sessions
from recil.train.dagger_config import DaggerConfig
from recil.train.dagger_data import Recorded, apart, from_tensors, labelled_log, to_tensors
from recil.train.diverged import naming
from recil.train.from_log import report
from recil.train.loop import Objective, OnMetrics, Schedule, fit


@dataclass(frozen=True)
class Dagger:
    """What DAgger leaves behind.

    policy  the learner after the last round
    data    all sessions as they were acted, and in the column `expert_item` the expert's slate for every step
    """

    policy: SoftmaxPolicy
    data: SessionLog


@dataclass
class _Run:
    """Where a run stands: rounds done, optimiser steps done, each round's sessions with the expert's slates."""

    policy: SoftmaxPolicy
    item_ids: np.ndarray
    step: int = 0
    rounds: list[tuple[History, Tensor]] = field(default_factory=list)

    @property
    def data(self) -> SessionLog:
        return labelled_log(self.rounds, self.item_ids)


def dagger(
    policy: SoftmaxPolicy,
    world: Environment,
    expert: Policy,
    config: DaggerConfig | None = None,
    seed: int = 0,
    *,
    on_metrics: OnMetrics | None = None,
    checkpoint: str | Path | None = None,
) -> Dagger:
    """A copy of `policy` taught by the expert in the situations that the learner itself gets into.

    Who makes a slate is drawn per session and step (config.decay); its label is always the slate that the expert makes
    there, drawn once, whoever's is shown. With decay 1 the data are those of `simulate(expert, world, ...)` with this
    seed, bit for bit. expert: any policy over the catalogue, or `best_response(world)`. With `checkpoint`, written
    after each round, a run that was stopped goes on where it stood; `rounds` may then be raised. InputError: another
    catalogue, a loss that is not finite. Source: Ross, Gordon & Bagnell (2011), "A reduction of imitation learning and
    structured prediction to no-regret online learning".
    """
    config = config or DaggerConfig()
    _check(policy, world, expert)
    ids = getattr(world, "item_ids", None) if policy.item_ids is None else policy.item_ids
    run = _Run(copy.deepcopy(policy).requires_grad_(True).eval(), np.arange(world.catalogue) if ids is None else ids)
    lasting = {name: value for name, value in asdict(config).items() if name != "rounds"}
    settings = digest_of_run([lasting, seed, identity_of(world)], policy.state_dict().values())
    found = checkpoint and load_checkpoint(checkpoint, {"policy": run.policy}, {}, settings)
    if found:
        progress, tensors = found
        run.step, run.rounds = progress["step"], from_tensors(tensors, progress["rounds"])
    for number in range(len(run.rounds), config.rounds):
        with naming(checkpoint):
            _act(run, world, expert, config, Streams(seed), number, on_metrics)
            _learn(run, config, Streams(seed).child("dagger", number), on_metrics)
        if checkpoint is not None:
            state = {"rounds": number + 1, "step": run.step, "settings": settings}
            save_checkpoint(checkpoint, {"policy": run.policy}, {}, state, to_tensors(run.rounds))
    return Dagger(run.policy, run.data)


def _act(
    run: _Run,
    world: Environment,
    expert: Policy,
    config: DaggerConfig,
    streams: Streams,
    number: int,
    on_metrics: OnMetrics | None,
) -> None:
    """One round's sessions under the mixture, with a label for every step."""
    teacher = Recorded(expert)
    device = next(run.policy.parameters()).device
    addresses = torch.arange(number * config.sessions, (number + 1) * config.sessions, device=device)
    with torch.no_grad():
        # The streams of `simulate` itself, so that the expert alone writes the log that it would write there.
        mixture = Mixture(teacher, run.policy, config.beta(number))
        acted = replace(world.rollout(mixture, addresses, streams), memo={}).to("cpu")
    labels = teacher.slates_of(acted)
    run.rounds.append((acted, labels))
    agreed = (acted.items == labels).all(-1)[acted.happened].double().mean()
    metrics = {"round": number, "beta": config.beta(number), "agreement": float(agreed)}
    report(on_metrics, "dagger", run.step, metrics | {"return": float(acted.reward.sum((1, 2)).mean())})


def _learn(run: _Run, config: DaggerConfig, streams: Streams, on_metrics: OnMetrics | None) -> None:
    """Fit the policy to all labels so far, from the weights it has."""
    data, device = run.data, next(run.policy.parameters()).device
    training, held_out = held_out_sessions(data, config.held_out)

    def loss(sessions: np.ndarray, _: int = 0) -> tuple[Tensor, int]:
        acted, labels = apart(data.batch(sessions).to(device))
        took_place = acted.happened & (labels >= 0).any(-1)
        log_prob = score_labels(run.policy, acted, labels, took_place)
        mask = labels[took_place] >= 0
        return -torch.where(mask, log_prob, 0.0).sum(), int(mask.sum())

    def held_out_loss() -> float:
        parts = [loss(held_out[first : first + config.batch]) for first in range(0, len(held_out), config.batch)]
        return sum(float(total) for total, _ in parts) / sum(count for _, count in parts)

    items = max(int((data.items >= 0).sum()), 1) / data.sessions
    objective = Objective(
        "dagger", run.policy, loss, held_out_loss, training, data.session_ids, data.lengths[training], items
    )
    schedule = Schedule(config.epochs, config.batch, config.learning_rate, config.weight_decay, config.patience)
    first, steps = run.step, [0]

    def forward(step: int, metrics: dict[str, float]) -> None:
        steps.append(step)
        if on_metrics is not None:
            on_metrics(first + step, metrics)

    fit(objective, schedule, streams, forward)
    run.step = first + steps[-1]


def score_labels(policy: SoftmaxPolicy, acted: History, labels: Tensor, took_place: Tensor) -> Tensor:
    """Log-probability of the expert's slates given what came before them as it was acted. [steps that took place, K]

    labels: int64 [B, T, K]; took_place: bool [B, T].
    """
    states = policy.before_steps(acted)[took_place]
    return slate_log_prob(states, labels[took_place], *policy.head())


def _check(policy: SoftmaxPolicy, world: Environment, expert: Policy) -> None:
    sizes = {"the world": world.catalogue, "the policy": policy.catalogue, "the expert": expert.catalogue}
    if len(set(sizes.values())) > 1:
        raise InputError(
            "dagger",
            ", ".join(f"{who} has {items} items" for who, items in sizes.items()),
            "give a policy and an expert over the world's catalogue",
        )
