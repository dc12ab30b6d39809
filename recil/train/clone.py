"""Clone the logged recommender: fit a softmax policy to the logged slates by maximum likelihood."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.logs.clusters import clusters_of
from recil.logs.history import History
from recil.logs.session_log import SessionLog
from recil.ops.proposal import Proposal
from recil.policies.encoders import Drop, EncoderConfig
from recil.policies.softmax import SoftmaxPolicy
from recil.policies.touched import log_prob_of_sessions_by_items
from recil.random import Streams, stable_hashes
from recil.train.diverged import naming
from recil.train.loop import Objective, OnMetrics, Schedule, fit
from recil.train.rows import Tables
from recil.train.sampled import SampledLikelihood, affordable


@dataclass(frozen=True)
class CloneConfig:
    """How to clone a log.

    encoder        "bag" (decayed means of the steps: fast), "gru" (a recurrent network) or "transformer" (causal)
    width          entries of a state and of an item's vector
    item_features  add the vectors of the items' features to their own
    epochs         passes over the training sessions at most
    batch          sessions in one step of the optimiser
    learning_rate  step size of AdamW; halved after each epoch that does not lower the held-out loss, or `annealed`
    weight_decay   share of each weight (but no bias) taken off per step, times the learning rate
    patience       epochs without a better held-out likelihood before stopping
    held_out       share of the sessions that only decide when to stop: whole users, chosen by a hash of their id, or
                   single sessions where the log names no users
    cluster        what is held out whole instead: "user", "session", or a column
    only_rewarded  fit only the items that were rewarded; the others stay in the history
    dropout        share of the entries of steps and states that a training step leaves out: where sessions are few
    tied           an item has one vector, as input of the encoder and as output; see SoftmaxConfig
    annealed       all `epochs` are run with a step size that falls along half a cosine to 0, and the last weights are
                   kept: where the held-out sessions are too few, or too unlike those to be served, to choose an epoch
    bfloat16       the gradient's products over the catalogue with 8 bits of precision, not the likelihood: about a
                   quarter faster on processors that multiply such numbers, slower on others
    negatives      0: every step scores the whole catalogue. Else so many items stand for it, drawn anew for each step
                   by frequency and uniformly: for catalogues beyond some 100,000 items, whose steps then cost what
                   those of a small one do. Only rows that a step touches move, and decay. Held-out sessions are scored
                   in full, as many of them as take a few seconds
    """

    encoder: str = "bag"
    width: int = 64
    item_features: bool = True
    epochs: int = 30
    batch: int = 256
    learning_rate: float = 1e-2
    weight_decay: float = 0.1
    patience: int = 2
    held_out: float = 0.1
    only_rewarded: bool = False
    dropout: float = 0.0
    tied: bool = False
    annealed: bool = False
    bfloat16: bool = False
    negatives: int = 0
    cluster: str | None = None

    def __post_init__(self) -> None:
        EncoderConfig(self.encoder, self.width)
        for name in ("epochs", "batch", "patience", "learning_rate"):
            if not getattr(self, name) > 0:
                raise InputError(f"clone.{name}", f"{getattr(self, name)} is not above 0", "give a positive number")
        if not 0 < self.held_out < 1:
            raise InputError("clone.held_out", f"{self.held_out} is not between 0 and 1", "give a share such as 0.1")
        if not 0 <= self.dropout < 1:
            raise InputError("clone.dropout", f"{self.dropout} is not from 0 to below 1", "give a share such as 0.3")
        if not self.weight_decay >= 0:
            raise InputError("clone.weight_decay", f"{self.weight_decay} is below 0", "give 0 or more")
        if not self.negatives >= 0:
            raise InputError(
                "clone.negatives",
                f"{self.negatives} is below 0",
                "give 0 for the whole catalogue, or some such as 2048",
            )
        if self.negatives and self.bfloat16:
            raise InputError(
                "clone.bfloat16", "only products over the whole catalogue have it", "leave out bfloat16 or negatives"
            )


def clone(
    log: SessionLog,
    config: CloneConfig | None = None,
    seed: int = 0,
    *,
    on_metrics: OnMetrics | None = None,
    checkpoint: str | Path | None = None,
) -> SoftmaxPolicy:
    """A policy that recommends as the log's recommender did: argmax of Σ log π(slate | history) over the log.

    Slates are scored item after item, without replacement. Stops on the likelihood of held-out sessions and returns the
    best weights. With `checkpoint`, a run that was stopped goes on where it stood. InputError: a log that cannot be
    cloned. A log without any reward can.
    """
    config = config or CloneConfig()
    policy, objective, schedule = cloning(log, config, seed)
    with naming(checkpoint):
        fit(objective, schedule, Streams(seed).child("clone"), on_metrics, checkpoint)
    return policy


def cloning(log: SessionLog, config: CloneConfig, seed: int) -> tuple[SoftmaxPolicy, Objective, Schedule]:
    """The untrained policy, what it is to learn and how."""
    _check(log, config)
    training, held_out = held_out_sessions(log, config.held_out, config.cluster)
    policy = SoftmaxPolicy.for_log(
        log, EncoderConfig(config.encoder, config.width), config.item_features, seed, config.tied
    )
    counts = item_counts(log, training)
    _start_at_frequencies(policy, counts)
    streams = Streams(seed).child("clone")
    sampled = _sampled(policy, counts, config, streams)
    if sampled is not None:
        held_out = affordable(log, held_out, policy.catalogue)

    def loss(sessions: np.ndarray, step: int | None = None) -> tuple[Tensor, int]:
        """With dropout and negatives, except where no step is taken."""
        history = log.batch(sessions)
        mask = _scored(history, config.only_rewarded)
        drop = _dropout(config.dropout, streams, step) if config.dropout and step is not None else None
        if sampled is None:
            found = policy.weighted_log_prob(history, mask.float(), config.bfloat16, drop)
        elif step is None:
            found = (log_prob_of_sessions_by_items(policy, history) * mask).sum()
        else:
            found = sampled.log_prob(history, mask, step, drop)
        return -found, int(mask.sum())

    objective = Objective(
        name="clone",
        model=policy,
        loss=loss,
        held_out=lambda: _mean_over_sessions(loss, held_out, config.batch),
        sessions=training,
        names=log.session_ids,
        lengths=log.lengths[training],
        items=_items_per_session(log, training, config.only_rewarded),
        settings=_settings(log, config, seed),
        tables=None if sampled is None else sampled.tables,
    )
    return policy, objective, _schedule(config)


def _schedule(config: CloneConfig) -> Schedule:
    limits = config.epochs, config.batch, config.learning_rate, config.weight_decay, config.patience
    return Schedule(*limits, annealed=config.annealed)


def _sampled(
    policy: SoftmaxPolicy, counts: np.ndarray, config: CloneConfig, streams: Streams
) -> SampledLikelihood | None:
    if not config.negatives:
        return None
    tables = Tables(policy, config.learning_rate, config.weight_decay)
    return SampledLikelihood(policy, Proposal.of(counts, config.negatives), streams, tables)


def held_out_sessions(log: SessionLog, share: float, cluster: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the other and of the held-out sessions, by a hash of their units' names; a unit is on one side.

    A unit is a user, or a session where the log names no users, or what `cluster` says. Raises InputError where there
    are fewer than two.
    """
    units = clusters_of(log, cluster)
    if units.count < 2:
        remedy = "give at least 2: one decides when to stop" + ("" if units.of is None else ', or cluster="session"')
        raise InputError("held_out", f"the log has {units.count} {units.name}", remedy)
    names = log.session_ids if units.of is None else units.keys
    draw = stable_hashes(names.tolist(), "held out") / 2.0**63
    held_out = draw < share
    if not held_out.any():
        held_out = draw == draw.min()
    if held_out.all():
        held_out = draw < draw.max()
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def _dropout(share: float, streams: Streams, step: int) -> Drop:
    """Each entry is 0 with probability `share`, drawn by the number of the step: resumed runs drop the same."""
    generator = streams.generator("dropout", step)

    def drop(values: Tensor) -> Tensor:
        kept = torch.empty(values.shape).bernoulli_(1 - share, generator=generator)
        return values * kept.to(values) / (1 - share)

    return drop


