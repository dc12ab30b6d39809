"""Estimators that weigh the return of a whole session. Each maps SessionSums to [R+1]."""

from __future__ import annotations

import torch
from torch import Tensor

from recil.evaluate.arrays import Extra, SessionArrays
from recil.evaluate.estimators.estimator import Estimator
from recil.evaluate.sums import SessionSums
from recil.evaluate.terms import Sized, Term, Weighting, plain


def logged_mean(sums: SessionSums) -> Tensor:
    """E_n[G]: the value of the policy that wrote the log. [R+1]"""
    return sums.returns / sums.sessions


def ips(sums: SessionSums) -> Tensor:
    """E_n[w_{0:T-1} G], the inverse propensity score of whole sessions (trajectory importance sampling). [R+1]"""
    return sums.whole * sums.unit[-1] / sums.sessions


def snips(sums: SessionSums) -> Tensor:
    """sum w_{0:T-1} G / sum w_{0:T-1}, self-normalised (weighted importance sampling). [R+1]"""
    return sums.whole / torch.where(sums.weight[:, -1] > 0, sums.weight[:, -1], torch.nan)


def weighted_return(arrays: SessionArrays) -> Sized:
    """w_{0:T-1} G."""
    return Sized(arrays.reward.sum(1), arrays.log_weight[:, -1])


_SQUARE = Term("w^2", lambda arrays: Sized(torch.ones_like(arrays.reward[:, 0]), 2 * arrays.log_weight[:, -1]))
_SQUARE_RETURN = Term("w^2 G", lambda arrays: Sized(arrays.reward.sum(1), 2 * arrays.log_weight[:, -1]))


def optimal_baseline(sums: SessionSums) -> Tensor:
    """b + E_n[w (G - b)] with b = E_n[(w**2 - w) G] / E_n[w**2 - w], the baseline of least variance. [R+1]

    With weights that are all 1 no baseline matters, and none is subtracted.
    """
    square, square_return = sums.term(_SQUARE.name), sums.term(_SQUARE_RETURN.name)
    scale = sums.weights.scale[-1]
    largest = torch.stack([square.scale, square_return.scale, scale]).amax()
    one, two, gain = ((part - largest).exp() for part in (scale, square.scale, square_return.scale))
    excess = square.total * two - sums.weight[:, -1] * one
    matters = excess.abs() > 1e-9 * square.total * two
    gained = square_return.total * gain - sums.whole * one
    baseline = torch.where(matters, gained / torch.where(matters, excess, 1.0), 0.0)
    return baseline + ips(sums) - baseline * (sums.weight[:, -1] * sums.unit[-1] / sums.sessions)


def _agreement(arrays: SessionArrays) -> Tensor:
    """1 where the target shows the logged slate at every step of the session, float64 [B]."""
    return torch.where(arrays.happened, arrays.extra[Extra.AGREES], 1.0).amin(1)


_AGREEING = Term("agreeing", lambda arrays: plain(_agreement(arrays)))
_AGREEING_RETURN = Term("agreeing G", lambda arrays: plain(_agreement(arrays) * arrays.reward.sum(1)))
_AGREEMENT = Weighting(
    "agreement",
    lambda arrays: torch.where(arrays.happened, arrays.extra[Extra.AGREES], 1.0).cumprod(1).log(),
    unit_mean=False,
)


def replay(sums: SessionSums) -> Tensor:
    """Mean return of the sessions in which the target would have shown just what was shown. [R+1]"""
    agreeing = sums.term(_AGREEING.name).value
    return sums.term(_AGREEING_RETURN.name).value / torch.where(agreeing > 0, agreeing, torch.nan)


LOGGED = Estimator(
    "logged",
    logged_mean,
    "nothing",
    "E[G]",
    "nothing; it values the logging policy",
    "-",
    target=False,
    use="the mark to beat",
    score=lambda arrays: plain(arrays.reward.sum(1)),
)
IPS = Estimator(
    "ips",
    ips,
    "session",
    "E[w G]",
    "support, right propensities",
    "Horvitz & Thompson 1952",
    use="one-step sessions, weights near 1",
    score=weighted_return,
    also=("tis",),
)
SNIPS = Estimator(
    "snips",
    snips,
    "session",
    "Σ w G / Σ w",
    "as ips; bias of order 1/n",
    "Hesterberg 1995",
    use="as ips, where rewards have a mean far from 0",
    also=("wis",),
    fills=True,
)
OPTIMAL_BASELINE = Estimator(
    "beta_ips",
    optimal_baseline,
    "session",
    "b + E[w (G - b)], b = E[(w² - w) G] / E[w² - w]",
    "as ips; bias of order 1/n",
    "Gupta et al. 2024",
    use="as snips, with less variance where weights differ much",
    terms=(_SQUARE, _SQUARE_RETURN),
    fills=True,
)
REPLAY = Estimator(
    "replay",
    replay,
    "own",
    "Σ 1{π = a} G / Σ 1{π = a}",
    "deterministic target, uniform logging, sessions of one length",
    "Li et al. 2011",
    use="a deterministic target on a log drawn at random",
    needs=frozenset({Extra.AGREES}),
    terms=(_AGREEING, _AGREEING_RETURN),
    weighting=_AGREEMENT,
    supposes="the log was drawn uniformly, in sessions of one length",
    fills=True,
)
