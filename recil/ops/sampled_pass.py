"""Slates scored against the items on them and a sample of the others, in place of a pass over the whole catalogue.

A row's partition function sum_a e^{L_a} is split into the items on its own slate, whose part is exact, and all others,
whose part is estimated by a weighted sample (recil.ops.proposal) without those that stand on the slate. The estimate Z'
is unbiased, so log p' = L - log Z' is too large by about Var(Z') / (2 Z^2): it tends to log p as the sample grows, and
is log p where the sample holds every item with weight 1. Averages over the policy are self-normalised over the same
items: with p'_a = w_a e^{L_a} / Z', the entropy is log Z' - E'[L], and KL(p || q) is E'[L - R] - log Z'_p + log Z'_q.
The gradient of the latter is p'_a (D_a - E'[D]), D = L - R: the covariance under p' of D and the gradient of L, as
that of the exact one is under p. Source of the correction: Bengio & Senecal (2008), "Adaptive importance sampling to
accelerate training of a neural probabilistic language model".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recil.ops.policy_pass import Coefficient, PolicyPass, Reference

# Logits of a block of rows: several tensors of this size live at once.
LOGITS_AT_ONCE = 1 << 20
# The logarithm of nothing, as a number whose gradients are numbers.
_NOTHING = -1e30


class Columns(NamedTuple):
    """The sampled items. place: int64 [k], rows of the tables at hand, each once; log_weight: [k]."""

    place: Tensor
    log_weight: Tensor


class Costs(NamedTuple):
    """What the loss adds to sum of c log p: so much of the mean KL to the reference, and of the mean entropy."""

    kl: float = 0.0
    entropy: float = 0.0


NO_COSTS = Costs()


class _Scores(NamedTuple):
    """Logits of the slate [n, K] and of the sample [n, k]."""

    slate: Tensor
    sample: Tensor


def sampled_pass(
    states: Tensor,
    slate: Tensor,
    weight: Tensor,
    bias: Tensor,
    columns: Columns,
    coefficient: Coefficient,
    reference: Reference | None = None,
    costs: Costs = NO_COSTS,
) -> PolicyPass:
    """As `recil.ops.policy_pass.policy_pass`, over slates and a sample of a catalogue.

    states: [N, D]; slate: int64 [N, K], rows of `weight` [M, D] and `bias` [M], -1 pad; a reference's tables have the
    same rows. Without reference nothing but log p is worked out: KL and both entropies are 0.
    """
    own = slate.clamp(min=0)
    beside = None
    if reference is not None:
        vectors = reference.weight[own], reference.bias[own], reference.weight[columns.place]
        beside = (reference.states, *vectors, reference.bias[columns.place])
    column_of = slate.new_full((len(weight) + 1,), -1)
    column_of[columns.place] = torch.arange(len(columns.place), device=slate.device)
    # A pad looks at the last entry, which no sampled item has.
    hit = column_of[torch.where(slate >= 0, slate, len(weight))]
    task = _Task(slate, hit, columns.log_weight.to(states.dtype), coefficient, beside, costs)
    inputs = states, weight[own], bias[own], weight[columns.place], bias[columns.place]
    loss, log_prob, means = _InBlocks.apply(task, *inputs)
    return PolicyPass(loss, log_prob, *means.unbind())


class _Task(NamedTuple):
    slate: Tensor
    hit: Tensor
    log_weight: Tensor
    coefficient: Coefficient
    reference: tuple[Tensor, ...] | None
    costs: Costs


class _Block(NamedTuple):
    """Of some rows: loss, log p [n, K], sums of the three means, and the gradients of all inputs."""

    loss: Tensor
    log_prob: Tensor
    sums: Tensor
    gradients: tuple[Tensor, ...]


class _InBlocks(torch.autograd.Function):
    """Loss and gradients of a block of rows at a time: memory does not grow with the rows."""

    @staticmethod
    def forward(context: Any, task: _Task, *inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        states = inputs[0]
        log_prob, loss, sums = states.new_empty(task.slate.shape), states.new_zeros(()), states.new_zeros(3)
        found = [torch.zeros_like(part) for part in inputs] if any(context.needs_input_grad) else []
        for rows in _rows(len(states), task.slate.shape[1] + len(task.log_weight)):
            # The first three inputs have a row for each of the rows; the sample's vectors and biases are theirs all.
            pieces = [part[rows] if index < 3 else part for index, part in enumerate(inputs)]
            block = (_slates_alone if task.reference is None else _beside_reference)(task, rows, pieces, len(states))
            log_prob[rows] = block.log_prob
            loss, sums = loss + block.loss, sums + block.sums
            for index, (total, part) in enumerate(zip(found, block.gradients, strict=False)):
                (total[rows] if index < 3 else total).add_(part)
        context.found = found
        means = sums / max(len(states), 1)
        context.mark_non_differentiable(log_prob, means)
        return loss, log_prob, means

    @staticmethod
    def backward(context: Any, upstream: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        return None, *(part * upstream for part in context.found)


def _rows(rows: int, width: int) -> Iterator[slice]:
    size = max(1, LOGITS_AT_ONCE // width)
    for first in range(0, rows, size):
        yield slice(first, min(first + size, rows))


def _slates_alone(task: _Task, rows: slice, pieces: list[Tensor], count: int) -> _Block:
    """Sum of c log p: the sample counts by its mass alone, so the products of its gradient need one pass over it."""
    states, own, own_bias, sampled, sampled_bias = pieces
    shown, slate = task.slate[rows] >= 0, task.slate[rows]
    logits = torch.addmm(sampled_bias + task.log_weight, states, sampled.T)
    row, position = (task.hit[rows] >= 0).nonzero(as_tuple=True)
    logits[row, task.hit[rows][row, position]] = _NOTHING
    top = logits.amax(1, keepdim=True)
    mass = logits.sub_(top).exp_()
    with torch.enable_grad():
        rest = mass.sum(1, keepdim=True).requires_grad_()
        scores = ((own @ states[:, :, None])[..., 0] + own_bias).requires_grad_()
        log_prob = _log_prob(scores, rest.log() + top, shown, slate)
        loss = torch.where(shown, task.coefficient(rows, log_prob.detach()) * log_prob, 0.0).sum()
        slope, of_rest = torch.autograd.grad(loss, (scores, rest))
    gradients = (
        (mass @ sampled).mul_(of_rest) + (slope[..., None] * own).sum(1),
        slope[..., None] * states[:, None],
        slope,
        mass.T @ (states * of_rest),
        mass.T @ of_rest[:, 0],
    )
    return _Block(loss.detach(), log_prob.detach(), states.new_zeros(3), gradients)


def _beside_reference(task: _Task, rows: slice, pieces: list[Tensor], count: int) -> _Block:
    """Sum of c log p with the costs of KL and entropy, differentiated as it stands."""
    assert task.reference is not None
    shown = task.slate[rows] >= 0
    leaves = [piece.detach().requires_grad_() for piece in pieces]
    add = _log_weights(task.hit[rows], task.log_weight)
    states, own, own_bias, *rest = task.reference
    with torch.enable_grad():
        scores = _scores(*leaves)
        left = (scores.sample + add).logsumexp(1, keepdim=True).clamp(min=_NOTHING)
        log_prob = _log_prob(scores.slate, left, shown, task.slate[rows])
        loss = torch.where(shown, task.coefficient(rows, log_prob.detach()) * log_prob, 0.0).sum()
        other = _scores(states[rows], own[rows], own_bias[rows], *rest)
        measures = _measures(scores, other, shown, add)
        kl, entropy = task.costs
        loss = loss + (kl * measures[1] + entropy * measures[0]) / count
    return _Block(loss.detach(), log_prob.detach(), measures.detach(), torch.autograd.grad(loss, leaves))


def _scores(states: Tensor, own: Tensor, own_bias: Tensor, sampled: Tensor, sampled_bias: Tensor) -> _Scores:
    return _Scores((own @ states[:, :, None])[..., 0] + own_bias, torch.addmm(sampled_bias, states, sampled.T))


def _log_weights(hit: Tensor, log_weight: Tensor) -> Tensor:
    """[n, k]: those of the sample, nothing for what stands on a row's slate. hit: int64 [n, K], -1 where it is not."""
    add = log_weight.repeat(len(hit), 1)
    row, position = (hit >= 0).nonzero(as_tuple=True)
    add[row, hit[row, position]] = _NOTHING
    return add


