"""Sums over sessions made directly from arrays, for tests that go round a log."""

from __future__ import annotations

import torch
from torch import Tensor

from recil.evaluate.arrays import Extra, SessionArrays
from recil.evaluate.estimators import Estimator
from recil.evaluate.extras import Look, Models, extras_of
from recil.evaluate.sums import SessionSums
from recil.exact.enumerate import Enumeration
from recil.ops.importance import cumulative_log_weight, step_log_ratio
from recil.ops.returns import discounts
from recil.policies.protocol import Policy, log_prob_of_sessions


def arrays_from(
    ratio: Tensor, reward: Tensor, happened: Tensor | None = None, predicted=None, expected=None, gamma: float = 1.0
) -> SessionArrays:
    """Per-step ratios and rewards [B, T] of sessions; predictions of a reward model [B, T]."""
    happened = torch.ones_like(ratio, dtype=torch.bool) if happened is None else happened
    discount = discounts(ratio.shape[1], gamma, ratio)
    log_weight = cumulative_log_weight(ratio.log(), happened)
    return SessionArrays(
        log_weight=log_weight,
        reward=torch.where(happened, reward, 0.0) * discount,
        happened=happened,
        capped=torch.zeros_like(happened),
        predicted=None if predicted is None else predicted * discount,
        expected=None if expected is None else expected * discount,
    )


def once(arrays: SessionArrays) -> SessionSums:
    """Every session counts once; no replicates."""
    return SessionSums.of(arrays, torch.ones(1, len(arrays.reward), dtype=torch.float64))


def look_at(listed: Enumeration, target: Policy, gamma: float = 1.0, **given) -> Look:
    """The listed sessions as a pass over a log would look at them."""
    sessions = listed.sessions
    scores, log_propensity = log_prob_of_sessions(target, sessions).double(), sessions.propensity.log()
    ratio = step_log_ratio(scores, log_propensity, sessions.shown)
    blank: dict = dict.fromkeys(("behaviour", "state", "state_name", "category"))
    blank |= {"models": Models(), "own": sessions.items[None], "fold": torch.zeros_like(sessions.length)}
    return Look(
        policy=target,
        history=sessions,
        scores=scores,
        log_propensity=log_propensity,
        log_ratio=ratio,
        discount=discounts(sessions.steps, gamma, ratio),
        **{**blank, **given},
    )


def expected_value(estimator: Estimator, listed: Enumeration, arrays: SessionArrays) -> float:
    """The estimate where every listed session counts by its probability."""
    own = () if estimator.weighting is None else (estimator.weighting,)
    return float(estimator.value(SessionSums.of(arrays, listed.probability[None], estimator.terms, own))[0])


def arrays_of(look: Look, needs: frozenset[Extra], predicted=None, expected=None) -> SessionArrays:
    """predicted, expected: [B, T], not discounted."""
    reward = look.history.reward.double().sum(-1)
    happened = look.history.happened
    return SessionArrays(
        log_weight=cumulative_log_weight(look.log_ratio, happened),
        reward=torch.where(happened, reward, 0.0) * look.discount,
        happened=happened,
        capped=torch.zeros_like(happened),
        predicted=None if predicted is None else predicted * look.discount,
        expected=None if expected is None else expected * look.discount,
        extra=extras_of(look, needs),
    )


def expectation(listed: Enumeration, target: Policy, gamma: float = 1.0, predicted=None, expected=None) -> SessionSums:
    """Sums in which every listed session counts by its probability: estimators of them are exact expectations."""
    sessions = listed.sessions
    ratio = step_log_ratio(log_prob_of_sessions(target, sessions), sessions.propensity.log(), sessions.shown).exp()
    reward = sessions.reward.double().sum(-1)
    arrays = arrays_from(ratio, reward, sessions.happened, predicted, expected, gamma)
    return SessionSums.of(arrays, listed.probability[None])


def sums_of(estimator, arrays, counts=None) -> SessionSums:
    counts = torch.ones(1, len(arrays.reward)).double() if counts is None else counts
    own = () if estimator.weighting is None else (estimator.weighting,)
    return SessionSums.of(arrays, counts, estimator.terms, own)


def value_of(estimator, arrays) -> float:
    return float(estimator.value(sums_of(estimator, arrays))[0])
