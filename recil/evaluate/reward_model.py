"""The reward model behind the doubly robust estimator: plain, additive, fitted on other sessions than those it serves.

    Q(x_t, slate) = sum over positions k of (position_k + step_t + item_{a_k}) + ahead_t

position, step and item are effects on the reward of an item shown; ahead_t is what sessions that reached step t earned
after it. A wrong model costs the estimator precision, never its unbiasedness; a constant ahead_t already takes out
most of the noise that later rewards add.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recil.logs.session_log import PAD, SessionLog


@dataclass(frozen=True)
class RewardModel:
    """F models over catalogues of A items, slates of K and sessions of up to T steps; model f never saw fold f.

    position [F, K], step [F, T], item [F, A]: effects on the reward of one item; ahead [F, T], discounted to step t.
    All float64.
    """

    position: Tensor
    step: Tensor
    item: Tensor
    ahead: Tensor

    def value(self, items: Tensor, happened: Tensor, fold: Tensor) -> Tensor:
        """Q of each slate. items int64 [B, T, K], happened bool [B, T], fold int64 [B] -> [B, T], 0 at padding."""
        assert items.ndim == 3 and happened.shape == items.shape[:2]
        slate = self.by_position(items, fold).sum(-1)
        return torch.where(happened, slate + self.ahead[fold, : items.shape[1]], 0.0)

    def by_position(self, items: Tensor, fold: Tensor) -> Tensor:
        """The reward expected of each item of the slates. int64 [B, T, K], int64 [B] -> [B, T, K], 0 at padding."""
        effect = self.item[fold[:, None, None], items.clamp(min=0)]
        effect = effect + self.position[fold][:, None] + self.step[fold, : items.shape[1], None]
        return torch.where(items >= 0, effect, 0.0)


def fit_out_of_fold(
    log: SessionLog,
    fold: np.ndarray,
    folds: int,
    gamma: float,
    weight: np.ndarray | None = None,
    later: np.ndarray | None = None,
) -> RewardModel:
    """One model for each fold (int [S], 0 ... folds - 1), fitted on the sessions of the others.

    weight [N] of each step in the least squares (None: 1); later [N], the reward after it (None: as logged).
    """
    step = step_of_rows(log)
    later = later_reward(log, step, gamma) if later is None else later
    row_fold = np.repeat(fold, log.lengths)
    weight = np.ones(log.steps) if weight is None else weight
    models = [_fit(log, step, later, row_fold != held_out, weight) for held_out in range(folds)]
    return RewardModel(*(torch.from_numpy(np.stack(parts)) for parts in zip(*models, strict=True)))


def step_of_rows(log: SessionLog) -> np.ndarray:
    """int [N], which step of its session each row is."""
    return np.arange(log.steps) - np.repeat(log.offsets[:-1], log.lengths)


def shrunken_effects(
    residual: np.ndarray, group: np.ndarray, groups: int, weight: np.ndarray | None = None
) -> np.ndarray:
    """Group means of `residual` (float64 [n]) pulled towards 0 by their own noise; group int [n] -> [groups].

    Bühlmann & Straub (1970): mean_g n_g / (n_g + within variance / between variance), variances by moments, n_g the
    sum of the group's weights (float64 [n], all 1 when None).
    """
    weight = np.ones(len(residual)) if weight is None else weight
    count = np.bincount(group, weights=weight, minlength=groups)
    mean = _group_means(residual, group, groups, weight)
    present, total = int((count > 0).sum()), float(count.sum())
    if len(residual) <= present or present < 2:
        return np.zeros(groups)
    overall = float(weight @ residual) / total
    within = float(weight @ np.square(residual - mean[group])) / (len(residual) - present)
    spread = float((count * np.square(mean - overall)).sum()) - (present - 1) * within
    between = spread / (total - float(np.square(count).sum()) / total)
    if between <= 0:
        return np.zeros(groups)
    return mean * count / (count + within / between)


def _group_means(values: np.ndarray, group: np.ndarray, groups: int, weight: np.ndarray) -> np.ndarray:
    """Weighted means [groups], 0 where there is no weight."""
    count = np.bincount(group, weights=weight, minlength=groups)
    return np.bincount(group, weights=values * weight, minlength=groups) / np.where(count > 0, count, 1.0)


def _fit(
    log: SessionLog, step: np.ndarray, later: np.ndarray, rows: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """position [K], step [T], item [A], ahead [T] from these step rows (bool [N])."""
    longest = int(log.lengths.max())
    items, reward = log.items[rows], log.reward[rows].astype(np.float64)
    row, place = np.nonzero(items != PAD)
    item, gain, when = items[row, place], reward[row, place], step[rows][row]
    counted = weight[rows][row]
    position = _group_means(gain, place, log.slate_size, counted)
    residual = gain - position[place]
    by_step = shrunken_effects(residual, when, longest, counted)
    by_item = shrunken_effects(residual - by_step[when], item, log.catalogue, counted)
    ahead = _group_means(later[rows], step[rows], longest, weight[rows])
    return position, by_step, by_item, ahead


def later_reward(log: SessionLog, step: np.ndarray, gamma: float, ratio: np.ndarray | None = None) -> np.ndarray:
    """float64 [N]: gamma G_{t+1}, the discounted reward of the rest of the session after each step row.

    With `ratio` [N], gamma ρ_{t+1} (r_{t+1} + ...): the same as the target would have earned it, in expectation.
    """
    ratio = np.ones(log.steps) if ratio is None else ratio
    now = np.where(log.items != PAD, log.reward, 0.0).sum(1, dtype=np.float64)
    later = np.zeros(log.steps)
    has_next = np.ones(log.steps, dtype=bool)
    has_next[log.offsets[1:] - 1] = False
    by_step = np.argsort(-step, kind="stable")
    for rows in np.split(by_step, np.cumsum(np.bincount(step)[::-1])[:-1]):
        going_on = rows[has_next[rows]]
        later[going_on] = gamma * ratio[going_on + 1] * (now[going_on + 1] + later[going_on + 1])
    return later
