"""Estimators that shrink large weights: bias for variance, by a knob. Shrinking works on w_{0:t}, in log space."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recil.errors import InputError
from recil.evaluate.arrays import SessionArrays
from recil.evaluate.estimators.estimator import Estimator, mean_of
from recil.evaluate.estimators.per_step import DR, PDIS, model_of
from recil.evaluate.terms import Sized, Term, Weighting, collected

# The knobs of the table: each lets no weight grow beyond 10.
_LARGEST = 10.0


@dataclass(frozen=True)
class Shrinkage:
    """A function of log w that gives the log of the shrunken weight, with its knob."""

    name: str
    knob: float
    of: Callable[[Tensor], Tensor]

    def named(self, default: float) -> str:
        return self.name if self.knob == default else f"{self.name}({self.knob:g})"


def _checked(name: str, knob: float, low: float, high: float) -> float:
    if not low <= knob <= high:
        raise InputError(name, f"{knob} is out of range", f"give a number from {low:g} to {high:g}")
    return knob


def _log(number: float) -> float:
    return math.log(number) if number > 0 else -math.inf


def capped_ips(cap: float = _LARGEST) -> Estimator:
    """E[Σ γ^t min(w_t, cap) r_t], Ionides 2008; cap from 0 on."""
    log_cap = _log(_checked("cips", cap, 0.0, math.inf))
    return _shrunken_ips(
        Shrinkage("cips", cap, lambda log_weight: log_weight.clamp(max=log_cap)),
        default=_LARGEST,
        formula="E[Σ γ^t min(w_t, λ) r_t]",
        source="Ionides 2008",
    )


def subgaussian(share: float = 1.0 / _LARGEST) -> Estimator:
    """E[Σ γ^t w_t / (1 - share + share · w_t) r_t]; share from 0 (no shrinking) to 1 (no weights)."""
    _checked("subgaussian", share, 0.0, 1.0)

    def shrink(log_weight: Tensor) -> Tensor:
        rest = torch.full_like(log_weight, _log(1.0 - share))
        return log_weight - torch.logaddexp(rest, log_weight + _log(share)) if share < 1 else log_weight * 0.0

    return _shrunken_ips(
        Shrinkage("subgaussian", share, shrink),
        default=1.0 / _LARGEST,
        formula="E[Σ γ^t w_t / (1 - λ + λ w_t) r_t]",
        source="Metelli, Russo & Restelli 2021",
    )


def switch_dr(threshold: float = _LARGEST) -> Estimator:
    """DR in which weights above the threshold count 0, so that the model alone answers there; from 0 on."""
    log_threshold = _log(_checked("switch_dr", threshold, 0.0, math.inf))

    def shrink(log_weight: Tensor) -> Tensor:
        return torch.where(log_weight <= log_threshold, log_weight, -math.inf)

    return _shrunken_dr(
        Shrinkage("switch_dr", threshold, shrink),
        default=_LARGEST,
        formula="E[V_0 + Σ γ^t w_t 1{w_t ≤ τ} (r_t + γ V_{t+1} - Q_t)]",
        source="Wang, Agarwal & Dudík 2017",
    )


def optimistic_dr(strength: float = 4 * _LARGEST**2) -> Estimator:
    """DR with w strength / (w**2 + strength) for w; from 0 (the direct method) on."""
    log_strength = _log(_checked("dros", strength, 0.0, math.inf))

    def shrink(log_weight: Tensor) -> Tensor:
        if strength == math.inf:
            return log_weight
        return log_strength + log_weight - torch.logaddexp(2 * log_weight, torch.full_like(log_weight, log_strength))

    return _shrunken_dr(
        Shrinkage("dros", strength, shrink),
        default=4 * _LARGEST**2,
        formula="switch_dr with weights λ w / (w² + λ)",
        source="Su, Dimakopoulou, Krishnamurthy & Dudík 2020",
    )


def _shrunken_ips(shrinkage: Shrinkage, default: float, formula: str, source: str) -> Estimator:
    name = shrinkage.named(default)

    def score(arrays: SessionArrays) -> Sized:
        return collected(shrinkage.of(arrays.log_weight), arrays.reward)

    term = Term(name, score)
    return Estimator(
        name,
        mean_of(term),
        "own",
        formula,
        "as ips; biased by what is shrunk away",
        source,
        use="a few large weights, and a bias that may be afforded",
        terms=(term,),
        weighting=Weighting(name, lambda arrays: shrinkage.of(arrays.log_weight), shrinks=True),
        score=score,
        against=PDIS,
    )


def _shrunken_dr(shrinkage: Shrinkage, default: float, formula: str, source: str) -> Estimator:
    name = shrinkage.named(default)

    def score(arrays: SessionArrays) -> Sized:
        """V_0 + sum_t f(w_t) (r_t + V_{t+1} - Q_t); V is 0 after the end."""
        predicted, expected = model_of(arrays)
        after = torch.cat([expected[:, 1:], torch.zeros_like(expected[:, :1])], 1)
        first = torch.zeros_like(arrays.log_weight[:, :1])
        log_weight = torch.cat([first, shrinkage.of(arrays.log_weight)], 1)
        return collected(log_weight, torch.cat([expected[:, :1], arrays.reward + after - predicted], 1))

    term = Term(name, score)
    return Estimator(
        name,
        mean_of(term),
        "own",
        formula,
        "as dr; the model must be right where weights are shrunk",
        source,
        needs_model=True,
        use="a few large weights, and a fair model",
        terms=(term,),
        weighting=Weighting(name, lambda arrays: shrinkage.of(arrays.log_weight), shrinks=True),
        score=score,
        against=DR,
        fills=True,
    )
