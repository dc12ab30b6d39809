"""Estimators that ask a fitted model alone, with the error of the fit in their replicates.

The model that serves a fold was fitted on the other folds. To the bootstrap it is a constant; how much it owes to the
sessions it was fitted on, a jackknife over the folds tells: with θ_f the mean over all sessions by model f,
se² = (F - 1) / F Σ (θ_f - θ̄)². What no interval holds is that a model may be wrong whatever the sessions.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from recil.evaluate.arrays import Extra, SessionArrays
from recil.evaluate.bootstrap import student_noise
from recil.evaluate.estimators.estimator import Estimator, mean_of
from recil.evaluate.estimators.per_step import DR, corrected, model_of
from recil.evaluate.sums import SessionSums
from recil.evaluate.terms import StepTerm, Term, plain

_GOLDEN = 0.6180339887498949


def fit_error(sums: SessionSums, starts: StepTerm) -> Tensor:
    """The error of the fit in each replicate, 0 in the sample itself. [R+1]

    Student's t with F - 1 degrees of freedom, its quantiles spread over the replicates by multiples of the golden
    section, which have nothing to do with the bootstrap's draws.
    """
    by_fold = sums.term(starts.name).value[0, 0] / sums.sessions[0]
    folds = len(by_fold)
    error = (by_fold.var(unbiased=False) * (folds - 1)).sqrt() if folds > 1 else torch.zeros(()).double()
    noise = student_noise(len(sums.sessions) - 1, folds - 1, _GOLDEN)
    return torch.cat([torch.zeros(1, dtype=torch.float64), error * noise])


def with_fit_error(term: Term, starts: StepTerm) -> Callable[[SessionSums], Tensor]:
    mean = mean_of(term)

    def value(sums: SessionSums) -> Tensor:
        return mean(sums) + fit_error(sums, starts)

    return value


def starts_of(extra: Extra) -> StepTerm:
    """[B, 1, F]: the value of the first slate by each fold's model."""
    return StepTerm(extra.name, lambda arrays: arrays.extra[extra][:, :1], resampled=False)


def _first(arrays: SessionArrays) -> Tensor:
    return model_of(arrays)[1][:, 0]


FIRST_VALUE = Term("V_0", lambda arrays: plain(_first(arrays)))
MODEL_STARTS, _FQE_STARTS = starts_of(Extra.MODEL_STARTS), starts_of(Extra.FQE_STARTS)
_FQE_DR = Term(
    "FQE DR",
    lambda arrays: corrected(arrays, arrays.extra[Extra.FQE_PREDICTED], arrays.extra[Extra.FQE_EXPECTED]),
)
_FQE = Term("FQE V_0", lambda arrays: plain(arrays.extra[Extra.FQE_EXPECTED][:, 0]))

DM = Estimator(
    "dm",
    with_fit_error(FIRST_VALUE, MODEL_STARTS),
    "model",
    "E[V(x_0)]",
    "a right reward model; later steps as logged",
    "Beygelzimer & Langford 2009",
    needs_model=True,
    use="one-step sessions, when no propensity can be trusted",
    needs=frozenset({Extra.MODEL_STARTS}),
    terms=(FIRST_VALUE, MODEL_STARTS),
    score=FIRST_VALUE.of,
    against=DR,
    fills=True,
)
FQE_DR = Estimator(
    "fqe_dr",
    mean_of(_FQE_DR),
    "step",
    "dr, Q by fitted Q evaluation",
    "as dr",
    "Jiang & Li 2016, with the model of Le, Voloshin & Yue 2019",
    use="as dr in longer sessions, where what lies ahead hangs on the target",
    needs=frozenset({Extra.FQE_PREDICTED, Extra.FQE_EXPECTED}),
    terms=(_FQE_DR,),
    score=_FQE_DR.of,
    fills=True,
)
FQE = Estimator(
    "fqe",
    with_fit_error(_FQE, _FQE_STARTS),
    "model",
    "E[V(x_0)], Q ← argmin Σ (Q - r - γ E_π Q')²",
    "a right model of the return",
    "Le, Voloshin & Yue 2019",
    use="long sessions, where no product of ratios holds",
    needs=FQE_DR.needs | {Extra.FQE_STARTS},
    terms=(_FQE, _FQE_STARTS, _FQE_DR),
    score=_FQE.of,
    against=FQE_DR,
    fills=True,
)
