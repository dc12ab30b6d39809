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

# Of a reference's logits, so many in a step are enough, unless they are of fewer steps than a mean can rest on.
REFERENCE_LOGITS, FEWEST_STEPS = 1 << 24, 1024


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
    `REFERENCE_LOGITS` and `FEWEST_STEPS` are left: the reference costs as much as all the rest.
    """
    took_place = sessions.happened & sessions.shown.any(-1)
    slates, own, head = sessions.items[took_place], states[:, :-1][took_place], policy.head()
    every = 1 if reference is None else -(-len(slates) * policy.catalogue // REFERENCE_LOGITS)
    every = max(1, min(every, sessions.batch, len(slates) // FEWEST_STEPS))
    chosen = torch.arange(sessions.batch, device=slates.device) % every == turn % every
    near = chosen[:, None].expand_as(took_place)[took_place]
    beside = None if reference is None else _beside(reference, sessions, took_place, chosen)

    def run(coefficient: Coefficient, kl: float, entropy: float) -> PolicyPass:
        if every == 1:
            return policy_pass(own, slates, *head, beside, coefficient, kl if beside is not None else 0.0, entropy)
        parts = [
            policy_pass(own[rows], slates[rows], *head, other, _at(coefficient, rows), *costs)
            for rows, other, costs in (
                (near.nonzero()[:, 0], beside, (kl, entropy)),
                ((~near).nonzero()[:, 0], None, ()),
            )
        ]
        log_prob = torch.empty_like(slates, dtype=own.dtype)
        log_prob[near], log_prob[~near] = parts[0].log_prob, parts[1].log_prob
        return parts[0]._replace(loss=parts[0].loss + parts[1].loss, log_prob=log_prob)

    return guarded(run, sessions, credited, kl, floor)


@torch.no_grad()
def _beside(reference: SoftmaxPolicy, sessions: History, took_place: Tensor, chosen: Tensor) -> Reference:
    """The reference at the steps that took place in the chosen sessions (bool [B])."""
    few = sessions if bool(chosen.all()) else sessions.take(chosen.nonzero()[:, 0])
    return Reference(reference.before_steps(few)[took_place[chosen]], *reference.head())


def _at(coefficient: Coefficient, places: Tensor) -> Coefficient:
    """The coefficients of some rows, whose slices count those rows alone."""
    return lambda rows, log_prob: coefficient(places[rows], log_prob)


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
