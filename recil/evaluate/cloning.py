"""How well a policy stands in for the recommender of a log: next-item measures on sessions it did not learn from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.logs.history import History
from recil.logs.session_log import SessionLog
from recil.ops.ranking import coverage, hit_rate, ndcg, rank_of
from recil.policies.protocol import Policy, log_prob_of_sessions
from recil.policies.softmax import SoftmaxPolicy

_LOGITS_AT_ONCE = 1 << 23
_SESSIONS_AT_ONCE = 512


@dataclass(frozen=True)
class CloneReport:
    """Measures of cloning on a log: never of what a policy is worth.

    nll                 mean negative log-likelihood of the items shown, in nats per item
    hit_rate_at_10      share of the items shown that are among the policy's ten most probable
    ndcg_at_10          the same, discounted by rank
    coverage_at_10      share of the catalogue that is among the ten most probable anywhere
    log_coverage        share of the catalogue that the log shows
    items               items shown that were scored
    """

    nll: float
    hit_rate_at_10: float
    ndcg_at_10: float
    coverage_at_10: float
    log_coverage: float
    items: int

    def __str__(self) -> str:
        return "\n".join(f"{name:<16}{value:>12.4g}" for name, value in asdict(self).items())


class Ranker(Policy, Protocol):
    """A policy that can say how it ranks the whole catalogue."""

    def next_logits(self, history: History) -> Tensor: ...


@torch.no_grad()
def clone_report(policy: Ranker, log: SessionLog, from_step: int = 0) -> CloneReport:
    """Score every slate of the log given the steps before it, from step `from_step` of each session on.

    Each item of a slate is ranked among all items of the catalogue, as if the slate began with it.
    """
    if policy.catalogue != log.catalogue:
        raise InputError(
            "clone_report",
            f"the policy has {policy.catalogue} items and the log {log.catalogue}",
            "use the catalogue the policy was trained on",
        )
    total, ranks, best = 0.0, [], []
    for start in range(0, log.sessions, _SESSIONS_AT_ONCE):
        history = log.batch(np.arange(start, min(start + _SESSIONS_AT_ONCE, log.sessions)))
        total -= float(log_prob_of_sessions(policy, history)[:, from_step:].double().sum())
        for logits, items in _steps(policy, history, from_step):
            shown = items >= 0
            row = torch.nonzero(shown)[:, 0]
            ranks.append(rank_of(logits[row], items[shown]))
            best.append(logits.topk(min(10, log.catalogue)).indices.unique())
    rank = torch.cat(ranks) if ranks else torch.empty(0)
    if not len(rank):
        raise InputError("clone_report", f"no session has a step {from_step}", "give a log with longer sessions")
    return CloneReport(
        nll=total / len(rank),
        hit_rate_at_10=float(hit_rate(rank, 10)),
        ndcg_at_10=float(ndcg(rank, 10)),
        coverage_at_10=coverage(torch.cat(best), log.catalogue),
        log_coverage=coverage(torch.from_numpy(log.items), log.catalogue),
        items=len(rank),
    )


def _steps(policy: Ranker, history: History, from_step: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits [n, A] before, and items [n, K] of, every step that took place, in blocks of bounded size."""
    rows = max(1, _LOGITS_AT_ONCE // policy.catalogue)
    if isinstance(policy, SoftmaxPolicy):
        happened = history.happened.clone()
        happened[:, :from_step] = False
        states, items = policy.before_steps(history)[happened], history.items[happened]
        for block, shown in zip(states.split(rows), items.split(rows), strict=True):
            if len(block):
                yield policy.logits(block), shown
        return
    for step in range(from_step, history.steps):
        going_on = torch.nonzero(history.length > step)[:, 0]
        for some in going_on.split(rows):
            yield policy.next_logits(history.prefix(step).take(some)), history.items[some, step]
