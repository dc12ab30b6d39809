"""Finetune a clone by off-policy policy gradient on its clicks: from the log alone, in a world, or from both."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from recil.errors import InputError
from recil.logs.clusters import clusters_of
from recil.logs.exact_rewards import narrowest
from recil.logs.history import History
from recil.logs.session_log import SessionLog
from recil.ops.proposal import Proposal
from recil.policies.environment import Environment
from recil.policies.softmax import SoftmaxPolicy
from recil.random import Streams
from recil.train.clone import held_out_sessions, item_counts
from recil.train.diverged import naming
from recil.train.finetune_config import FinetuneConfig, GradientConfig
from recil.train.from_log import improve_from_log
from recil.train.in_world import MoreSessions, improve_in_world
from recil.train.logged_sessions import LoggedSessions
from recil.train.loop import OnMetrics
from recil.train.policy_step import Learner
from recil.train.rows import Tables
from recil.train.sampled_steps import SampledSteps


def finetune(
    policy: SoftmaxPolicy,
    source: SessionLog | Environment,
    config: FinetuneConfig | None = None,
    seed: int = 0,
    *,
    log: SessionLog | None = None,
    on_metrics: OnMetrics | None = None,
    checkpoint: str | Path | None = None,
) -> SoftmaxPolicy:
    """A copy of `policy` that earns more: per-step corrected policy gradient with a critic, near the given policy.

    source: a log, or a world to act in; with a world, `log` adds as many logged sessions to every step. From a log
    without propensities the given policy supplies them. From a log alone, held-out sessions decide where to stop, and
    the given policy is returned unchanged where none of the others is clearly better. With `checkpoint`, a run that was
    stopped goes on where it stood. InputError: a log without any reward, another catalogue, a loss that is not finite.
    Source: Chen et al. (2019), "Top-K off-policy correction for a REINFORCE recommender system".
    """
    config = config or FinetuneConfig()
    streams = Streams(seed).child("finetune")
    frozen = copy.deepcopy(policy).requires_grad_(False).eval()
    trained = copy.deepcopy(policy).requires_grad_(True).eval()
    sampled = _sampled(trained, source, config, streams)
    learner = Learner.of("finetune", trained, frozen, config, config.kl, source.slate_size, streams, sampled)
    settings = settings_digest(config, seed, policy, source if isinstance(source, SessionLog) else log)
    if isinstance(source, SessionLog):
        if log is not None:
            raise InputError("finetune", "got two logs", "give a world as the source, or one log only")
        sessions = LoggedSessions(source, frozen, large=sampled is not None, cluster=config.cluster)
        with naming(checkpoint):
            improve_from_log(learner, sessions, config, streams, settings, on_metrics, checkpoint)
        return trained
    more = None if log is None else _drawn_from(LoggedSessions(log, frozen), config, streams, source.slate_size)
    with naming(checkpoint):
        improve_in_world(learner, source, streams, settings, on_metrics, checkpoint, more)
    return trained


def _sampled(
    policy: SoftmaxPolicy, source: SessionLog | Environment, config: FinetuneConfig, streams: Streams
) -> SampledSteps | None:
    if not config.negatives:
        return None
    if not isinstance(source, SessionLog):
        raise InputError(
            "FinetuneConfig negatives",
            f"{config.negatives}, but acting in a world draws from the whole catalogue",
            "give a log as the source, or leave negatives at 0",
        )
    training, _ = held_out_sessions(source, config.held_out, config.cluster)
    proposal = Proposal.of(item_counts(source, training), config.negatives)
    return SampledSteps(proposal, streams, Tables(policy, config.learning_rate))


def _drawn_from(sessions: LoggedSessions, config: FinetuneConfig, streams: Streams, slate_size: int) -> MoreSessions:
    """Sessions of the log beside those of a world, drawn afresh for every step."""
    log = sessions.log
    if log.slate_size != slate_size:
        raise InputError(
            "finetune",
            f"the log has slates of {log.slate_size} items and the world of {slate_size}",
            "give a world with the log's slate size",
        )
    training, _ = held_out_sessions(log, config.held_out, config.cluster)

    def draw(iteration: int, step: int, count: int) -> History:
        generator = streams.numpy("logged", iteration, step)
        return sessions.batch(generator.choice(training, min(count, len(training)), replace=False))

    return draw


def settings_digest(config: GradientConfig, seed: int, policy: SoftmaxPolicy, log: SessionLog | None = None) -> str:
    """All that a run's bits depend on but the number of epochs, the patience and the world, as a digest."""
    content = asdict(config)
    lasting = {name: value for name, value in content.items() if name not in ("epochs", "patience")}
    digest = hashlib.blake2b(json.dumps([lasting, seed]).encode(), digest_size=16)
    arrays = [value.detach().cpu().numpy() for value in policy.state_dict().values()]
    if log is not None:
        arrays += [log.items, narrowest(log.reward), log.offsets]
        units = clusters_of(log, content.get("cluster")).of
        arrays += [] if units is None else [units]
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
