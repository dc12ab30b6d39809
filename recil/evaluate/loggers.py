"""Sessions of several logging policies: their mixture is one policy, and its propensities give balanced weights.

Where session i was served by policy j with share α_j = n_j / n, whatever a session holds has the probability
Σ_j α_j β_j(τ). That is a policy whose choice depends on the session so far: it shows the next item with probability
Σ_j α_j β_j(up to and with the item) / Σ_j α_j β_j(before it), which is what the loggers say on average, each counted by
how probable it is that it serves this session. With these propensities every estimator weighs by π / Σ_j α_j β_j
(Agarwal, Basu, Schnabel & Joachims 2017), whose variance is never above that of π / β_j by more than a term of order
1/n, and often far below: what one logger hardly shows another may show often.

It supposes that the loggers met alike users, as where chance assigns sessions to them; `check_log` looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.evaluate.scoring import scores_of, session_batches, stretches
from recil.logs.history import History
from recil.logs.rows import OF_POLICY
from recil.logs.session_log import PAD, POLICY, SessionLog
from recil.policies.protocol import Policy, Slates, log_prob_of_sessions
from recil.random import Streams

_MOST_STEPS, _MOST_SESSIONS, _MOST_SCORES = 1 << 18, 16384, 1 << 25
# Sessions whose shares are taken together where those may change in time.
_PIECE, _MOST_PIECES = 50, 100


def balanced(log: SessionLog, loggers: Mapping[str, Policy] | None = None) -> SessionLog:
    """The log with the propensities of the mixture of its logging policies, by their shares of its sessions.

    log      its column `policy` says who served each session
    loggers  the policies by name, asked about every session; None: the log's columns `propensity_<name>`
    The log that comes back keeps the propensities under each logger, so that its parts can be balanced anew: a part has
    shares of its own; what one policy served has the propensities of that one. Raises InputError where the log does not
    say who served, where a logger's probabilities are missing, and where one rules out what it has shown.
    """
    counts = served(log)
    if len(counts) == 1 and log.propensity is not None and not counts.keys() & log.propensity_of.keys():
        return log
    if loggers is not None:
        log = _scored(log, {name: loggers[name] for name in counts if name in loggers})
    for name, sessions in counts.items():
        if name not in log.propensity_of:
            raise InputError(
                "balanced",
                f"no probabilities under policy {name!r}, which served {sessions:,} sessions",
                f"give a column {OF_POLICY}{name}, or the policy itself in loggers=",
            )
    propensity = np.ones(log.items.shape, dtype=np.float32)
    for part in logger_parts(log):
        chance = mixed(part.log_posterior[..., :-1], part.log_prob).exp().numpy().astype(np.float32)
        propensity[part.rows] = chance.reshape(*part.inside.shape, -1)[part.inside]
    return replace(log, propensity=propensity)


def balanced_where_known(log: SessionLog) -> SessionLog:
    """The balanced log where it says who served and holds the propensities under all who did; else as it is."""
    return balanced(log) if knows_its_loggers(log) else log


def knows_its_loggers(log: SessionLog) -> bool:
    """It says who served every session, and how probable its items were under each of those who served any."""
    column = log.context.get(POLICY)
    if column is None or column.categories is None or (column.values < 0).any():
        return False
    return not set(served(log)) - set(log.propensity_of)


def served(log: SessionLog) -> dict[str, int]:
    """How many sessions each logging policy served, of those that served any.

    Raises InputError where the log does not say so of every session.
    """
    column = log.context.get(POLICY)
    if column is None or column.categories is None:
        raise InputError(
            "log", f"it has no column {POLICY!r}, so nothing says who served which session", "add the column"
        )
    codes = column.values[log.offsets[:-1]]
    if (codes < 0).any():
        unknown = int((codes < 0).sum())
        raise InputError("log", f"{unknown:,} sessions name no policy", "leave them out, or name who served them")
    counts = np.bincount(codes, minlength=len(column.categories))
    return {name: int(count) for name, count in zip(column.categories, counts, strict=True) if count}


def propensity_in_its_time(log: SessionLog, order: np.ndarray) -> np.ndarray | None:
    """float32 [N, K], under the mixture of those who served at about the same time; else as the log has it, or None.

    order: int [S], the place of each session in time. By how much each policy serves may change, from one day to the
    next or all at once: no mixture of the whole log is right for a part of its time, and that is what checks look at.
    """
    if not knows_its_loggers(log):
        return log.propensity
    found = np.ones(log.items.shape, dtype=np.float32)
    for piece in np.array_split(np.argsort(order), min(max(log.sessions // _PIECE, 1), _MOST_PIECES)):
        rows, inside = log.rows(piece)
        part = balanced(log.select(piece)).propensity
        assert part is not None
        found[rows[inside]] = part
    return found


def scored_by(behaviour: Policy | None, log: SessionLog) -> SessionLog:
    """The log with what clones of its loggers say of its items, where `behaviour` is a mixture of such."""
    if not isinstance(behaviour, LoggerMixture) or log.propensity is not None or POLICY not in log.context:
        return log
    return _scored(log, {name: behaviour.loggers[name] for name in served(log) if name in behaviour.loggers})


def log_posterior(log_prior: Tensor, log_prob: Tensor) -> Tensor:
    """Log-probability that each logger serves the session, before each of M items and after the last.

    log_prior: [J, 1] or [J, B], before the first; log_prob: [J, B, M], of each item given those before it, 0 at pads.
    Returns [J, B, M + 1]; -inf for all loggers where all rule out what stands before.
    """
    so_far = log_prior[..., None] + torch.nn.functional.pad(log_prob.cumsum(-1), (1, 0))
    return torch.where(so_far.isneginf().all(0), -torch.inf, so_far - so_far.logsumexp(0))


def mixed(log_posterior: Tensor, log_prob: Tensor) -> Tensor:
    """Log-probability of each item by the mixture: [J, ...] of the loggers before it, [J, ...] of it by each."""
    return (log_posterior + log_prob).logsumexp(0)


@dataclass(frozen=True)
class LoggerPart:
    """Some sessions of a log and what its J loggers say of them; M places: steps times positions.

    sessions      int64 [B], their positions in the log
    rows, inside  int64 [n], their step rows in the log, and bool [B, T], where those stand in a padded block
    log_prob      float64 [J, B, M]
    log_posterior float64 [J, B, M + 1], as `log_posterior` has it
    """

    sessions: np.ndarray
    rows: np.ndarray
    inside: np.ndarray
    log_prob: Tensor
    log_posterior: Tensor


def logger_parts(log: SessionLog) -> Iterator[LoggerPart]:
    """Batch by batch. Raises InputError where a logger rules out what it has shown."""
    counts = served(log)
    share = torch.tensor([*counts.values()], dtype=torch.float64) / log.sessions
    names, categories = list(counts), log.context[POLICY].categories or ()
    own = np.array([names.index(name) if name in counts else PAD for name in categories])
    for start, run in stretches(log, _MOST_STEPS):
        who = own[run.context[POLICY].values[run.offsets[:-1]]]
        for chosen in session_batches(run, _MOST_SESSIONS, _MOST_SCORES):
            rows, inside = run.rows(chosen)
            shown = inside[:, :, None] & (run.items[rows] != PAD)
            chance = np.stack([np.where(shown, run.propensity_of[name][rows], 1.0) for name in names])
            log_prob = torch.from_numpy(chance).double().flatten(2).log()
            posterior = log_posterior(share.log()[:, None], log_prob)
            _check_own(run, chosen, names, who[chosen], posterior)
            yield LoggerPart(start + chosen, int(log.offsets[start]) + rows[inside], inside, log_prob, posterior)


def _check_own(run: SessionLog, chosen: np.ndarray, names: list[str], who: np.ndarray, posterior: Tensor) -> None:
    """What a logger showed it can have shown; and by chance no logger is so improbable where it served."""
    lost = posterior[torch.from_numpy(who), torch.arange(len(who)), -1].numpy() < np.log(np.finfo(np.float32).tiny)
    if lost.any():
        first = int(np.argmax(lost))
        raise InputError(
            f"log, session {run.session_ids[chosen[first]]}",
            f"policy {names[who[first]]!r} as good as rules out what it showed; {int(lost.sum()):,} such sessions",
            f"give in {OF_POLICY}{names[who[first]]} what the policy itself gave each item that was shown",
        )


def _scored(log: SessionLog, loggers: Mapping[str, Policy]) -> SessionLog:
    """The log with the propensities of its items under these policies."""
    found = {name: np.ones(log.items.shape, dtype=np.float32) for name in loggers}
    for name, policy in loggers.items():
        if policy.catalogue != log.catalogue:
            problem = f"it knows {policy.catalogue} items, the log has {log.catalogue}"
            raise InputError(f"loggers: {name}", problem, "build the policy and the log over one catalogue")
    for start, run in stretches(log, _MOST_STEPS):
        for chosen in session_batches(run, _MOST_SESSIONS, _MOST_SCORES):
            rows, inside = run.rows(chosen)
            batch = run.batch(chosen)
            for name, policy in loggers.items():
                chance = torch.where(batch.shown, scores_of(policy, batch, name), 0.0).exp().clamp(max=1.0)
                found[name][int(log.offsets[start]) + rows[inside]] = chance.numpy()[inside]
    return replace(log, propensity_of={**log.propensity_of, **found})


@dataclass(frozen=True, eq=False)
class LoggerMixture:
    """The policy that serves a whole session by one of several, drawn by their shares: what wrote a log of them all.

    For logs without propensities: clones of the loggers, as `behaviour=LoggerMixture.of(log, clones)`, are weighed like
    the loggers, and the verdict knows that they are fitted.
    """

    loggers: Mapping[str, Policy]
    share: Mapping[str, float]

    def __post_init__(self) -> None:
        if missing := [name for name in self.share if name not in self.loggers]:
            raise InputError("loggers", f"no policy {missing[0]!r}", "give every policy that served sessions")
        if len({policy.catalogue for policy in self.loggers.values()}) > 1:
            raise InputError("loggers", "they know different numbers of items", "give policies over one catalogue")

    @staticmethod
    def of(log: SessionLog, loggers: Mapping[str, Policy]) -> LoggerMixture:
        """With the shares that the loggers have of this log's sessions."""
        return LoggerMixture(loggers, {name: count / log.sessions for name, count in served(log).items()})

    @property
    def catalogue(self) -> int:
        return next(iter(self.loggers.values())).catalogue

    @property
    def _serving(self) -> list[Policy]:
        return [self.loggers[name] for name in self.share]

    def _seen(self, sessions: History) -> tuple[Tensor, Tensor]:
        """What each logger says of the sessions' items [J, B, T * K], and the posterior that goes with it."""
        shown = (sessions.shown & sessions.happened[..., None]).flatten(1)
        scores = torch.stack([log_prob_of_sessions(one, sessions).double().flatten(1) for one in self._serving])
        scores = torch.where(shown, scores, 0.0)
        share = torch.tensor([*self.share.values()], dtype=torch.float64)
        return scores, log_posterior(share.log()[:, None], scores)

    def sample(self, history: History, k: int, streams: Streams) -> Slates:
        """The next slate, by a logger drawn by how probable each is to have served the session so far."""
        posterior = self._seen(history)[1][..., -1].exp()
        draw = streams.uniform("logger", history.session, history.length, dtype=torch.float64)[:, 0]
        who = (posterior.cumsum(0) <= draw).sum(0).clamp(max=len(posterior) - 1)
        own = [one.sample(history, k, streams.child("logger", at)).items for at, one in enumerate(self._serving)]
        items = torch.stack(own)[who, torch.arange(history.batch)]
        return Slates(items, self.log_prob(history, items))

    def log_prob(self, history: History, slate: Tensor) -> Tensor:
        """Log-probability of each item of `slate` (int64 [B, K], -1 pad) given those before it. [B, K], 0 at pads."""
        own = torch.stack([one.log_prob(history, slate).double() for one in self._serving])
        posterior = log_posterior(self._seen(history)[1][..., -1], own)
        return torch.where(slate >= 0, mixed(posterior[..., :-1], own), 0.0)

    def log_prob_of_sessions(self, sessions: History) -> Tensor:
        """[B, T, K]: of every logged slate given the steps before it, 0 at pads."""
        scores, posterior = self._seen(sessions)
        found = mixed(posterior[..., :-1], scores).reshape(sessions.items.shape)
        return torch.where(sessions.shown & sessions.happened[..., None], found, 0.0)
