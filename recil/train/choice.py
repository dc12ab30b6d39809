"""Which policy of a run to keep: a paired off-policy comparison with the clone on sessions nobody learned from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from recil.logs.clusters import clusters_of
from recil.ops.importance import effective_sample_size
from recil.ops.policy_gradient import per_step_weight
from recil.policies.softmax import SoftmaxPolicy
from recil.train.critic import give_credit
from recil.train.logged_sessions import LoggedSessions
from recil.train.policy_loss import log_propensity
from recil.train.policy_step import Learner


@dataclass(frozen=True)
class Gain:
    """value: estimated reward per item shown beyond the clone's; error: its standard error; ess: effective share."""

    value: float
    error: float
    ess: float

    def clear(self, margin: float) -> float:
        """What is left of the gain after `margin` standard errors."""
        return self.value - margin * self.error


def paired_gain(policy: Tensor, clone: Tensor, log_weight: Tensor, unit: np.ndarray | None = None) -> Gain:
    """Self-normalised difference of two policies on the same sessions, first order in the correction.

    policy, clone: [S, 2], each session's sum of ratios and of ratio * credit; log_weight: the policy's, [n]. The error
    is that of the pair (each session's influence on the difference of the two ratios), not the sum of two variances.
    unit: int64 [S], the independent one of each session, whose sums of influence are what varies; None: each its own.
    """

    def ratio(sums: Tensor) -> tuple[Tensor, Tensor]:
        value = sums[:, 1].sum() / sums[:, 0].sum()
        return value, (sums[:, 1] - value * sums[:, 0]) / sums[:, 0].mean()

    (value, influence), (before, influence_before) = ratio(policy), ratio(clone)
    apart = influence - influence_before
    if unit is not None:
        apart = apart.new_zeros(int(unit.max()) + 1).index_add(0, torch.from_numpy(unit).to(apart.device), apart)
    error = apart.square().sum().sqrt() / len(policy)
    return Gain(float(value - before), float(error), float(effective_sample_size(log_weight)) / len(log_weight))


# Fewer rewarded units (users, or sessions of a log without users) say nothing that an error could be trusted with.
ENOUGH_REWARDED = 10


@dataclass(frozen=True)
class Judge:
    """Held-out sessions with the credit of their items, fixed once: every policy of a run is judged by the same.

    credit: [S, T, K], in the order of `held_out`, 0 where nothing was shown; clone: [S, 2], the clone's sums;
    behaviour: log beta of each batch, [B, T, K]; unit: of each held-out session, None where each is its own.
    """

    sessions: LoggedSessions
    held_out: np.ndarray
    batch: int
    credit: Tensor
    clone: Tensor
    behaviour: tuple[Tensor, ...]
    unit: np.ndarray | None = None

    @staticmethod
    def of(learner: Learner, sessions: LoggedSessions, held_out: np.ndarray, batch: int) -> Judge:
        """The judge before the first policy step: credit by the critic, fitted to the logged policy's returns."""
        credit = torch.zeros(len(held_out), int(sessions.log.lengths[held_out].max()), sessions.log.slate_size)
        for start in range(0, len(held_out), batch):
            history = sessions.batch(held_out[start : start + batch])
            states = sessions.encode(learner.policy, history)
            advantage = give_credit(learner.critic, states, history, learner.scale, learner.config).advantage
            credit[start : start + batch, : history.steps] = advantage.cpu()
        return Judge.restored(learner, sessions, held_out, batch, credit)

    @staticmethod
    def restored(learner: Learner, sessions: LoggedSessions, held_out: np.ndarray, batch: int, credit: Tensor) -> Judge:
        """The judge of an interrupted run, from the credit it had."""
        parts = (sessions.batch(held_out[start : start + batch]) for start in range(0, len(held_out), batch))
        behaviour = tuple(log_propensity(sessions.with_propensities(part)) for part in parts)
        units = clusters_of(sessions.log, sessions.cluster).of
        unit = None if units is None else units[held_out]
        judge = Judge(sessions, held_out, batch, credit, torch.empty(0, 2), behaviour, unit)
        return replace(judge, clone=judge._sums(sessions.clone, learner)[0])

    def gain(self, learner: Learner) -> Gain:
        """The learner's policy against the clone, in reward per item shown; no gain where too few are rewarded."""
        sums, log_weight = self._sums(learner.policy, learner)
        gain = paired_gain(sums, self.clone, log_weight, self.unit)
        value = gain.value if self.rewarded() >= ENOUGH_REWARDED else 0.0
        return Gain(value * learner.scale, gain.error * learner.scale, gain.ess)

    def rewarded(self) -> int:
        """Held-out units with any reward."""
        rows, inside = self.sessions.log.rows(self.held_out)
        rewarded = ((self.sessions.log.reward[rows] != 0).any(-1) & inside).any(-1)
        return int(rewarded.sum()) if self.unit is None else len(np.unique(self.unit[rewarded]))

    def _sums(self, policy: SoftmaxPolicy, learner: Learner) -> tuple[Tensor, Tensor]:
        """Per session [S, 2]: sums of the capped ratios and of ratio * credit; the logs of the ratios shown, [n]."""
        sums, logs = [], []
        for start, behaviour in zip(range(0, len(self.held_out), self.batch), self.behaviour, strict=True):
            history = self.sessions.log.batch(self.held_out[start : start + self.batch]).to(behaviour.device)
            log_prob = self.sessions.log_prob(policy, history)
            weight = per_step_weight(log_prob, behaviour, learner.config.cap).double() * history.shown
            credit = self.credit[start : start + self.batch, : history.steps].to(weight.device)
            sums.append(torch.stack([weight.sum((1, 2)), (weight * credit).sum((1, 2))], -1))
            logs.append(weight[history.shown].log())
        return torch.cat(sums), torch.cat(logs)
