"""The estimators of a policy's value from another policy's log: pure functions of the sums over sessions.

The value is J, the expected discounted reward of a session, summed over its steps and positions. A ratio is that of a
whole slate, so nothing is assumed of how the reward of one position depends on the rest of the slate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from recil.evaluate.sequential import doubly_robust, per_decision, weighted_per_decision
from recil.evaluate.sums import SessionSums

Leans = Literal["nothing", "session", "step"]


@dataclass(frozen=True)
class Estimator:
    """A named estimator.

    name      as rows and options call it
    value     SessionSums -> [R+1], the estimate in the sample and in every replicate; nan where it is undefined
    leans_on  whose weights it multiplies rewards by: nobody's, the whole session's, or each step's; decides which
              diagnostics can refuse it
    target    False for the logging policy's own value, which says nothing about the target
    needs_model  it uses a reward model fitted on other sessions
    formula, assumes, source: for people
    """

    name: str
    value: Callable[[SessionSums], Tensor]
    leans_on: Leans
    formula: str
    assumes: str
    source: str
    target: bool = True
    needs_model: bool = False


def logged_mean(sums: SessionSums) -> Tensor:
    """E_n[G]: the value of the policy that wrote the log. [R+1]"""
    return sums.returns / sums.sessions


def ips(sums: SessionSums) -> Tensor:
    """E_n[w_{0:T-1} G], the inverse propensity score of whole sessions (trajectory importance sampling). [R+1]"""
    return sums.whole * sums.unit[-1] / sums.sessions


def snips(sums: SessionSums) -> Tensor:
    """sum w_{0:T-1} G / sum w_{0:T-1}, self-normalised (weighted importance sampling). [R+1]"""
    return sums.whole / torch.where(sums.weight[:, -1] > 0, sums.weight[:, -1], torch.nan)


ESTIMATORS: Mapping[str, Estimator] = MappingProxyType(
    {
        estimator.name: estimator
        for estimator in (
            Estimator(
                "logged", logged_mean, "nothing", "E[G]", "nothing; it values the logging policy", "-", target=False
            ),
            Estimator("ips", ips, "session", "E[w G]", "support, right propensities", "Horvitz & Thompson 1952"),
            Estimator("snips", snips, "session", "Σ w G / Σ w", "as ips; bias of order 1/n", "Hesterberg 1995"),
            Estimator("pdis", per_decision, "step", "E[Σ γ^t w_t r_t]", "as ips", "Precup, Sutton & Singh 2000"),
            Estimator(
                "pdwis",
                weighted_per_decision,
                "step",
                "Σ_t γ^t Σ w_t r_t / Σ w_t",
                "as ips; bias of order 1/n",
                "Thomas 2015, with absorbing ends",
            ),
            Estimator(
                "dr",
                doubly_robust,
                "step",
                "E[Σ γ^t (w_{t-1} V_t + w_t (r_t - Q_t))]",
                "as ips, or a right model",
                "Jiang & Li 2016",
                needs_model=True,
            ),
        )
    }
)
