"""One pass over a log: every session under every policy, turned into sums."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.evaluate.bootstrap import poisson_counts, session_keys
from recil.evaluate.reward_model import RewardModel, fit_out_of_fold
from recil.evaluate.sums import SessionArrays, SessionSums
from recil.logs.history import History
from recil.logs.session_log import PAD, SessionLog
from recil.ops.importance import capped, cumulative_log_weight, step_log_ratio
from recil.ops.returns import discounts
from recil.policies.protocol import Policy, log_prob_of_sessions
from recil.random import Streams

_FOLDS = 5
_MOST_SESSIONS = 2048
# A policy that scores the whole catalogue at once holds sessions * steps * items numbers.
_MOST_SCORES = 1 << 25


@dataclass(frozen=True)
class PassConfig:
    """How a log is gone through; gamma, cap, replicates and seed as in `evaluate`.

    model  fit a reward model and value the target's own slates with it
    draws  target slates drawn at each step for that, and to see how much of the target the log never showed
    """

    gamma: float = 1.0
    cap: float | None = None
    replicates: int = 1000
    seed: int = 0
    model: bool = True
    draws: int = 1

    def __post_init__(self) -> None:
        if not 0.0 <= self.gamma <= 1.0:
            raise InputError("gamma", f"{self.gamma} is not a discount", "give a number from 0 to 1")
        if self.cap is not None and not self.cap > 0:
            raise InputError("cap", f"{self.cap} caps every weight away", "give a positive number, or None for no cap")
        if self.replicates < 2:
            raise InputError("replicates", f"{self.replicates} give no interval", "give 2 or more; 1,000 is usual")
        if self.draws < 1:
            raise InputError("draws", f"{self.draws} slates say nothing", "give 1 or more")


@dataclass(frozen=True)
class Unseen:
    """Of `drawn` items that the target chose at logged histories, `unseen` stand nowhere in the log."""

    drawn: int = 0
    unseen: int = 0

    def merge(self, other: Unseen) -> Unseen:
        return Unseen(self.drawn + other.drawn, self.unseen + other.unseen)

    @property
    def share(self) -> float:
        return self.unseen / self.drawn if self.drawn else math.nan


def pass_over(
    policies: Mapping[str, Policy], log: SessionLog, behaviour: Policy | None, config: PassConfig
) -> dict[str, tuple[SessionSums, Unseen]]:
    """Each policy's sums over the log's sessions. Propensities are the log's or, when it has none, `behaviour`'s."""
    _check(policies, log, behaviour)
    streams = Streams(config.seed).child("evaluate")
    keys = session_keys(log.session_ids)
    fold = (streams.uniform("fold", keys)[:, 0] * _FOLDS).long()
    model = fit_out_of_fold(log, fold.numpy(), _FOLDS, config.gamma) if config.model else None
    seen = torch.zeros(log.catalogue, dtype=torch.bool)
    seen[torch.from_numpy(log.items[log.items != PAD]).long()] = True
    found: dict[str, tuple[SessionSums, Unseen]] = {}
    for chosen in session_batches(log):
        batch = replace(log.batch(chosen), session=keys[chosen])
        counts = poisson_counts(streams, batch.session, config.replicates)
        log_propensity = _log_propensity(batch, behaviour)
        for name, policy in policies.items():
            arrays, unseen = _arrays(policy, batch, log_propensity, model, fold[chosen], seen, config, streams)
            sums = SessionSums.of(arrays, counts)
            before = found.get(name)
            found[name] = (sums, unseen) if before is None else (before[0].merge(sums), before[1].merge(unseen))
    return found


def session_batches(log: SessionLog) -> Iterator[np.ndarray]:
    """Positions of sessions of like length, so that little is padding; every result is the same in any other order."""
    order = np.argsort(log.lengths, kind="stable")
    lengths = log.lengths[order]
    start = 0
    while start < len(order):
        # The next batch is as wide as its last session is long.
        cost = lengths[start : start + _MOST_SESSIONS] * np.arange(1, 1 + len(order[start : start + _MOST_SESSIONS]))
        size = max(1, int(np.searchsorted(cost, _MOST_SCORES // log.catalogue, side="right")))
        yield order[start : start + size]
        start += size


def _check(policies: Mapping[str, Policy], log: SessionLog, behaviour: Policy | None) -> None:
    if not log.sessions:
        raise InputError("log", "it holds no session", "give the sessions to evaluate on")
    if log.propensity is None and behaviour is None:
        raise InputError(
            "log",
            "it has no propensities, so nothing says how likely each logged slate was",
            "give behaviour=, a policy cloned from other sessions of the same log",
        )
    if log.propensity is not None:
        bad = (log.items != PAD) & ~((log.propensity > 0) & (log.propensity <= 1))
        if bad.any():
            row, position = (int(place[0]) for place in np.nonzero(bad))
            raise InputError(
                f"log, step row {row}, position {position}",
                f"propensity {log.propensity[row, position]} ({int(bad.sum())} such) is not in (0, 1]",
                "give the probability with which the logged item was shown",
            )
    for name, policy in {**policies, **({} if behaviour is None else {"behaviour": behaviour})}.items():
        if policy.catalogue != log.catalogue:
            raise InputError(
                name or "policy",
                f"it knows {policy.catalogue} items, the log has {log.catalogue}",
                "build the policy and the log over one catalogue",
            )


def _log_propensity(batch: History, behaviour: Policy | None) -> Tensor:
    """float64 [B, T, K]."""
    if batch.propensity is not None:
        return batch.propensity.double().log()
    assert behaviour is not None
    scores = _scores(behaviour, batch, "behaviour")
    impossible = int((scores.isneginf() & batch.shown).sum())
    if impossible:
        raise InputError(
            "behaviour",
            f"it gives probability 0 to {impossible} items that were shown",
            "estimate the logging policy with a model that gives every item some probability",
        )
    return scores


def _scores(policy: Policy, batch: History, name: str) -> Tensor:
    """The policy's log-probabilities of the logged slates, float64 [B, T, K], checked."""
    with torch.no_grad():
        scores = log_prob_of_sessions(policy, batch).double()
    wrong = batch.shown & (scores.isnan() | (scores > 1e-3))
    if wrong.any():
        raise InputError(
            name or "policy",
            f"log_prob gives {float(scores[wrong][0])} for {int(wrong.sum())} logged items, no log-probability",
            "check the policy's log_prob, and its weights for nan",
        )
    return scores


