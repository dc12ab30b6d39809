"""Click rates whose log-odds are a sum over groupings, such as tab + item + user: the baseline that knows everybody.

A logistic regression on the code of each grouping, each code's effect with a Gaussian prior around 0 and one scale per
grouping: smoothed rates, for groups that cross instead of lying one within the other (a generalised linear mixed model
at its mode; Breslow & Clayton 1993, "Approximate inference in generalized linear mixed models").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.random import Streams
from recil.sim.rates import group_codes, log_losses

USER = "user"
SCALES = (0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.2)
SWEEPS = 2


def keys_of(log: SessionLog, name: str) -> np.ndarray:
    """[M], the group of each item shown, in row order. name: "user" (by id), or what `group_codes` knows."""
    shown = log.items >= 0
    if name != USER:
        return group_codes(log, (name,))[shown]
    if log.user_ids is None:
        raise InputError("log", "it has no user_id to tell users by", "leave the users' rates out")
    owner = np.repeat(log.user_ids, log.lengths)
    return np.broadcast_to(owner[:, None], log.items.shape)[shown]


@dataclass(frozen=True)
class Effect:
    """What each group adds. groups: sorted keys [G]; values: float64 [G], log-odds; scale: their prior's."""

    groups: np.ndarray
    values: np.ndarray
    scale: float

    def of(self, keys: np.ndarray) -> np.ndarray:
        """[M], log-odds; 0 for a group never seen."""
        place = np.searchsorted(self.groups, keys).clip(max=len(self.groups) - 1)
        return np.where(self.groups[place] == keys, self.values[place], 0.0)


@dataclass(frozen=True)
class AdditiveRates:
    """Rates whose log-odds are `base` plus the effect of each grouping, name -> Effect."""

    base: float
    effects: Mapping[str, Effect]

    def predict(self, log: SessionLog) -> np.ndarray:
        """float64 [M]: the rate for each item shown, in row order."""
        odds = np.full(int((log.items >= 0).sum()), self.base)
        for name, effect in self.effects.items():
            odds = odds + effect.of(keys_of(log, name))
        return expit(odds)


@dataclass(frozen=True)
class _Design:
    """Clicks [M], bool, and the place of each row's group in each grouping, int64 [M] of `sizes`."""

    clicked: np.ndarray
    codes: tuple[np.ndarray, ...]
    sizes: tuple[int, ...]

    def take(self, rows: np.ndarray) -> _Design:
        return _Design(self.clicked[rows], tuple(code[rows] for code in self.codes), self.sizes)

    def split(self, weights: np.ndarray) -> list[np.ndarray]:
        return np.split(weights[1:], np.cumsum(self.sizes)[:-1])

    def odds(self, weights: np.ndarray) -> np.ndarray:
        total = np.full(len(self.clicked), weights[0])
        for part, code in zip(self.split(weights), self.codes, strict=True):
            total += part[code]
        return total


def _climb(design: _Design, scales: Sequence[float], start: np.ndarray) -> np.ndarray:
    """The weights of highest posterior density: base, then the effects of each grouping."""
    precision = np.concatenate([[0.0], *(np.full(n, s**-2.0) for n, s in zip(design.sizes, scales, strict=True))])

    # In units of one prior standard deviation each, the climb is as short for rare groups as for common ones.
    unit = np.where(precision > 0, precision, 1.0) ** -0.5

    def objective(scaled: np.ndarray) -> tuple[float, np.ndarray]:
        weights = scaled * unit
        odds = design.odds(weights)
        loss = np.logaddexp(0, odds).sum() - odds[design.clicked].sum() + 0.5 * precision @ weights**2
        off = expit(odds) - design.clicked
        slopes = [np.bincount(code, off, size) for code, size in zip(design.codes, design.sizes, strict=True)]
        slope = np.concatenate([[off.sum()], *slopes]) + precision * weights
        return float(loss), slope * unit

    return minimize(objective, start / unit, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x * unit


def fit_additive_rates(log: SessionLog, *names: str, seed: int = 0) -> AdditiveRates:
    """Rates of these groupings: "item", "position", "user", or categorical columns.

    The scales are those that predict a held-out fifth of the steps best: of steps, since a session that is held out
    whole says nothing of its user. Raises InputError without names, without user ids, or without both outcomes.
    """
    shown = log.items >= 0
    clicked = log.reward[shown] > 0
    if not names:
        raise InputError("additive rates", "no grouping is named", 'name some, such as "item", "user"')
    if clicked.all() or not clicked.any():
        raise InputError("reward", "is the same everywhere: log-odds have no bound", "use a log with both outcomes")
    groups, codes = zip(*(np.unique(keys_of(log, name), return_inverse=True) for name in names), strict=True)
    design = _Design(clicked, codes, tuple(len(found) for found in groups))
    aside = (Streams(seed).numpy("additive_rates.held_out").random(log.steps) < 0.2)[np.nonzero(shown)[0]]
    scales, weights = _best_scales(design, aside)
    weights = _climb(design, scales, weights)
    effects = {
        name: Effect(found, part, scale)
        for name, found, part, scale in zip(names, groups, design.split(weights), scales, strict=True)
    }
    return AdditiveRates(float(weights[0]), effects)


def _best_scales(design: _Design, aside: np.ndarray) -> tuple[list[float], np.ndarray]:
    """One scale after the other, the others held, twice over; and the weights that the best of them led to."""
    inner, outer = design.take(~aside), design.take(aside)
    scales = [0.7] * len(design.sizes)
    weights = np.zeros(1 + sum(design.sizes))
    weights[0] = logit(np.clip(design.clicked.mean(), 1e-6, 1 - 1e-6))
    if not aside.any() or aside.all():
        return scales, weights

    def loss(weights: np.ndarray) -> float:
        return float(log_losses(expit(outer.odds(weights)), outer.clicked).mean())

    for place in list(range(len(scales))) * SWEEPS:
        tried = {}
        for scale in SCALES:
            tried[scale] = _climb(inner, [*scales[:place], scale, *scales[place + 1 :]], weights)
        scales[place] = min(SCALES, key=lambda scale: loss(tried[scale]))
        weights = tried[scales[place]]
    return scales, weights
