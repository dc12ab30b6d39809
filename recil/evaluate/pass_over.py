"""One pass over a log: every session under every policy, turned into sums."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.evaluate.arrays import Extra, SessionArrays
from recil.evaluate.bootstrap import poisson_counts, session_keys
from recil.evaluate.estimators import Estimator
from recil.evaluate.extras import Look, Models, category_codes, extras_of, state_column
from recil.evaluate.facts import LogFacts, facts_without_checks
from recil.evaluate.influence import UnitSums
from recil.evaluate.reward_model import fit_out_of_fold
from recil.evaluate.scoring import log_propensity_of, scores_of, stretches, target_slates
from recil.evaluate.scoring import session_batches as sessions_at_once
from recil.evaluate.sums import SessionSums
from recil.evaluate.support import Showings, Support
from recil.evaluate.target_models import TargetRows, fit_least_variance, fit_q_evaluation
from recil.evaluate.terms import StepTerm, Term, Weighting
from recil.logs.clusters import clusters_of
from recil.logs.history import History
from recil.logs.session_log import PAD, Column, SessionLog
from recil.ops.importance import capped, cumulative_log_weight, step_log_ratio
from recil.ops.returns import discounts
from recil.policies.protocol import Policy
from recil.random import Streams

_FOLDS = 5
_MOST_SESSIONS = 16384
# A log is gone through in runs of this many steps, whatever its length.
_MOST_STEPS = 1 << 18
# So many of the target's own slates are looked at for items that the log cannot show.
_MOST_OWN = 1 << 17
# A policy that scores the whole catalogue at once holds sessions * steps * items numbers.
_MOST_SCORES = 1 << 25


@dataclass(frozen=True)
class PassConfig:
    """How a log is gone through; gamma, cap, replicates and seed as in `evaluate`.

    model  fit a reward model and value the target's own slates with it
    draws  target slates drawn at each step for that, and to see how much of the target the log never showed
    estimators  whose needs are met beside those of every pass
    state, category  names of the context column and of the items' column that some of them need
    """

    gamma: float = 1.0
    cap: float | None = None
    replicates: int = 1000
    seed: int = 0
    model: bool = True
    draws: int = 1
    estimators: tuple[Estimator, ...] = ()
    state: str | None = None
    category: str | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.gamma <= 1.0:
            raise InputError("gamma", f"{self.gamma} is not a discount", "give a number from 0 to 1")
        if self.cap is not None and not self.cap > 0:
            raise InputError("cap", f"{self.cap} caps every weight away", "give a positive number, or None for no cap")
        if self.replicates < 2:
            raise InputError("replicates", f"{self.replicates} give no interval", "give 2 or more; 1,000 is usual")
        if self.draws < 1:
            raise InputError("draws", f"{self.draws} slates say nothing", "give 1 or more")

    @property
    def needs(self) -> frozenset[Extra]:
        return frozenset().union(*(estimator.needs for estimator in self.estimators))

    @property
    def terms(self) -> tuple[Term | StepTerm, ...]:
        """Each once, though several estimators ask for it."""
        return tuple({term.name: term for estimator in self.estimators for term in estimator.terms}.values())

    @property
    def weightings(self) -> tuple[Weighting, ...]:
        found = [estimator.weighting for estimator in self.estimators if estimator.weighting is not None]
        return tuple({weighting.name: weighting for weighting in found}.values())


class Passed(NamedTuple):
    """What a pass leaves of one policy. units: sums by unit, where a unit has several sessions."""

    sums: SessionSums
    support: Support
    units: UnitSums | None = None


class Part(NamedTuple):
    """Some sessions of a log under one policy: their positions in it int [B], and how often each replicate takes each,
    float64 [R+1, B]; own int [D, K], slates that the target drew in some of them."""

    policy: str
    sessions: np.ndarray
    arrays: SessionArrays
    own: np.ndarray
    counts: Tensor


def pass_over(
    policies: Mapping[str, Policy],
    log: SessionLog,
    behaviour: Policy | None,
    config: PassConfig,
    facts: LogFacts | None = None,
) -> dict[str, Passed]:
    """Each policy's sums over the log's sessions. Propensities are the log's or, when it has none, `behaviour`'s."""
    check(policies, log, behaviour)
    facts = facts or facts_without_checks(log, config.gamma)
    terms, weightings, mean = config.terms, config.weightings, facts.rewards.mean
    of = None if facts.units is None or facts.units.of is None else torch.from_numpy(facts.units.of)
    sums: dict[str, SessionSums] = {}
    units = {} if of is None else {name: UnitSums(facts.unit_count) for name in policies}
    own: dict[str, list[np.ndarray]] = {name: [] for name in policies}
    for part in arrays_over(policies, log, behaviour, config, facts):
        some = SessionSums.of(part.arrays, part.counts, terms, weightings, mean)
        sums[part.policy] = sums[part.policy].merge(some) if part.policy in sums else some
        own[part.policy].append(part.own)
        if of is not None:
            units[part.policy].add(of[torch.from_numpy(part.sessions)], part.arrays, mean)
    showings = Showings.of(log)
    return {
        name: Passed(sums[name], Support.of(np.concatenate(own[name]), showings), units.get(name)) for name in policies
    }


def arrays_over(
    policies: Mapping[str, Policy],
    log: SessionLog,
    behaviour: Policy | None,
    config: PassConfig,
    facts: LogFacts | None = None,
) -> Iterator[Part]:
    """Batch by batch and policy by policy."""
    check(policies, log, behaviour)
    units = clusters_of(log) if facts is None or facts.units is None else facts.units
    streams = Streams(config.seed).child("evaluate")
    fold = np.empty(log.sessions, dtype=np.int8)
    for start in range(0, log.sessions, _MOST_STEPS):
        keys = torch.from_numpy(units.keys[start : start + _MOST_STEPS])
        fold[start : start + len(keys)] = (streams.uniform("fold", keys)[:, 0] * _FOLDS).numpy()
    targets = {name: _target(policy, log, behaviour, config, fold) for name, policy in policies.items()}
    looked_at = _MOST_OWN / log.steps
    for start, run in stretches(log, _MOST_STEPS):
        of_run = slice(start, start + run.sessions)
        keys, folds = session_keys(run.session_ids), torch.from_numpy(fold[of_run]).long()
        unit_keys = torch.from_numpy(units.keys[of_run])
        for chosen in session_batches(run):
            batch = replace(run.batch(chosen), session=keys[chosen])
            counts = poisson_counts(streams, unit_keys[chosen], config.replicates)
            log_propensity = log_propensity_of(batch, behaviour)
            some = None if looked_at >= 1 else streams.uniform("support", batch.session)[:, 0] < looked_at
            for name, target in targets.items():
                look = target.look(batch, log_propensity, folds[chosen], config, streams)
                own = look.own if some is None else look.own[:, some]
                slates = own.flatten(0, 2)[(own >= 0).any(-1).flatten()].numpy()
                yield Part(name, start + chosen, _arrays(look, config), slates, counts)


def session_batches(log: SessionLog) -> Iterator[np.ndarray]:
    """Positions of sessions of like length, in batches small enough to be scored at once."""
    return sessions_at_once(log, _MOST_SESSIONS, _MOST_SCORES)


def check(policies: Mapping[str, Policy], log: SessionLog, behaviour: Policy | None) -> None:
    if not log.sessions:
        raise InputError("log", "it holds no session", "give the sessions to evaluate on")
    if log.propensity is None and behaviour is None:
        raise InputError(
            "log",
            "it has no propensities, so nothing says how likely each logged slate was",
            "give behaviour=, a policy cloned from other sessions of the same log",
        )
    if log.propensity is not None:
        _check_propensities(log)
    for name, policy in {**policies, **({} if behaviour is None else {"behaviour": behaviour})}.items():
        if policy.catalogue != log.catalogue:
            raise InputError(
                name or "policy",
                f"it knows {policy.catalogue} items, the log has {log.catalogue}",
                "build the policy and the log over one catalogue",
            )


def _check_propensities(log: SessionLog) -> None:
    number, place, found = 0, (0, 0), 0.0
    for first, run in stretches(log, _MOST_STEPS):
        assert run.propensity is not None
        bad = (run.items != PAD) & ~((run.propensity > 0) & (run.propensity <= 1))
        if bad.any() and not number:
            row, position = (int(where[0]) for where in np.nonzero(bad))
            place, found = (int(log.offsets[first]) + row, position), float(run.propensity[row, position])
        number += int(bad.sum())
    if number:
        raise InputError(
            f"log, step row {place[0]}, position {place[1]}",
            f"propensity {found} ({number} such) is not in (0, 1]",
            "give the probability with which the logged item was shown",
        )


@dataclass(frozen=True)
class _Target:
    """A policy with all that is fitted or looked up for it beforehand."""

    policy: Policy
    behaviour: Policy | None
    models: Models
    state: Column | None
    category: Tensor | None

    def look(self, batch: History, log_propensity: Tensor, fold: Tensor, config: PassConfig, streams: Streams) -> Look:
        scores = scores_of(self.policy, batch, "policy")
        ratio = step_log_ratio(scores, log_propensity, batch.shown)
        return Look(
            policy=self.policy,
            behaviour=self.behaviour,
            history=batch,
            scores=scores,
            log_propensity=log_propensity,
            log_ratio=ratio,
            own=target_slates(self.policy, batch, config.draws, streams),
            discount=discounts(batch.steps, config.gamma, ratio),
            models=self.models,
            fold=fold,
            state=self.state,
            state_name=config.state,
            category=self.category,
        )


def _target(
    policy: Policy, log: SessionLog, behaviour: Policy | None, config: PassConfig, folds: np.ndarray
) -> _Target:
    needs = config.needs
    wants_fqe = bool(needs & {Extra.FQE_PREDICTED, Extra.FQE_EXPECTED, Extra.FQE_STARTS})
    wants_mrdr = bool(needs & {Extra.MRDR_PREDICTED, Extra.MRDR_EXPECTED})
    reward = fit_out_of_fold(log, folds, _FOLDS, config.gamma) if config.model or wants_fqe else None
    fqe = mrdr = None
    if wants_fqe or wants_mrdr:
        rows = _rows(policy, log, behaviour, config)
        if wants_mrdr:
            mrdr = fit_least_variance(log, folds, _FOLDS, config.gamma, rows)
        if wants_fqe:
            assert reward is not None
            fqe = fit_q_evaluation(log, folds, _FOLDS, config.gamma, rows, reward)
    return _Target(
        policy,
        behaviour,
        Models(reward if config.model else None, fqe, mrdr),
        state_column(log, config.state) if Extra.STATE in needs else None,
        category_codes(log, config.category, policy, behaviour) if Extra.CATEGORY_LOG_RATIO in needs else None,
    )


def _rows(policy: Policy, log: SessionLog, behaviour: Policy | None, config: PassConfig) -> TargetRows:
    """What models fitted for the target look at, of every step of the log."""
    streams = Streams(config.seed).child("evaluate")
    rows = TargetRows(np.zeros(log.steps), np.zeros(log.steps), np.full(log.items.shape, PAD, dtype=np.int32))
    for start, run in stretches(log, _MOST_STEPS):
        keys, first = session_keys(run.session_ids), int(log.offsets[start])
        for chosen in session_batches(run):
            batch = replace(run.batch(chosen), session=keys[chosen])
            log_propensity = log_propensity_of(batch, behaviour)
            place, inside = run.rows(chosen)
            place = first + place[inside]
            ratio = step_log_ratio(scores_of(policy, batch, "policy"), log_propensity, batch.shown)
            rows.log_ratio[place] = ratio.numpy()[inside]
            rows.log_propensity[place] = torch.where(batch.shown, log_propensity, 0.0).sum(-1).numpy()[inside]
            rows.own[place] = target_slates(policy, batch, 1, streams)[0].numpy()[inside]
    return rows


def _arrays(look: Look, config: PassConfig) -> SessionArrays:
    """What the estimators need to know of these sessions under this policy."""
    history, model = look.history, look.models.reward
    free = cumulative_log_weight(look.log_ratio, history.happened)
    reward = torch.where(history.shown, history.reward, 0.0).sum(-1, dtype=torch.float64)
    return SessionArrays(
        log_weight=capped(free, config.cap),
        reward=reward * look.discount,
        happened=history.happened,
        capped=free > (math.inf if config.cap is None else math.log(config.cap)),
        predicted=None if model is None else look.predicted(model),
        expected=None if model is None else look.expected(model),
        extra=extras_of(look, config.needs),
    )