def _items_per_session(log: SessionLog, sessions: np.ndarray, only_rewarded: bool) -> float:
    rows, inside = log.rows(sessions)
    rows = rows[inside]
    scored = (log.items[rows] >= 0) & (log.reward[rows] > 0) if only_rewarded else log.items[rows] >= 0
    return max(int(scored.sum()), 1) / len(sessions)


def _scored(history: History, only_rewarded: bool) -> Tensor:
    return history.shown & (history.reward > 0) if only_rewarded else history.shown


def item_counts(log: SessionLog, sessions: np.ndarray) -> np.ndarray:
    """How often these sessions show each item. [A]"""
    rows, inside = log.rows(sessions)
    items = log.items[rows[inside]]
    return np.bincount(items[items >= 0], minlength=log.catalogue)


@torch.no_grad()
def _start_at_frequencies(policy: SoftmaxPolicy, counts: np.ndarray) -> None:
    """Biases that make the untrained policy recommend by how often an item was shown: a start close to the goal."""
    count = counts.astype("float64")
    policy.bias.weight[:, 0] = torch.from_numpy(np.log((count + 0.5) / (count + 0.5).mean()))


def _mean_over_sessions(loss: Callable[[np.ndarray], tuple[Tensor, int]], sessions: np.ndarray, batch: int) -> float:
    """Mean per item of `loss` (sessions -> sum, number of items) over the sessions, in batches."""
    parts = [loss(sessions[start : start + batch]) for start in range(0, len(sessions), batch)]
    items = sum(count for _, count in parts)
    return sum(float(total) for total, _ in parts) / max(items, 1)


def _check(log: SessionLog, config: CloneConfig) -> None:
    if log.sessions < 2:
        raise InputError("clone", f"the log has {log.sessions} session", "give at least 2: one decides when to stop")
    in_order = np.sort(log.items, 1)
    repeated = int(((in_order[:, 1:] == in_order[:, :-1]) & (in_order[:, 1:] >= 0)).any(1).sum())
    if repeated:
        raise InputError("clone", f"{repeated} slates hold an item twice", "clone a log whose slates repeat no item")
    if config.only_rewarded and not (log.reward > 0).any():
        raise InputError("clone.only_rewarded", "the log has no reward above 0", "clone all shown items instead")


def _settings(log: SessionLog, config: CloneConfig, seed: int) -> str:
    """All that a run's bits depend on, the patience and, unless step sizes hang on it, the number of epochs apart."""
    epochs = config.epochs if config.annealed else 1
    return json.dumps([asdict(replace(config, epochs=epochs, patience=1)), seed, log.digest])
