"""Estimators that weigh the reward of a position by fewer ratios than the whole slate's.

Within a step they say how a position's reward hangs on the rest of the slate; steps before count with the ratio of the
whole slate, w_{t-1}, because what a user does next may hang on all that was shown. With one step they are the
estimators of single slates. Positions come in the order of `position`, whatever the order of the table's rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from recil.evaluate.arrays import Extra, SessionArrays
from recil.evaluate.estimators.estimator import Estimator, mean_of
from recil.evaluate.estimators.per_step import DR, PDIS
from recil.evaluate.sequential import before
from recil.evaluate.terms import Sized, Term, Weighting, collected, kept_after_end


def _shown(arrays: SessionArrays) -> Tensor:
    """bool [B, T, K]: an item stands here. Where none stands the ratio is 1 and the reward 0."""
    return arrays.extra[Extra.SHOWN] > 0


def _cascade(arrays: SessionArrays) -> Tensor:
    """log w_{t-1} rho_{t,0} ... rho_{t,k}, [B, T, K]."""
    return before(arrays.log_weight)[:, :, None] + arrays.extra[Extra.POSITION_LOG_RATIO].cumsum(2)


def _alone(arrays: SessionArrays) -> Tensor:
    """log w_{t-1} rho_{t,k}, [B, T, K]."""
    return before(arrays.log_weight)[:, :, None] + arrays.extra[Extra.POSITION_LOG_RATIO]


def cascade_score(arrays: SessionArrays) -> Sized:
    """RIPS, sum_t w_{t-1} sum_k rho_{t,0} ... rho_{t,k} r_{t,k}."""
    return collected(_cascade(arrays), arrays.extra[Extra.POSITION_REWARD])


def independent_score(arrays: SessionArrays) -> Sized:
    """IIPS, sum_t w_{t-1} sum_k rho_{t,k} r_{t,k}."""
    return collected(_alone(arrays), arrays.extra[Extra.POSITION_REWARD])


def additive_score(arrays: SessionArrays) -> Sized:
    """PI for positions filled independently, sum_t w_{t-1} (1 - K + sum_k rho_{t,k}) r_t."""
    shown = _shown(arrays)
    paid = arrays.reward[:, :, None]
    log_weight = torch.cat([before(arrays.log_weight)[:, :, None], _alone(arrays)], 2)
    none_shown = (1.0 - shown.sum(2, keepdim=True)) * paid
    return collected(log_weight, torch.cat([none_shown, shown * paid], 2))


def cascade_doubly_robust_score(arrays: SessionArrays) -> Sized:
    """Cascade-DR, sum_t w_{t-1} (sum_k (W_k (r_k - q_k) + q'_k) + ahead_t) - w_t ahead_t, W_k = rho_0 ... rho_k.

    q_k is the model's reward of the item shown at position k, q'_k that of the item in a slate that the target drew
    itself: its expectation is that of W_{k-1} E_pi q_k given the items before, with neither that weight's noise nor a
    sum over the catalogue. What lies ahead of the step hangs on the whole slate, and so goes with w_t.
    """
    extra, ahead = arrays.extra, arrays.extra[Extra.AHEAD][:, :, None]
    start = before(arrays.log_weight)[:, :, None]
    surprise = extra[Extra.POSITION_REWARD] - extra[Extra.POSITION_PREDICTED]
    expected = extra[Extra.POSITION_EXPECTED].sum(2, keepdim=True) + ahead
    log_weight = torch.cat([_cascade(arrays), start, arrays.log_weight[:, :, None]], 2)
    return collected(log_weight, torch.cat([surprise, expected, -ahead], 2))


def _mean_over_positions(arrays: SessionArrays, log_weight: Tensor) -> Tensor:
    """log of the mean weight of a step's positions, [B, T]; after the end the session's last one."""
    shown = _shown(arrays)
    mean = torch.logsumexp(torch.where(shown, log_weight, -torch.inf), 2) - shown.sum(2).log()
    return kept_after_end(torch.where(shown.any(2), mean, arrays.log_weight), arrays.happened)


_CASCADE = Weighting("cascade", lambda arrays: _mean_over_positions(arrays, _cascade(arrays)))
_ALONE = Weighting("alone", lambda arrays: _mean_over_positions(arrays, _alone(arrays)))
_RIPS, _IIPS = Term("RIPS", cascade_score), Term("IIPS", independent_score)
_PI, _CASCADE_DR = Term("PI", additive_score), Term("cascade DR", cascade_doubly_robust_score)
_POSITIONS = frozenset({Extra.SHOWN, Extra.POSITION_LOG_RATIO, Extra.POSITION_REWARD})

RIPS = Estimator(
    "rips",
    mean_of(_RIPS),
    "own",
    "E[Σ_t γ^t w_{t-1} Σ_k ρ_1 … ρ_k r_k]",
    "as ips; a position's reward hangs on the items before it only",
    "McInerney et al. 2020",
    use="slates read from the top",
    needs=_POSITIONS,
    terms=(_RIPS,),
    weighting=_CASCADE,
    score=cascade_score,
    against=PDIS,
    supposes="a position's reward hangs on the items before it only",
)
IIPS = Estimator(
    "iips",
    mean_of(_IIPS),
    "own",
    "E[Σ_t γ^t w_{t-1} Σ_k ρ_k r_k]",
    "as ips; a position's reward hangs on its item only; positions filled independently",
    "Li et al. 2018",
    use="clicks that do not compete, large catalogues",
    needs=_POSITIONS,
    terms=(_IIPS,),
    weighting=_ALONE,
    score=independent_score,
    against=PDIS,
    supposes="a position's reward hangs on its item only, and positions are filled independently",
)
PI = Estimator(
    "pi",
    mean_of(_PI),
    "own",
    "E[Σ_t γ^t w_{t-1} (1 - K + Σ_k ρ_k) r_t]",
    "as ips; a slate's reward adds up over positions; positions filled independently",
    "Swaminathan et al. 2017",
    use="a reward of the whole slate, large catalogues",
    needs=frozenset({Extra.SHOWN, Extra.POSITION_LOG_RATIO}),
    terms=(_PI,),
    weighting=_ALONE,
    score=additive_score,
    against=PDIS,
    supposes="a slate's reward adds up over positions, and positions are filled independently",
)
CASCADE_DR = Estimator(
    "cascade_dr",
    mean_of(_CASCADE_DR),
    "own",
    "E[Σ_t γ^t w_{t-1} Σ_k (ρ_1 … ρ_k (r_k - Q_k) + ρ_1 … ρ_{k-1} E_π Q_k)]",
    "as rips, or a right model",
    "Kiyohara et al. 2022",
    needs_model=True,
    use="slates read from the top, when a model explains much of the reward",
    needs=_POSITIONS | {Extra.POSITION_PREDICTED, Extra.POSITION_EXPECTED, Extra.AHEAD},
    terms=(_CASCADE_DR,),
    weighting=_CASCADE,
    score=cascade_doubly_robust_score,
    against=DR,
    supposes="a position's reward hangs on the items before it only",
    fills=True,
)
