"""What a policy-gradient step descends: corrected credit, a cost of leaving the reference, and a floor of entropy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recil.errors import InputError
from recil.logs.history import History
from recil.ops.policy_pass import Coefficient, PolicyPass, Reference, policy_pass
from recil.policies.softmax import SoftmaxPolicy
from recil.train.turns import Turn

# Of a reference's logits, so many in a step are enough.
REFERENCE_LOGITS = 1 << 24


@dataclass(frozen=True)
class Credited:
    """behaviour: log beta, and advantage, [B, T, K]; weight: log pi and log beta of some slates -> their weights."""

    behaviour: Tensor
    advantage: Tensor
    weight: Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class PolicyLoss:
    """loss: differentiable. log_prob [B, T, K], 0 at pads. entropy, kl, reference_entropy: means over steps.

    below: entropy was under the floor, so that the loss is that of entropy alone.
    """

    loss: Tensor
    log_prob: Tensor
    entropy: Tensor
    kl: Tensor
    reference_entropy: Tensor
    below: bool


def policy_loss(
    policy: SoftmaxPolicy,
    reference: SoftmaxPolicy | None,
    states: Tensor,
    sessions: History,
    credited: Credited,
    kl: float,
    floor: float,
    turn: int = 0,
) -> PolicyLoss:
    """Less the mean over items shown of weight * advantage * log pi, plus `kl` times the mean KL(pi || reference).

    states: [B, T + 1, D], of the policy. floor: a share of the reference's entropy (of a uniform choice without
    reference); below it entropy comes first, until it is above it again: no reward outweighs it. KL and entropies are
    means over every so many sessions, those whose turn it is, where steps times catalogue is beyond
    `REFERENCE_LOGITS` (see recil.train.turns): the reference costs as much as all the rest.
    """
    took_place = sessions.happened & sessions.shown.any(-1)
    slates, own, head = sessions.items[took_place], states[:, :-1][took_place], policy.head()
    if reference is None:
        asked, other = Turn.of(took_place, 1, turn), None
    else:
        asked = Turn.within(REFERENCE_LOGITS, policy.catalogue, took_place, turn)
        other = _beside(reference, sessions, took_place, asked.sessions)

    def run(coefficient: Coefficient, kl: float, entropy: float) -> PolicyPass:
        costs = kl if other is not None else 0.0, entropy

        def beside(rows: slice | Tensor, some: Coefficient) -> PolicyPass:
            return policy_pass(own[rows], slates[rows], *head, other, some, *costs)

        def alone(rows: slice | Tensor, some: Coefficient) -> PolicyPass:
            return policy_pass(own[rows], slates[rows], *head, None, some)

        return asked.run(beside, alone, coefficient)

    return guarded(run, sessions, credited, kl, floor)


@torch.no_grad()
def _beside(reference: SoftmaxPolicy, sessions: History, took_place: Tensor, chosen: Tensor) -> Reference:
    """The reference at the steps that took place in the chosen sessions (bool [B])."""
    few = sessions if bool(chosen.all()) else sessions.take(chosen.nonzero()[:, 0])
    return Reference(reference.before_steps(few)[took_place[chosen]], *reference.head())


def guarded(
    run: Callable[[Coefficient, float, float], PolicyPass],
    sessions: History,
    credited: Credited,
    kl: float,
    floor: float,
) -> PolicyLoss:
    """run: a pass over the steps that took place: their coefficients, the cost of KL, that of entropy -> what it found.

    floor: see `policy_loss`.
    """
    took_place, count = sessions.happened & sessions.shown.any(-1), sessions.shown.sum().clamp(min=1)
    behaviour, advantage = credited.behaviour[took_place], credited.advantage[took_place]

    def coefficient(rows: slice | Tensor, log_prob: Tensor) -> Tensor:
        return credited.weight(log_prob, behaviour[rows]) * advantage[rows] / -count

    found = run(coefficient, kl, 0.0)
    below = bool(found.entropy < floor * found.reference_entropy)
    if below:
        with torch.enable_grad():
            loss = run(_nothing, 0.0, -1.0).loss
        found = found._replace(loss=loss)
    return _of(found, took_place, sessions, below)


def _nothing(rows: slice | Tensor, log_prob: Tensor) -> Tensor:
    return torch.zeros_like(log_prob)


def _of(found: PolicyPass, took_place: Tensor, sessions: History, below: bool) -> PolicyLoss:
    log_prob = found.log_prob.new_zeros(sessions.items.shape).index_put((took_place,), found.log_prob)
    return PolicyLoss(found.loss, log_prob, found.entropy, found.kl, found.reference_entropy, below)


def log_propensity(sessions: History) -> Tensor:
    """[B, T, K] log beta of the logged items, 0 at pads."""
    if sessions.propensity is None:
        raise InputError("sessions", "have no propensities", "give the log the propensities of its policy's clone")
    return torch.where(sessions.shown, sessions.propensity, 1.0).log()
