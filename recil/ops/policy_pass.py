"""One pass over the logits for a policy-gradient step near a reference: log p, entropy, KL, and all gradients.

With L the policy's logits, R the reference's, p and q their softmax, D = L - R: KL(p || q) = E_p[D] - log Z_p +
log Z_q, with gradient p (D - E_p[D]); the entropy is log Z_p - E_p[L], with gradient -p (L - E_p[L]). Both are added to
the gradient of the slates' log-probabilities (recil.ops.one_pass) before a block's products are made.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recil.ops.one_pass import Collector, Mass, are_tame, blocks_of, mass_of, standing

Coefficient = Callable[[slice | Tensor, Tensor], Tensor]


class Reference(NamedTuple):
    """Another softmax over the same catalogue, without gradient: states [N, D'], weight [A, D'], bias [A]."""

    states: Tensor
    weight: Tensor
    bias: Tensor


class PolicyPass(NamedTuple):
    """loss: differentiable; log_prob [N, K], 0 at pads; entropy, kl, reference_entropy: means over rows, constants."""

    loss: Tensor
    log_prob: Tensor
    entropy: Tensor
    kl: Tensor
    reference_entropy: Tensor


def policy_pass(
    states: Tensor,
    slate: Tensor,
    weight: Tensor,
    bias: Tensor,
    reference: Reference | None,
    coefficient: Coefficient,
    kl: float = 0.0,
    entropy: float = 0.0,
) -> PolicyPass:
    """sum of c log p, plus `kl` times the mean KL(p || reference), plus `entropy` times the mean entropy.

    states [N, D], slate int64 [N, K] (-1 pad), weight [A, D], bias [A]. coefficient: of some rows, and their log p
    [n, K] without gradient, the constants c [n, K]. Without a reference the KL is 0 and the reference entropy that of a
    uniform choice.
    """
    loss, log_prob, means = _PolicyPass.apply(states, weight, bias, slate, reference, coefficient, (kl, entropy))
    return PolicyPass(loss, log_prob, *means.unbind())


class _PolicyPass(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any,
        states: Tensor,
        weight: Tensor,
        bias: Tensor,
        slate: Tensor,
        reference: Reference | None,
        coefficient: Coefficient,
        costs: tuple[float, float],
    ) -> tuple[Tensor, Tensor, Tensor]:
        log_prob, total = states.new_empty(slate.shape), states.new_zeros(())
        sums = states.new_zeros(3)
        collect = Collector(states, weight, bias) if any(context.needs_input_grad) else None
        tame = are_tame(states, weight, bias), reference is not None and are_tame(*reference)
        each = costs[0] / max(len(states), 1), costs[1] / max(len(states), 1)
        for rows, (logits, out, *space) in blocks_of(states, len(weight), 2 if reference is None else 4):
            torch.addmm(bias, states[rows], weight.T, out=logits)
            found = mass_of(logits, slate[rows], out, tame[0])
            log_prob[rows] = found.log_prob
            parts = _Parts.of(found, logits, reference, rows, space, tame[1])
            constant = coefficient(rows, found.log_prob)
            total += torch.where(slate[rows] >= 0, constant * found.log_prob, 0.0).sum()
            sums += parts.sums()
            if collect is None:
                continue
            if any(costs):
                other = None if reference is None else space[0]
                collect.add(rows, _slope(found, parts, logits, other, slate[rows], constant, each))
            else:  # the slates alone, whose gradient is one number a row times the mass
                collect.add_slates(rows, found, slate[rows], constant)
        means = sums / max(len(states), 1)
        context.found = None if collect is None else collect.finish()
        loss = total + costs[0] * means[1] + costs[1] * means[0]
        context.mark_non_differentiable(log_prob, means)
        return loss, log_prob, means

    @staticmethod
    def backward(context: Any, upstream: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        return *(part * upstream for part in context.found), None, None, None, None


class _Parts(NamedTuple):
    """Of a block's rows, [n, 1]: Z, E_p[L], E_p[R], log Z_p, log Z_q, entropy of the reference."""

    whole: Tensor
    own: Tensor
    of_reference: Tensor
    log_own: Tensor
    log_reference: Tensor
    reference_entropy: Tensor

    @staticmethod
    def of(
        found: Mass, logits: Tensor, reference: Reference | None, rows: slice, space: list[Tensor], tame: bool
    ) -> _Parts:
        """space: where the reference's logits are left, and room for their mass; tame: these logits need no maximum."""
        whole = found.mass.sum(1, keepdim=True)
        own = _dot(found.mass, logits) / whole
        log_own = whole.log() + found.top
        if reference is None:
            uniform = torch.full_like(own, math.log(logits.shape[1]))
            return _Parts(whole, own, own, log_own, log_own, uniform)
        other, spare = space
        torch.addmm(reference.bias, reference.states[rows], reference.weight.T, out=other)
        top = torch.zeros_like(whole) if tame else other.amax(1, keepdim=True)
        mass = torch.exp(other, out=spare) if tame else torch.sub(other, top, out=spare).exp_()
        sums = mass.sum(1, keepdim=True)
        log_reference = sums.log() + top
        of_reference = _dot(found.mass, other) / whole
        return _Parts(whole, own, of_reference, log_own, log_reference, log_reference - _dot(mass, other) / sums)

    def sums(self) -> Tensor:
        """Entropy, KL, entropy of the reference, summed over rows."""
        kl = self.own - self.of_reference - self.log_own + self.log_reference
        return torch.stack([(self.log_own - self.own).sum(), kl.sum(), self.reference_entropy.sum()])


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return torch.linalg.vecdot(one, other).unsqueeze(1)


def _slope(
    found: Mass,
    parts: _Parts,
    logits: Tensor,
    other: Tensor | None,
    slate: Tensor,
    constant: Tensor,
    each: tuple[float, float],
) -> Tensor:
    """[n, A], in the place of the logits: the gradient of everything with respect to them. other: the reference's."""
    kl, entropy = each if other is not None else (0.0, each[1])
    share = torch.where(slate >= 0, constant / found.left, 0.0)
    # A cost of KL weighs L - R, one of entropy -L; what does not depend on the item goes into `level`.
    level = (entropy * parts.own - kl * (parts.own - parts.of_reference)) / parts.whole
    scale = parts.whole.reciprocal()
    factor = logits.mul_((kl - entropy) * scale)
    if other is not None and kl:
        factor.addcmul_(other, scale, value=-kl)
    chosen = factor.gather(1, slate.clamp(min=0)) + level
    own = torch.where(slate >= 0, constant - found.chosen * share.cumsum(1) + found.chosen * chosen, 0.0)
    slope = factor.add_(level - share.sum(1, keepdim=True)).mul_(found.mass)
    items, values = standing(slate, own)
    nothing = (slate < 0).all(1, keepdim=True)
    return slope.scatter_(1, items, torch.where(nothing, slope.gather(1, items), values))
