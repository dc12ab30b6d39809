"""Policy gradient in a world: act, learn from what that brought, act again. Finetuning and the foil share this loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recil.errors import InputError
from recil.logs.history import History
from recil.policies.environment import Environment
from recil.random import Streams
from recil.train.checkpoint import load_checkpoint, save_checkpoint
from recil.train.from_log import report
from recil.train.loop import OnMetrics
from recil.train.policy_step import Learner

# (iteration, step, n) -> n sessions of a log, to learn from beside the simulated ones.
MoreSessions = Callable[[int, int, int], History]


def improve_in_world(
    learner: Learner,
    environment: Environment,
    streams: Streams,
    settings: str,
    on_metrics: OnMetrics | None = None,
    checkpoint: str | Path | None = None,
    more: MoreSessions | None = None,
) -> None:
    """Train `learner.policy` in place on config.sessions simulated sessions, each address acted in once.

    The checkpoint is written after each iteration; a run that resumes from it ends with the same bits.
    """
    config = learner.config
    if environment.catalogue != learner.policy.catalogue:
        raise InputError(
            learner.name,
            f"the world has {environment.catalogue} items and the policy {learner.policy.catalogue}",
            "give a policy over the world's catalogue",
        )
    found = checkpoint and load_checkpoint(checkpoint, learner.modules, learner.optimisers, settings)
    done: dict[str, Any] = found[0] if found else {"iteration": 0, "step": 0, "scale": 0.0}
    learner.step, learner.scale = done["step"], done["scale"]
    device = next(learner.policy.parameters()).device
    for iteration in range(done["iteration"], -(-config.sessions // config.sessions_per_iteration)):
        first = iteration * config.sessions_per_iteration
        addresses = torch.arange(first, min(first + config.sessions_per_iteration, config.sessions), device=device)
        with torch.no_grad():
            acted = replace(environment.rollout(learner.policy, addresses, streams.child("world")), memo={})
        report(on_metrics, learner.name, learner.step, {"return": float(acted.reward.sum((1, 2)).mean())})
        if not learner.scale and acted.reward.any():
            learner.scale = float(acted.reward.abs().sum() / acted.shown.sum())
            _warm_up(learner, acted, streams)
        if learner.scale:
            _learn(learner, acted, iteration, streams, on_metrics, more)
        if checkpoint is not None:
            progress = {"iteration": iteration + 1, "step": learner.step, "scale": learner.scale, "settings": settings}
            save_checkpoint(checkpoint, learner.modules, learner.optimisers, progress)


def _warm_up(learner: Learner, acted: History, streams: Streams) -> None:
    """The critic's first steps, all on the sessions of the first iteration that brought any reward."""
    order: list[Tensor] = []
    for step in range(learner.config.critic_warmup):
        order = order or _batches(acted.batch, learner.config.batch, streams.generator("warm-up", step))
        learner.warm_up(acted.take(order.pop()))


def _learn(
    learner: Learner,
    acted: History,
    iteration: int,
    streams: Streams,
    on_metrics: OnMetrics | None,
    more: MoreSessions | None,
) -> None:
    """Passes over an iteration's sessions, until the policy has moved as far from the one that acted as it may."""
    for number in range(learner.config.passes):
        for chosen in _batches(acted.batch, learner.config.batch, streams.generator("batches", iteration, number)):
            metrics = learner.improve(acted.take(chosen))
            report(on_metrics, learner.name, learner.step, metrics)
            if metrics["kl_behaviour"] > learner.config.iteration_kl:
                return
            if more is not None:
                logged = learner.improve(more(iteration, learner.step, len(chosen)))
                report(on_metrics, learner.name, learner.step, {f"log_{name}": value for name, value in logged.items()})


def _batches(sessions: int, batch: int, generator: torch.Generator) -> list[Tensor]:
    return list(torch.randperm(sessions, generator=generator).split(batch))
