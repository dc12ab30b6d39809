"""The reward model behind the doubly robust estimator: plain, additive, fitted on other sessions than those it serves.

    Q(x_t, slate) = sum over positions k of (position_k + step_t + item_{a_k}) + ahead_t

position, step and item are effects on the reward of an item shown; ahead_t is what sessions that reached step t earned
after it. A wrong model costs the estimator precision, never its unbiasedness; a constant ahead_t already takes out
most of the noise that later rewards add.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recil.evaluate.scoring import stretches
from recil.logs.session_log import PAD, SessionLog

_STEPS_AT_ONCE = 1 << 18


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

    def starts(self, items: Tensor) -> Tensor:
        """Q of first slates by every model. int64 [B, K] -> [B, F]."""
        effect = self.item.T.contiguous()[items.clamp(min=0)] + (self.position + self.step[:, :1]).T
        return torch.where(items[..., None] >= 0, effect, 0.0).sum(1) + self.ahead[:, 0]


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
    The log is gone through twice, a run of sessions at a time; kept are sums by fold and item, position or step.
    """
    rows = _Rows(log, fold, gamma, weight, later)
    by_place = _ByPlace.of(rows, folds)
    position, by_step, ahead = (np.stack(parts) for parts in zip(*map(by_place.effects, range(folds)), strict=True))
    item = _item_effects(rows, position, by_step)
    return RewardModel(*(torch.from_numpy(part) for part in (position, by_step, item, ahead)))


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
    total = np.bincount(group, weights=residual * weight, minlength=groups)
    return shrunk(count, total, float(weight @ np.square(residual)), len(residual))


def shrunk(count: np.ndarray, total: np.ndarray, squares: float, numbers: int) -> np.ndarray:
    """The same from sums: of weights and of weighted residuals by group [G], of weighted squares; of n residuals."""
    mean = _ratio(total, count)
    present, weight = int((count > 0).sum()), float(count.sum())
    if numbers <= present or present < 2:
        return np.zeros(len(count))
    overall = float(total.sum()) / weight
    within = max(0.0, squares - float((count * np.square(mean)).sum())) / (numbers - present)
    spread = float((count * np.square(mean - overall)).sum()) - (present - 1) * within
    between = spread / (weight - float(np.square(count).sum()) / weight)
    if between <= 0:
        return np.zeros(len(count))
    return mean * count / (count + within / between)


def _ratio(total: np.ndarray, count: np.ndarray) -> np.ndarray:
    """0 where there is no weight."""
    return total / np.where(count > 0, count, 1.0)


@dataclass(frozen=True)
class _Rows:
    """A log's steps, a run at a time."""

    log: SessionLog
    fold: np.ndarray
    gamma: float
    weight: np.ndarray | None
    later: np.ndarray | None

    def runs(self, with_later: bool) -> Iterator[_Run]:
        for start, part in stretches(self.log, _STEPS_AT_ONCE):
            rows = slice(int(self.log.offsets[start]), int(self.log.offsets[start]) + part.steps)
            weight = None if self.weight is None else self.weight[rows]
            later = np.zeros(part.steps) if self.later is None else self.later[rows]
            if with_later and self.later is None:
                later = later_reward(part, step_of_rows(part), self.gamma)
            yield _Run.of(part, self.fold[start : start + part.sessions], weight, later)

    @property
    def longest(self) -> int:
        return max(int(part.lengths.max()) for _, part in stretches(self.log, _STEPS_AT_ONCE))


@dataclass(frozen=True)
class _Run:
    """Of n steps: step, fold, later, weight [n]; of m items shown: item, place, gain [m], and the row of each [m]."""

    step: np.ndarray
    fold: np.ndarray
    later: np.ndarray
    weight: np.ndarray
    item: np.ndarray
    place: np.ndarray
    gain: np.ndarray
    row: np.ndarray

    @staticmethod
    def of(log: SessionLog, fold: np.ndarray, weight: np.ndarray | None, later: np.ndarray) -> _Run:
        row, place = np.nonzero(log.items != PAD)
        return _Run(
            step=step_of_rows(log),
            fold=np.repeat(fold, log.lengths).astype(np.int64),
            later=later,
            weight=np.ones(log.steps) if weight is None else weight,
            item=log.items[row, place].astype(np.int64),
            place=place,
            gain=log.reward[row, place].astype(np.float64),
            row=row,
        )