def _arrays(
    policy: Policy,
    batch: History,
    log_propensity: Tensor,
    model: RewardModel | None,
    fold: Tensor,
    seen: Tensor,
    config: PassConfig,
    streams: Streams,
) -> tuple[SessionArrays, Unseen]:
    """What the estimators need to know of these sessions under this policy."""
    happened, shown = batch.happened, batch.shown
    ratio = step_log_ratio(_scores(policy, batch, "policy"), log_propensity, shown)
    free = cumulative_log_weight(ratio, happened)
    discount = discounts(batch.steps, config.gamma, free)
    reward = torch.where(shown, batch.reward, 0.0).sum(-1, dtype=torch.float64)
    own = target_slates(policy, batch, config.draws, streams)
    drawn = own[own >= 0]
    arrays = SessionArrays(
        log_weight=capped(free, config.cap),
        reward=reward * discount,
        happened=happened,
        capped=free > (math.inf if config.cap is None else math.log(config.cap)),
        predicted=None if model is None else model.value(batch.items, happened, fold) * discount,
        expected=None
        if model is None
        else torch.stack([model.value(slates, happened, fold) for slates in own]).mean(0) * discount,
    )
    return arrays, Unseen(len(drawn), int((~seen[drawn]).sum()))


def target_slates(policy: Policy, batch: History, draws: int, streams: Streams) -> Tensor:
    """Slates the policy would have shown at each logged history, int64 [draws, B, T, K], -1 where nothing was shown.

    They share no draw with the log, which the doubly robust estimator needs. A slate is as full as the logged one.
    """
    own = torch.full((draws, *batch.items.shape), PAD)
    sources = [streams.child("target", draw) for draw in range(draws)]
    history = History.start(batch.session, batch.slate_size, batch.user, batch.context)
    # In a slate that is not full, the first items drawn go to the places that were filled.
    k = min(batch.slate_size, policy.catalogue)
    rank = (batch.shown.cumsum(-1) - 1).clamp(0, k - 1)
    with torch.no_grad():
        for step in range(batch.steps):
            for draw, source in enumerate(sources):
                items = policy.sample(history, k, source).items
                own[draw, :, step] = torch.where(batch.shown[:, step], items.gather(1, rank[:, step]), PAD)
            feedback = {name: values[:, step] for name, values in batch.feedback.items()}
            history = history.append(batch.items[:, step], batch.reward[:, step], feedback=feedback)
    return own
