"""Marginal importance sampling: where what a user does depends on a state that is logged, ratios need not multiply.

With d_t(s) the target's probability of being in s at step t, estimated forwards,

    d_{t+1}(s') = Σ_s d_t(s) Σ_i ρ_t 1{s_t = s, s_{t+1} = s'} / m_t(s),   m_t(s) = Σ_i ρ_t 1{s_t = s}
    V = Σ_t γ^t Σ_s d_t(s) Σ_i 1{s_t = s} ρ_t r_t / m_t(s)

The expectation of m_t(s) is n_t(s), how often s is visited; dividing by m_t(s) itself keeps every d_t a distribution.
The state's own ratio is ω_t(s) = d_t(s) / (n_t(s) / n), so V estimates E[Σ γ^t ω_t(s_t) ρ_t r_t]. Where both policies
look at the state alone, ρ_t is constant for a state and an action and the ratio of state-action pairs, ω_t ρ_t, is the
same number: one estimator stands for both. A session that has ended is in no state and earns nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recil.evaluate.arrays import Extra, SessionArrays
from recil.evaluate.estimators.estimator import Estimator, mean_of
from recil.evaluate.estimators.model_alone import FIRST_VALUE
from recil.evaluate.estimators.per_step import DR, PDIS, model_of
from recil.evaluate.sums import SessionSums
from recil.evaluate.terms import StepTerm, Weighting, kept_after_end


def _ratio(arrays: SessionArrays) -> Tensor:
    """rho_t, [B, T]; 1 after the end."""
    return torch.where(arrays.happened, arrays.extra[Extra.STEP_LOG_RATIO], 0.0).exp()


def _by_state(arrays: SessionArrays, values: Tensor) -> Tensor:
    """values [B, T] put at their states, [B, T, S]."""
    return arrays.extra[Extra.STATE] * values[:, :, None]


def _moves(arrays: SessionArrays) -> Tensor:
    """rho_t at (s_t, s_{t+1}), [B, T, S * S]."""
    state = arrays.extra[Extra.STATE]
    after = torch.cat([state[:, 1:], torch.zeros_like(state[:, :1])], 1)
    return (_by_state(arrays, _ratio(arrays))[..., None] * after[:, :, None, :]).flatten(2)


def _surprise(arrays: SessionArrays) -> Tensor:
    """rho_t (r_t + V_{t+1} - Q_t), [B, T]."""
    predicted, expected = model_of(arrays)
    after = torch.cat([expected[:, 1:], torch.zeros_like(expected[:, :1])], 1)
    return _ratio(arrays) * (arrays.reward + after - predicted)


_STARTS = StepTerm("starts", lambda arrays: arrays.extra[Extra.STATE][:, :1])
_WEIGHTS = StepTerm("ratios by state", lambda arrays: _by_state(arrays, _ratio(arrays)))
_MOVES = StepTerm("moves", _moves)
_REWARDS = StepTerm("rewards by state", lambda arrays: _by_state(arrays, _ratio(arrays) * arrays.reward))
_SURPRISES = StepTerm("surprises by state", lambda arrays: _by_state(arrays, _surprise(arrays)))
_RATIOS = Weighting("ratios of single steps", lambda arrays: kept_after_end(_ratio(arrays).log(), arrays.happened))
_NEEDS = frozenset({Extra.STATE, Extra.STEP_LOG_RATIO})


def state_probabilities(sums: SessionSums) -> Tensor:
    """d_t(s), [R+1, T, S]."""
    weights = sums.term(_WEIGHTS.name).value
    moves = sums.term(_MOVES.name).value.unflatten(2, (weights.shape[2], weights.shape[2]))
    found = [sums.term(_STARTS.name).value[:, 0] / sums.sessions[:, None]]
    for step in range(weights.shape[1] - 1):
        found.append(torch.einsum("rs,rsz->rz", _per_weight(found[-1], weights[:, step]), moves[:, step]))
    return torch.stack(found, 1)


def _per_weight(probability: Tensor, weight: Tensor) -> Tensor:
    """nan where the target is in a state in which it never shows what the log holds."""
    return torch.where(probability > 0, probability / torch.where(weight > 0, weight, torch.nan), 0.0)


def _summed(sums: SessionSums, term: StepTerm) -> Tensor:
    share = _per_weight(state_probabilities(sums), sums.term(_WEIGHTS.name).value)
    return (share * sums.term(term.name).value).sum((1, 2))


def marginal(sums: SessionSums) -> Tensor:
    """Σ_t γ^t Σ_s d_t(s) Σ_i 1{s_t = s} ρ_t r_t / m_t(s). [R+1]"""
    return _summed(sums, _REWARDS)


def marginal_doubly_robust(sums: SessionSums) -> Tensor:
    """E_n[V_0] + Σ_t γ^t Σ_s d_t(s) Σ_i 1{s_t = s} ρ_t (r_t + γ V_{t+1} - Q_t) / m_t(s). [R+1]"""
    return mean_of(FIRST_VALUE)(sums) + _summed(sums, _SURPRISES)


MIS = Estimator(
    "mis",
    marginal,
    "own",
    "Σ γ^t Σ_s d_t(s) E[ρ_t r_t | s]",
    "the state decides rewards, moves and both policies; bias of order 1/n",
    "Xie, Ma & Wang 2019",
    use="long sessions with few states",
    needs=_NEEDS,
    terms=(_STARTS, _WEIGHTS, _MOVES, _REWARDS),
    weighting=_RATIOS,
    also=("sm_is", "sam_is"),
    against=PDIS,
    supposes="the state decides rewards, moves and both policies",
    fills=True,
)
MIS_DR = Estimator(
    "mis_dr",
    marginal_doubly_robust,
    "own",
    "E[V_0] + Σ γ^t Σ_s d_t(s) E[ρ_t (r_t + γ V_{t+1} - Q_t) | s]",
    "as mis",
    "Kallus & Uehara 2020",
    needs_model=True,
    use="as mis, when a model explains much of the reward",
    needs=_NEEDS,
    terms=(_STARTS, _WEIGHTS, _MOVES, _SURPRISES, FIRST_VALUE),
    weighting=_RATIOS,
    against=DR,
    supposes="the state decides rewards, moves and both policies",
    fills=True,
)
