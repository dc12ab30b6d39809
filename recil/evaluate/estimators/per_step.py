"""Estimators that weigh the reward of a step by the ratios up to that step only, as entries of the table."""

from __future__ import annotations

import torch
from torch import Tensor

from recil.evaluate.arrays import Extra, SessionArrays
from recil.evaluate.estimators.estimator import Estimator, mean_of
from recil.evaluate.sequential import (
    before,
    doubly_robust,
    per_decision,
    weighted_doubly_robust,
    weighted_per_decision,
)
from recil.evaluate.terms import Sized, Term, collected


def weighted_rewards(arrays: SessionArrays) -> Sized:
    """sum_t w_t r_t."""
    return collected(arrays.log_weight, arrays.reward)


def corrected(arrays: SessionArrays, predicted: Tensor, expected: Tensor) -> Sized:
    """sum_t w_{t-1} V_t + w_t (r_t - Q_t); predicted (Q) and expected (V) are [B, T]."""
    log_weight = torch.cat([before(arrays.log_weight), arrays.log_weight], 1)
    return collected(log_weight, torch.cat([expected, arrays.reward - predicted], 1))


def model_of(arrays: SessionArrays) -> tuple[Tensor, Tensor]:
    """predicted and expected of the reward model, [B, T]; 0 where there is none."""
    nothing = torch.zeros_like(arrays.reward)
    return (
        nothing if arrays.predicted is None else arrays.predicted,
        nothing if arrays.expected is None else arrays.expected,
    )


PDIS = Estimator(
    "pdis",
    per_decision,
    "step",
    "E[Σ γ^t w_t r_t]",
    "as ips",
    "Precup, Sutton & Singh 2000",
    use="short sessions, weights near 1",
    score=weighted_rewards,
    also=("sips",),
)
PDWIS = Estimator(
    "pdwis",
    weighted_per_decision,
    "step",
    "Σ_t γ^t Σ w_t r_t / Σ w_t",
    "as ips; bias of order 1/n",
    "Thomas 2015, with absorbing ends",
    use="sessions of several steps, when no model is to be leaned on",
    fills=True,
)
DR = Estimator(
    "dr",
    doubly_robust,
    "step",
    "E[Σ γ^t (w_{t-1} V_t + w_t (r_t - Q_t))]",
    "as ips, or a right model",
    "Jiang & Li 2016",
    needs_model=True,
    use="when a model explains much of the reward",
    score=lambda arrays: corrected(arrays, *model_of(arrays)),
    fills=True,
)
WDR = Estimator(
    "wdr",
    weighted_doubly_robust,
    "step",
    "dr with w_t / Σ w_t for w_t / n",
    "as dr; bias of order 1/n",
    "Thomas & Brunskill 2016; one step: Robins et al. 2007",
    needs_model=True,
    use="as dr, with weights that differ much",
    also=("sndr",),
    fills=True,
)
_MRDR = Term(
    "MRDR",
    lambda arrays: corrected(arrays, arrays.extra[Extra.MRDR_PREDICTED], arrays.extra[Extra.MRDR_EXPECTED]),
)
MRDR = Estimator(
    "mrdr",
    mean_of(_MRDR),
    "step",
    "dr, Q fitted with weights w_t² (1 - β)",
    "as dr",
    "Farajtabar, Chow & Ghavamzadeh 2018",
    use="as dr, when the model is known to be wrong",
    needs=frozenset({Extra.MRDR_PREDICTED, Extra.MRDR_EXPECTED}),
    terms=(_MRDR,),
    score=_MRDR.of,
    fills=True,
)
