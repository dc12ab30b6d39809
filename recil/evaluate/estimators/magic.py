"""MAGIC: between the model and the weights, the blend of least estimated error. Thomas & Brunskill 2016.

Let g_j follow the weights for the steps up to j and the model from there on (j = -1: the model alone, j = T - 1: WDR):

    g_j = Σ_{t≤j} γ^t Σ_i (w_t r_t - w_t Q_t) / W_t + Σ_{t≤j+1} γ^t Σ_i w_{t-1} V_t / W_{t-1},   W_t = Σ_i w_t

The terms of WDR telescope to this sum. The blend x in the simplex minimises xᵀ (Ω + b bᵀ) x: Ω is the covariance of
the g_j over the bootstrap replicates, in which the model varies as its fit does; b_j, the bias, is how far g_j lies
outside the middle 90% of WDR's replicates.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor

from recil.evaluate.arrays import Extra
from recil.evaluate.estimators.estimator import Estimator
from recil.evaluate.estimators.model_alone import MODEL_STARTS, fit_error
from recil.evaluate.estimators.per_step import WDR
from recil.evaluate.sequential import weighted_corrections
from recil.evaluate.sums import SessionSums

_MOST_HORIZONS = 6
_FEWEST_REPLICATES = 20
_TAIL = 0.05


def blended(sums: SessionSums) -> Tensor:
    """The blend, [R+1]; WDR where there are too few replicates to tell variance and bias."""
    returns = horizon_returns(sums) + model_error(sums)
    replicates = returns[1:][~returns[1:].isnan().any(1)]
    if len(replicates) < _FEWEST_REPLICATES or returns.shape[1] < 2:
        return returns[:, -1]
    return (blend(returns, replicates) * returns).sum(1)


def model_error(sums: SessionSums) -> Tensor:
    """The error of the model's fit in every g_j, in proportion to what the model still answers for. [R+1, J]"""
    _, baseline = weighted_corrections(sums)
    left = torch.nn.functional.pad(baseline[0], (0, 1))[_horizons(sums.steps)]
    share = torch.where(left[0] == 0, 0.0, left / torch.where(left[0] == 0, 1.0, left[0]))
    return fit_error(sums, MODEL_STARTS)[:, None] * share.clamp(0.0, 1.0)


def horizon_returns(sums: SessionSums) -> Tensor:
    """g_j of up to 6 horizons j from -1 to T - 1, [R+1, J]."""
    correction, baseline = weighted_corrections(sums)
    followed = torch.nn.functional.pad(correction.cumsum(1), (1, 0))
    expected = baseline.cumsum(1)
    every = followed + torch.cat([expected, expected[:, -1:]], 1)
    return every[:, _horizons(sums.steps)]


def blend(returns: Tensor, replicates: Tensor) -> Tensor:
    """Weights of the horizons in every row of `returns` [R+1, J], from `replicates` [n, J]. [R+1, J]

    The bias is estimated anew in each replicate, so that the interval has its noise; the covariance, whose own noise is
    of a higher order, is common to all.
    """
    covariance = torch.cov(replicates.T)
    low, high = torch.quantile(replicates[:, -1], torch.tensor([_TAIL, 1.0 - _TAIL], dtype=returns.dtype))
    shift = (returns[:, -1] - returns[0, -1])[:, None]
    low = torch.minimum(low, returns[0, -1]) + shift
    high = torch.maximum(high, returns[0, -1]) + shift
    bias = returns - torch.minimum(torch.maximum(returns, low), high)
    return smallest_quadratic(covariance + bias[:, :, None] * bias[:, None, :])


def smallest_quadratic(matrix: Tensor) -> Tensor:
    """The x in the simplex that minimises xᵀ A x, for each positive semidefinite A: [n, J, J] -> [n, J].

    Every set of coordinates that may be positive is tried: on it x is A⁻¹1 over its sum.
    """
    rows, size, _ = matrix.shape
    trace = matrix.diagonal(dim1=1, dim2=2).sum(1)
    ridge = (1e-10 * trace + 1e-30)[:, None, None] * torch.eye(size, dtype=matrix.dtype)
    matrix = torch.nan_to_num(matrix + ridge, nan=1.0)
    best = torch.full((rows,), torch.inf, dtype=matrix.dtype)
    found = torch.zeros(rows, size, dtype=matrix.dtype)
    for count in range(1, size + 1):
        for chosen in combinations(range(size), count):
            part = matrix[:, chosen][:, :, chosen]
            solved = torch.linalg.solve(part, torch.ones(rows, count, dtype=matrix.dtype))
            share = solved / solved.sum(1, keepdim=True)
            cost = (share[:, None] @ part @ share[:, :, None])[:, 0, 0]
            better = (share >= 0).all(1) & (cost < best)
            best = torch.where(better, cost, best)
            filled = torch.zeros_like(found).index_copy(1, torch.tensor(chosen), share)
            found = torch.where(better[:, None], filled, found)
    return found


def _horizons(steps: int) -> list[int]:
    """Columns 0 (the model alone) to `steps` (WDR), closer together at the start."""
    if steps < _MOST_HORIZONS:
        return list(range(steps + 1))
    inner = torch.logspace(0.0, torch.log10(torch.tensor(float(steps))).item(), _MOST_HORIZONS - 1)
    return sorted({0, steps, *(round(column) for column in inner.tolist())})


MAGIC = Estimator(
    "magic",
    blended,
    "step",
    "Σ_j x_j g_j, x = argmin xᵀ (Ω + b bᵀ) x",
    "as dr; bias of order 1/n",
    "Thomas & Brunskill 2016",
    needs_model=True,
    needs=frozenset({Extra.MODEL_STARTS}),
    terms=(MODEL_STARTS,),
    against=WDR,
    use="long sessions with a model that may be right",
    supposes="the model is right where it is followed",
    fills=True,
)
