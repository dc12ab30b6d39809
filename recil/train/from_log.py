"""Policy gradient from a log alone: many small corrected steps, stopped where held-out sessions stop agreeing."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from recil.random import Streams
from recil.train.checkpoint import load_checkpoint, save_checkpoint
from recil.train.choice import Judge
from recil.train.clone import held_out_sessions
from recil.train.finetune_config import FinetuneConfig
from recil.train.logged_sessions import LoggedSessions
from recil.train.loop import OnMetrics, batches
from recil.train.policy_step import Learner
from recil.train.sampled import affordable

# Logits of held-out sessions after each epoch over a large catalogue: rewards are rarer than what a clone is judged by.
LOGITS_TO_CHOOSE = 1 << 33


@dataclass
class _Position:
    """Where a run stands: epochs and steps done, and the clear gain and the epoch of the choice so far."""

    epoch: int = 0
    step: int = 0
    best_clear: float = 0.0
    best_epoch: int = -1
    stopped: bool = False


def improve_from_log(
    learner: Learner,
    sessions: LoggedSessions,
    config: FinetuneConfig,
    streams: Streams,
    settings: str,
    on_metrics: OnMetrics | None = None,
    checkpoint: str | Path | None = None,
) -> None:
    """Train `learner.policy` in place; it ends with the weights that held-out sessions chose, or as the clone.

    The checkpoint is written after each epoch; a run that resumes from it ends with the same bits.
    """
    log = sessions.log
    training, held_out = held_out_sessions(log, config.held_out, config.cluster)
    if config.negatives:
        held_out = affordable(log, held_out, log.catalogue, LOGITS_TO_CHOOSE)
    learner.scale, learner.items = sessions.scale(), log.impressions / log.sessions
    best = copy.deepcopy(learner.policy.state_dict())
    found = checkpoint and load_checkpoint(checkpoint, learner.modules, learner.optimisers, settings)
    if found:
        progress, tensors = found
        position = _Position(**{name: value for name, value in progress.items() if name != "settings"})
        best = {name.removeprefix("best."): value for name, value in tensors.items() if name.startswith("best.")}
        judge = Judge.restored(learner, sessions, held_out, config.batch, tensors["credit"])
    else:
        position = _Position()
        _warm_up(learner, sessions, training, config, streams)
        judge = Judge.of(learner, sessions, held_out, config.batch)
    learner.step = position.step
    while position.epoch < config.epochs and not position.stopped:
        for chosen in batches(training, log.lengths[training], config.batch, streams, position.epoch):
            report(on_metrics, learner.name, learner.step, learner.improve(sessions.batch(chosen)))
        best = _choose(learner, judge, position, config, best, on_metrics)
        if checkpoint is not None:
            tensors = {f"best.{name}": value for name, value in best.items()} | {"credit": judge.credit}
            progress = vars(position) | {"settings": settings}
            save_checkpoint(checkpoint, learner.modules, learner.optimisers, progress, tensors)
    learner.policy.load_state_dict(best)


def _warm_up(
    learner: Learner, sessions: LoggedSessions, training: np.ndarray, config: FinetuneConfig, streams: Streams
) -> None:
    step, epoch = 0, 0
    while step < config.critic_warmup:
        for chosen in batches(training, sessions.log.lengths[training], config.batch, streams.child("warm-up"), epoch):
            learner.warm_up(sessions.batch(chosen), step)
            step += 1
            if step == config.critic_warmup:
                break
        epoch += 1


def _choose(
    learner: Learner,
    judge: Judge,
    position: _Position,
    config: FinetuneConfig,
    best: dict[str, Tensor],
    on_metrics: OnMetrics | None,
) -> dict[str, Tensor]:
    """The weights to keep after this epoch; moves `position` on."""
    gain = judge.gain(learner)
    # The margin decides whether a policy may replace the clone; among those that may, one standard error is enough.
    clear = gain.clear(min(config.margin, 1.0))
    if gain.clear(config.margin) > 0 and clear > position.best_clear:
        position.best_clear, position.best_epoch = clear, position.epoch
        best = copy.deepcopy(learner.policy.state_dict())
    last = max(position.best_epoch, 0)
    position.stopped = gain.ess < config.overlap or position.epoch - last >= config.patience
    metrics = {"held_out_gain": gain.value, "held_out_gain_error": gain.error, "held_out_ess": gain.ess}
    metrics |= {"held_out_rewarded": float(judge.rewarded()), "chosen_epoch": float(position.best_epoch)}
    report(on_metrics, learner.name, learner.step, metrics)
    position.epoch += 1
    position.step = learner.step
    return best


def report(on_metrics: OnMetrics | None, section: str, step: int, metrics: dict[str, float]) -> None:
    if on_metrics is not None:
        on_metrics(step, {f"{section}/{name}": value for name, value in metrics.items()})