@dataclass(frozen=True)
class _ByPlace:
    """Sums by fold: over items shown, by position and step [F, K, T], and over steps [F, T]; squares, numbers [F]."""

    count: np.ndarray
    gain: np.ndarray
    squares: np.ndarray
    numbers: np.ndarray
    reached: np.ndarray
    later: np.ndarray

    @staticmethod
    def of(rows: _Rows, folds: int) -> _ByPlace:
        # The last place is for sessions that are in no fold, which every model may learn from.
        shape = (folds + 1, rows.log.slate_size, rows.longest)
        found = _ByPlace(np.zeros(shape), np.zeros(shape), *np.zeros((2, shape[0])), *np.zeros((2, shape[0], shape[2])))
        for run in rows.runs(with_later=True):
            of_row = np.minimum(run.fold, folds)
            fold, step, weight = of_row[run.row], run.step[run.row], run.weight[run.row]
            cell = (fold * shape[1] + run.place) * shape[2] + step
            of_step = of_row * shape[2] + run.step
            for total, group, values in (
                (found.count, cell, weight),
                (found.gain, cell, weight * run.gain),
                (found.squares, fold, weight * np.square(run.gain)),
                (found.numbers, fold, None),
                (found.reached, of_step, run.weight),
                (found.later, of_step, run.weight * run.later),
            ):
                total += np.bincount(group, values, minlength=total.size).reshape(total.shape)
        return found

    def effects(self, fold: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """position [K], step [T] and ahead [T] from all folds but this one."""
        count, gain, squares, numbers, reached, later = (
            np.delete(part, fold, 0).sum(0)
            for part in (self.count, self.gain, self.squares, self.numbers, self.reached, self.later)
        )
        position = _ratio(gain.sum(1), count.sum(1))
        left = gain - position[:, None] * count
        unexplained = float(squares - (position[:, None] * (gain + left)).sum())
        return position, shrunk(count.sum(0), left.sum(0), unexplained, int(numbers)), _ratio(later, reached)


def _item_effects(rows: _Rows, position: np.ndarray, by_step: np.ndarray) -> np.ndarray:
    """[F, A]: what position [F, K] and step [F, T] leave of the reward, by item, from all folds but each one's own."""
    folds, catalogue = len(position), rows.log.catalogue
    # The last place is for sessions that are in no fold.
    shown, numbers = np.zeros((folds + 1, catalogue)), np.zeros(folds + 1)
    left, squares = np.zeros((folds, catalogue)), np.zeros(folds)
    for run in rows.runs(with_later=False):
        of_row = np.minimum(run.fold, folds)[run.row]
        weight, step = run.weight[run.row], run.step[run.row]
        shown += np.bincount(of_row * catalogue + run.item, weight, minlength=shown.size).reshape(shown.shape)
        numbers += np.bincount(of_row, minlength=folds + 1)
        for fold in range(folds):
            rest = run.gain - position[fold][run.place] - by_step[fold][step]
            weighed = weight * (of_row != fold) * rest
            left[fold] += np.bincount(run.item, weighed, minlength=catalogue)
            squares[fold] += float(weighed @ rest)
    found = []
    for fold in range(folds):
        count, number = (np.delete(part, fold, 0).sum(0) for part in (shown, numbers))
        found.append(shrunk(count, left[fold], squares[fold], int(number)))
    return np.stack(found)


def later_reward(log: SessionLog, step: np.ndarray, gamma: float, ratio: np.ndarray | None = None) -> np.ndarray:
    """float64 [N]: gamma G_{t+1}, the discounted reward of the rest of the session after each step row.

    With `ratio` [N], gamma ρ_{t+1} (r_{t+1} + ...): the same as the target would have earned it, in expectation.
    """
    ratio = np.ones(log.steps) if ratio is None else ratio
    now = np.where(log.items != PAD, log.reward, 0.0).sum(1, dtype=np.float64)
    later = np.zeros(log.steps)
    has_next = np.ones(log.steps, dtype=bool)
    has_next[log.offsets[1:] - 1] = False
    # Of 16-bit numbers a stable sort takes linear time.
    order = step.astype(np.int16) if len(step) and step.max() < 1 << 15 else step
    by_step = np.argsort(-order, kind="stable")
    for rows in np.split(by_step, np.cumsum(np.bincount(step)[::-1])[:-1]):
        going_on = rows[has_next[rows]]
        later[going_on] = gamma * ratio[going_on + 1] * (now[going_on + 1] + later[going_on + 1])
    return later
