"""How well a policy guesses what was shown next: a measure of cloning only, never of what a policy is worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from recil.errors import InputError
from recil.evaluate.pass_over import session_batches
from recil.logs.history import History
from recil.logs.session_log import SessionLog
from recil.ops.ranking import hit_rate, ndcg, rank_of
from recil.ops.slates import greedy_slates
from recil.policies.protocol import Policy


@runtime_checkable
class ScoresCatalogue(Protocol):
    """A policy that orders the whole catalogue at once, by the probability of standing first in the coming slate."""

    def next_logits(self, history: History) -> Tensor:
        """[B, A], larger where the item is more probable."""
        ...


@dataclass(frozen=True)
class CloningMetrics:
    """How a clone guesses logged items. Shares from 0 to 1.

    hit_rate   k -> share of shown items among the policy's k most probable, given the items before them in their slate
    ndcg       k -> the same with 1 / log2(rank + 2) for a hit
    coverage   k -> share of the catalogue that stands among the k most probable anywhere
    items      shown items guessed at
    """

    hit_rate: dict[int, float]
    ndcg: dict[int, float]
    coverage: dict[int, float]
    items: int

    def __str__(self) -> str:
        lines = [f"{'k':>5}{'hit rate':>12}{'NDCG':>12}{'coverage':>12}"]
        lines += [
            f"{k:>5}{self.hit_rate[k]:>12.4f}{self.ndcg[k]:>12.4f}{self.coverage[k]:>12.4f}" for k in self.hit_rate
        ]
        return "\n".join([*lines, f"{self.items:,} items guessed; a measure of cloning, not of value"])


def cloning_metrics(policy: Policy, log: SessionLog, ks: Sequence[int] = (1, 10)) -> CloningMetrics:
    """Hit rate, NDCG and coverage of `policy` as a guess of the slates of held-out sessions."""
    if not ks or min(ks) < 1:
        raise InputError("ks", f"{tuple(ks)}", "give list lengths of 1 or more")
    if policy.catalogue != log.catalogue:
        raise InputError(
            "policy", f"it knows {policy.catalogue} items, the log has {log.catalogue}", "use one catalogue"
        )
    if not log.impressions:
        raise InputError("log", "it shows no item", "give sessions to guess")
    hits, gains = dict.fromkeys(ks, 0.0), dict.fromkeys(ks, 0.0)
    listed = {k: torch.zeros(log.catalogue, dtype=torch.bool) for k in ks}
    for chosen in session_batches(log):
        for logits, slate in _steps(policy, log.batch(chosen)):
            ranks = _ranks(logits, slate)
            order = greedy_slates(logits, min(max(ks), log.catalogue))
            for k in ks:
                hits[k] += float(hit_rate(ranks, k)) * len(ranks)
                gains[k] += float(ndcg(ranks, k)) * len(ranks)
                listed[k][order[:, :k].reshape(-1)] = True
    items = log.impressions
    return CloningMetrics(
        hit_rate={k: hits[k] / items for k in ks},
        ndcg={k: gains[k] / items for k in ks},
        coverage={k: float(listed[k].double().mean()) for k in ks},
        items=items,
    )


def _steps(policy: Policy, batch: History) -> Iterator[tuple[Tensor, Tensor]]:
    """For each step the logits [b, A] and slates [b, K] of the sessions that show something there."""
    history = History.start(batch.session, batch.slate_size, batch.user, batch.context)
    for step in range(batch.steps):
        shows = batch.shown[:, step].any(-1)
        with torch.no_grad():
            logits = _next_logits(policy, history)
        yield logits[shows], batch.items[shows, step]
        feedback = {name: values[:, step] for name, values in batch.feedback.items()}
        history = history.append(batch.items[:, step], batch.reward[:, step], feedback=feedback)


def _next_logits(policy: Policy, history: History) -> Tensor:
    if isinstance(policy, ScoresCatalogue):
        return policy.next_logits(history)
    single = [policy.log_prob(history, torch.full((history.batch, 1), item))[:, 0] for item in range(policy.catalogue)]
    return torch.stack(single, -1)


def _ranks(logits: Tensor, slate: Tensor) -> Tensor:
    """Rank of every shown item among those not yet in its slate, [n]."""
    left, ranks = logits.clone(), []
    for position in range(slate.shape[1]):
        shown = slate[:, position] >= 0
        item = slate[shown, position]
        ranks.append(rank_of(left[shown], item))
        left[shown.nonzero()[:, 0], item] = -torch.inf
    return torch.cat(ranks)
