"""What every estimator is computed from: sums over sessions, one row per bootstrap replicate.

The sums are all that is kept of a log, so one pass and a fixed amount of memory serve every estimator and replicate,
and the sums of two parts of a log merge into those of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# A weight above e**600 is reported as e**600; no verdict lets such an estimate through.
_LARGEST_LOG = 600.0


@dataclass(frozen=True)
class Spread:
    """How unevenly positive numbers are spread, without keeping them: M columns, each scaled by its largest number.

    scale [M] log of the largest number (-inf: all are 0); total, squares [M]: sums of x / e**scale and its square
    """

    scale: Tensor
    total: Tensor
    squares: Tensor

    @staticmethod
    def of(logs: Tensor) -> Spread:
        """logs: [B, M], logarithms of the numbers."""
        scale = logs.amax(0)
        scaled = relative(logs, scale)
        return Spread(scale, scaled.sum(0), scaled.square().sum(0))

    def merge(self, other: Spread) -> Spread:
        scale = torch.maximum(self.scale, other.scale)
        here, there = relative(self.scale, scale), relative(other.scale, scale)
        return Spread(
            scale,
            self.total * here + other.total * there,
            self.squares * here.square() + other.squares * there.square(),
        )

    def widen(self, columns: int) -> Spread:
        """Repeat the last column: an ended session keeps its last weight."""
        return Spread(*(_repeat_last(part, columns) for part in (self.scale, self.total, self.squares)))

    @property
    def effective_size(self) -> Tensor:
        """(sum x)**2 / sum x**2, [M]; 0 where every number is 0."""
        return torch.where(self.squares > 0, self.total.square() / self.squares.clamp(min=1e-300), 0.0)

    @property
    def largest_share(self) -> Tensor:
        """The largest number over the sum, [M]: by the choice of the scale the largest is 1. nan where all are 0."""
        return torch.where(self.total > 0, 1.0 / self.total.clamp(min=1e-300), torch.nan)


def relative(logs: Tensor, scale: Tensor) -> Tensor:
    """exp(logs - scale), and 0 for logs of -inf whatever the scale."""
    return torch.where(logs.isneginf(), 0.0, (logs - scale).exp())


def unscale(scale: Tensor) -> Tensor:
    """e**scale, kept finite."""
    return scale.clamp(max=_LARGEST_LOG).exp()


def _repeat_last(values: Tensor, columns: int) -> Tensor:
    missing = columns - values.shape[-1]
    return torch.cat([values, values[..., -1:].expand(*values.shape[:-1], missing)], -1) if missing else values


def _append_zeros(values: Tensor, columns: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, columns - values.shape[-1]))


@dataclass(frozen=True)
class SessionArrays:
    """What is known about B sessions under one target policy; all float64, rewards and predictions discounted.

    log_weight    [B, T], log w_{0:t} after the cap, an ended session keeps its last one
    reward        [B, T], gamma**t r_t summed over the slate
    happened      bool [B, T]
    capped        bool [B, T], the cap changed this weight, an ended session's too
    predicted     [B, T], gamma**t Q(x_t, slate_t); expected [B, T], gamma**t E_pi Q(x_t, .); None without a model
    """

    log_weight: Tensor
    reward: Tensor
    happened: Tensor
    capped: Tensor
    predicted: Tensor | None = None
    expected: Tensor | None = None


@dataclass(frozen=True)
class SessionSums:
    """Sums over sessions. R + 1 rows: row 0 counts every session once, the others are bootstrap replicates.

    sessions        [R+1], how many sessions
    returns         [R+1], sum of G, the discounted return
    whole           [R+1], sum of w_{0:T-1} G / e**scale of the last step
    weight, reward, predicted, expected
                    [R+1, T], sums of w_{0:t}, w_{0:t} r_t and w_{0:t} Q_t over e**scale_t, and of w_{0:t-1} V_t over
                    e**scale_{t-1}
    weights         Spread over the T steps' weights; its scale is the scale meant above
    contributions   Spread of |G|, w_{0:T-1} |G| and sum_t |w_{0:t} r_t| over sessions: 3 columns
    alive           [T], sessions that reached the step
    capped          [T], sessions whose weight at the step the cap changed, ended ones included
    rewarded        sessions with any reward
    """

    sessions: Tensor
    returns: Tensor
    whole: Tensor
    weight: Tensor
    reward: Tensor
    predicted: Tensor
    expected: Tensor
    weights: Spread
    contributions: Spread
    alive: Tensor
    capped: Tensor
    rewarded: int

    @staticmethod
    def of(arrays: SessionArrays, counts: Tensor) -> SessionSums:
        """counts: float64 [R+1, B], how often each replicate takes each session; row 0 is ones."""
        weights = Spread.of(arrays.log_weight)
        weight = relative(arrays.log_weight, weights.scale)
        before = torch.cat([torch.ones_like(weight[:, :1]), weight[:, :-1]], 1)
        nothing = torch.zeros_like(weight)
        total = arrays.reward.sum(1)
        return SessionSums(
            sessions=counts.sum(1),
            returns=counts @ total,
            whole=counts @ (weight[:, -1] * total),
            weight=counts @ weight,
            reward=counts @ (weight * arrays.reward),
            predicted=counts @ (weight * arrays.predicted) if arrays.predicted is not None else counts @ nothing,
            expected=counts @ (before * arrays.expected) if arrays.expected is not None else counts @ nothing,
            weights=weights,
            contributions=Spread.of(_log_contributions(arrays)),
            alive=arrays.happened.double().sum(0),
            capped=arrays.capped.double().sum(0),
            rewarded=int((arrays.reward != 0).any(1).sum()),
        )

    def merge(self, other: SessionSums) -> SessionSums:
        """The sums over both sets of sessions, which share none."""
        steps = max(self.steps, other.steps)
        first, second = self._widen(steps), other._widen(steps)
        weights = first.weights.merge(second.weights)
        here, there = relative(first.weights.scale, weights.scale), relative(second.weights.scale, weights.scale)
        here_before, there_before = _one_step_later(here), _one_step_later(there)
        return SessionSums(
            sessions=first.sessions + second.sessions,
            returns=first.returns + second.returns,
            whole=first.whole * here[-1] + second.whole * there[-1],
            weight=first.weight * here + second.weight * there,
            reward=first.reward * here + second.reward * there,
            predicted=first.predicted * here + second.predicted * there,
            expected=first.expected * here_before + second.expected * there_before,
            weights=weights,
            contributions=first.contributions.merge(second.contributions),
            alive=first.alive + second.alive,
            capped=first.capped + second.capped,
            rewarded=first.rewarded + second.rewarded,
        )

    @property
    def steps(self) -> int:
        return self.weight.shape[1]

    @property
    def unit(self) -> Tensor:
        """[T], what the scaled sums at each step are multiplied by."""
        return unscale(self.weights.scale)

    @property
    def unit_before(self) -> Tensor:
        """[T], the same for the sums of w_{0:t-1} V_t."""
        return _one_step_later(self.unit)

    def _widen(self, steps: int) -> SessionSums:
        return SessionSums(
            sessions=self.sessions,
            returns=self.returns,
            whole=self.whole,
            weight=_repeat_last(self.weight, steps),
            reward=_append_zeros(self.reward, steps),
            predicted=_append_zeros(self.predicted, steps),
            expected=_append_zeros(self.expected, steps),
            weights=self.weights.widen(steps),
            contributions=self.contributions,
            alive=_append_zeros(self.alive, steps),
            capped=_repeat_last(self.capped, steps),
            rewarded=self.rewarded,
        )


def _one_step_later(values: Tensor) -> Tensor:
    """[T], shifted by one step; before the first step the weight is 1."""
    return torch.cat([torch.ones_like(values[:1]), values[:-1]])


def _log_contributions(arrays: SessionArrays) -> Tensor:
    """log of |G|, w_{0:T-1} |G| and sum_t |w_{0:t} r_t|, [B, 3]."""
    log_size = arrays.reward.abs().sum(1).log()
    by_step = torch.logsumexp(arrays.log_weight + arrays.reward.abs().log(), 1)
    return torch.stack([log_size, log_size + arrays.log_weight[:, -1], by_step], 1)
