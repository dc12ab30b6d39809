"""Models of the reward that are fitted with one target policy in view, on other sessions than those they serve."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from recil.evaluate.reward_model import RewardModel, fit_out_of_fold, later_reward, shrunken_effects, step_of_rows
from recil.logs.session_log import PAD, SessionLog

_TOLERANCE = 1e-8
_MOST_ROUNDS = 200


@dataclass(frozen=True)
class TargetRows:
    """Of each of a log's N steps: log_ratio, log_propensity of the slate float64 [N]; own int32 [N, K], a slate of the
    target's own."""

    log_ratio: np.ndarray
    log_propensity: np.ndarray
    own: np.ndarray


def fit_least_variance(log: SessionLog, fold: np.ndarray, folds: int, gamma: float, rows: TargetRows) -> RewardModel:
    """MRDR: the model that makes the doubly robust estimator vary least (Farajtabar, Chow & Ghavamzadeh 2018).

    Given the history, step t adds γ^2t w_{t-1}² (E_β[ρ² e²] - (E_π e)²) to the variance, with e the error of Q. Its
    diagonal is E_β[ρ² (1 - β) e²]: least squares on logged steps with weights γ^2t w_t² (1 - β). For a deterministic
    target that is all of it; for a stochastic one the products of two items' errors are left out.
    """
    step = step_of_rows(log)
    log_weight = _cumulative(log, rows.log_ratio)
    with np.errstate(divide="ignore"):
        log_gamma = np.where(step > 0, step * (math.log(gamma) if gamma > 0 else -math.inf), 0.0)
        weight = 2 * (log_weight + log_gamma) + np.log(-np.expm1(np.minimum(rows.log_propensity, 0.0)))
    largest = weight.max()
    # A target that agrees with the logging policy's certain choices leaves nothing to fit by.
    weight = np.exp(weight - largest) if np.isfinite(largest) else np.ones_like(weight)
    later = later_reward(log, step, gamma, np.exp(np.minimum(rows.log_ratio, 600.0)))
    return fit_out_of_fold(log, fold, folds, gamma, weight / weight.mean(), later)


def fit_q_evaluation(
    log: SessionLog, fold: np.ndarray, folds: int, gamma: float, rows: TargetRows, model: RewardModel
) -> RewardModel:
    """FQE: Q <- argmin Σ (Q(x, a) - r - γ V(x'))², V(x') the value of a slate that the target drew itself at x'.

    Q is the reward model plus what lies ahead: a constant for each step and an effect of each item shown. The fit is
    repeated until it stands still (Le, Voloshin & Yue 2019).
    """
    step = step_of_rows(log)
    has_next = np.ones(log.steps, dtype=bool)
    has_next[log.offsets[1:] - 1] = False
    row_fold = np.repeat(fold, log.lengths)
    ahead, item = [], []
    for held_out in range(folds):
        found = _solve(log, step, has_next, row_fold != held_out, gamma, rows.own, _of_fold(model, held_out))
        ahead.append(found[0])
        item.append(found[1])
    return replace(model, ahead=torch.from_numpy(np.stack(ahead)), item=model.item + torch.from_numpy(np.stack(item)))


@dataclass(frozen=True)
class _Fold:
    position: np.ndarray
    step: np.ndarray
    item: np.ndarray


def _of_fold(model: RewardModel, fold: int) -> _Fold:
    return _Fold(model.position[fold].numpy(), model.step[fold].numpy(), model.item[fold].numpy())


def _solve(
    log: SessionLog, step: np.ndarray, has_next: np.ndarray, used: np.ndarray, gamma: float, own: np.ndarray, now: _Fold
) -> tuple[np.ndarray, np.ndarray]:
    """ahead [T] and the items' effects [A] on what lies ahead, from the rows `used` (bool [N])."""
    longest = int(log.lengths.max())
    shown = own != PAD
    reward = np.where(shown, now.item[own] + now.position + now.step[step][:, None], 0.0).sum(1)
    ahead, item = np.zeros(longest), np.zeros(log.catalogue)
    row, place = np.nonzero((log.items != PAD) & used[:, None])
    logged, when = log.items[row, place], step[used]
    filled = np.maximum((log.items != PAD).sum(1), 1)
    reached = np.maximum(np.bincount(when, minlength=longest), 1)
    for _ in range(_MOST_ROUNDS):
        value = reward + ahead[step] + np.where(shown, item[own], 0.0).sum(1)
        future = np.where(has_next, gamma * np.append(value[1:], 0.0), 0.0)
        fresh = np.bincount(when, weights=future[used], minlength=longest) / reached
        residual = (future - fresh[step])[row]
        effects = shrunken_effects(residual, logged, log.catalogue) / filled.mean()
        moved = max(np.abs(fresh - ahead).max(), np.abs(effects - item).max())
        ahead, item = fresh, effects
        if moved <= _TOLERANCE * max(1.0, float(np.abs(ahead).max())):
            break
    return ahead, item


def _cumulative(log: SessionLog, log_ratio: np.ndarray) -> np.ndarray:
    """log w_{0:t}, [N]; a ratio of 0 stays 0 to the end of its session."""
    impossible = np.isneginf(log_ratio)
    finite = np.where(impossible, 0.0, log_ratio)
    total, lost = np.cumsum(finite), np.cumsum(impossible)
    first = np.repeat(log.offsets[:-1], log.lengths)
    within = total - (total[first] - finite[first])
    gone = lost - (lost[first] - impossible[first])
    return np.where(gone > 0, -np.inf, within)