def _log_prob(scores: Tensor, rest: Tensor, shown: Tensor, slate: Tensor) -> Tensor:
    """log p [n, K] from the slate's own logits and the logarithm of what all other items sum to, [n, 1]."""
    own = torch.where(shown, scores, _NOTHING)
    # What is left at a position: the others, and the slate from there on.
    left = torch.cat([rest, own.flip(1)], 1).logcumsumexp(1)[:, 1:].flip(1)
    twice = ((slate[:, :, None] == slate[:, None]) & shown[:, :, None]).tril(-1).any(-1)
    return torch.where(shown, torch.where(twice, -torch.inf, own - left), 0.0)


def _measures(scores: _Scores, other: _Scores, shown: Tensor, add: Tensor) -> Tensor:
    """Sums over rows of the entropy, KL(p || q) and the entropy of q."""
    logits, logits_of_reference = torch.cat(scores, 1), torch.cat(other, 1)
    weight = torch.cat([torch.where(shown, 0.0, _NOTHING).to(add.dtype), add], 1)

    def normalised(values: Tensor) -> tuple[Tensor, Tensor]:
        corrected = values + weight
        whole = corrected.logsumexp(1, keepdim=True)
        return (corrected - whole).exp(), whole[:, 0]

    own, log_own = normalised(logits)
    reference, log_reference = normalised(logits_of_reference)
    entropy = log_own - (own * logits).sum(1)
    kl = (own * (logits - logits_of_reference)).sum(1) - log_own + log_reference
    return torch.stack([entropy.sum(), kl.sum(), (log_reference - (reference * logits_of_reference).sum(1)).sum()])
