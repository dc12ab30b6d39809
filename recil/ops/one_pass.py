"""Log-probabilities of slates over a large catalogue with their gradients, a block of rows at a time.

With logits l = states W' + b, mass E = exp(l - max) and Z_k what is left of it at position k, the gradient of
sum_k c_k log p_k with respect to the logits is, for an item that is not on the slate, -E sum_k c_k / Z_k; for the item
at position j, c_j - E_j sum_{k <= j} c_k / Z_k, since it is gone from what is left after it. So one pass over the
logits serves any number of positions, and a block of logits lives only as long as its three matrix products. The
factor of E is one number a row, and scales the rows of the narrow matrices; what items on the slate have instead is
added for all rows at the end. The idea of never storing the logits: Wijmans et al. (2024), "Cut your losses in
large-vocabulary language models".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

# Logits of a block: few enough to stay in a processor's cache between passes, enough for its products to be fast.
LOGITS_AT_ONCE = 1 << 21
# Logits no larger than this need no maximum taken off: their sums over a catalogue are far from the ends of float32.
_TAME = 50.0
# Where less than this share of the mass is left, what was taken away is too close to all of it to be subtracted.
_LEFT = 0.3
# Of what is left, in units of the smallest normal number: coefficients of this size still have a finite share of it.
_FAINTEST = 1e8


class Gradients(NamedTuple):
    """Of the states [N, D], the items' vectors [A, D] and the biases [A]."""

    states: Tensor
    weight: Tensor
    bias: Tensor


class Mass(NamedTuple):
    """A block's mass exp(l - top) [n, A] and top [n, 1]; of the chosen items [n, K]; left at each position; log p."""

    mass: Tensor
    top: Tensor
    chosen: Tensor
    left: Tensor
    log_prob: Tensor


def weighted_log_prob(
    states: Tensor, slate: Tensor, coefficient: Tensor, weight: Tensor, bias: Tensor, reduced: bool = False
) -> tuple[Tensor, Tensor]:
    """Sum of coefficient * log p, with its gradients from the same pass; and log p, which is not differentiated.

    states: [N, D]; slate: int64 [N, K], -1 pad; coefficient: [N, K], without gradient; weight: [A, D]; bias: [A]. p is
    the probability of an item under the softmax, given those before it on the slate. Returns a scalar and [N, K], 0 at
    pads. reduced: the products of the gradient, but not of the logits, in bfloat16.
    """
    _check(states, slate, weight)
    if coefficient.shape != slate.shape:
        raise ValueError(f"weighted_log_prob: coefficient {tuple(coefficient.shape)} for slate {tuple(slate.shape)}")
    total, log_prob = _WeightedLogProb.apply(states, slate, coefficient.detach(), weight, bias, reduced)
    return total, log_prob.detach()


def slate_log_prob(states: Tensor, slate: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """log p, [N, K], 0 at pads, differentiable: the backward pass makes the logits again. See `weighted_log_prob`."""
    _check(states, slate, weight)
    return _SlateLogProb.apply(states, slate, weight, bias)


def _check(states: Tensor, slate: Tensor, weight: Tensor) -> None:
    if states.ndim != 2 or slate.shape[:1] != states.shape[:1] or weight.shape[1] != states.shape[1]:
        raise ValueError(f"states {tuple(states.shape)}, slate {tuple(slate.shape)}, weight {tuple(weight.shape)}")


class _WeightedLogProb(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, states: Tensor, slate: Tensor, coefficient: Tensor, weight: Tensor, bias: Tensor, reduced: bool
    ) -> tuple[Tensor, Tensor]:
        log_prob = states.new_empty(slate.shape)
        collect = Collector(states, weight, bias, reduced) if any(context.needs_input_grad) else None
        tame = are_tame(states, weight, bias)
        for rows, (out,) in blocks_of(states, len(weight)):
            logits = torch.addmm(bias, states[rows], weight.T, out=out)
            found = mass_of(logits, slate[rows], out, tame)
            log_prob[rows] = found.log_prob
            if collect is not None:
                collect.add_slates(rows, found, slate[rows], coefficient[rows])
        context.found = None if collect is None else collect.finish()
        total = torch.where(slate >= 0, log_prob * coefficient, 0.0).sum()
        context.mark_non_differentiable(log_prob)
        return total, log_prob

    @staticmethod
    def backward(context: Any, upstream: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        states, weight, bias = (part * upstream for part in context.found)
        return states, None, None, weight, bias, None


class _SlateLogProb(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, states: Tensor, slate: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        log_prob, tame = states.new_empty(slate.shape), are_tame(states, weight, bias)
        for rows, (out,) in blocks_of(states, len(weight)):
            logits = torch.addmm(bias, states[rows], weight.T, out=out)
            log_prob[rows] = mass_of(logits, slate[rows], out, tame).log_prob
        context.save_for_backward(states, slate, weight, bias)
        return log_prob

    @staticmethod
    def backward(context: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        states, slate, weight, bias = context.saved_tensors
        collect, tame = Collector(states, weight, bias), are_tame(states, weight, bias)
        for rows, (out,) in blocks_of(states, len(weight)):
            logits = torch.addmm(bias, states[rows], weight.T, out=out)
            collect.add_slates(rows, mass_of(logits, slate[rows], out, tame), slate[rows], upstream[rows])
        found = collect.finish()
        return found.states, None, found.weight, found.bias


def blocks_of(states: Tensor, catalogue: int, buffers: int = 1) -> Iterator[tuple[slice, list[Tensor]]]:
    """Rows, and for each buffer [n, catalogue] a piece of the same memory in every block."""
    # Several buffers share the cache.
    size = max(1, LOGITS_AT_ONCE // (1 if buffers == 1 else 2) // max(1, catalogue))
    space = [states.new_empty((min(size, len(states)), catalogue)) for _ in range(buffers)]
    for first in range(0, len(states), size):
        rows = slice(first, min(first + size, len(states)))
        yield rows, [buffer[: rows.stop - first] for buffer in space]


def are_tame(states: Tensor, weight: Tensor, bias: Tensor) -> bool:
    """Whether no logit can be large, by the longest vectors on either side."""
    if not len(states) or not len(weight):
        return True
    longest = torch.linalg.vector_norm(states, dim=1).amax() * torch.linalg.vector_norm(weight, dim=1).amax()
    return bool(longest + bias.abs().amax() <= _TAME)


def mass_of(logits: Tensor, slate: Tensor, out: Tensor, tame: bool = False) -> Mass:
    """The mass of a block's logits [n, A], written to `out`, which may be the logits themselves.

    tame: exp(logits) as they are, with a top of 0.
    """
    shown, items = slate >= 0, slate.clamp(min=0)
    top = logits.new_zeros((len(logits), 1)) if tame else logits.amax(1, keepdim=True)
    chosen = logits.gather(1, items) - top
    mass = torch.exp(logits, out=out) if tame else torch.sub(logits, top, out=out).exp_()
    taken = torch.where(shown, chosen.exp(), 0.0)
    whole = mass.sum(1, keepdim=True)
    before = taken.cumsum(1) - taken
    left = whole - before
    close = left < _LEFT * whole
    if slate.shape[1] > 1 and bool(close.any()):
        left = _summed_afresh(left, close, mass, slate)
    log_prob = chosen - left.log()
    if slate.shape[1] > 1:
        twice = ((slate[:, :, None] == slate[:, None]) & shown[:, :, None]).tril(-1).any(-1)
        log_prob = log_prob.masked_fill(twice, -torch.inf)
    return Mass(mass, top, taken, left, torch.where(shown, log_prob, 0.0))


def _summed_afresh(left: Tensor, close: Tensor, mass: Tensor, slate: Tensor) -> Tensor:
    """`left` with its entries at `close` replaced by the sum of what is left."""
    row, position = close.nonzero(as_tuple=True)
    before = torch.where(torch.arange(slate.shape[1], device=slate.device) < position[:, None], slate[row], -1)
    remains = torch.cat([mass[row], mass.new_zeros((len(row), 1))], 1)
    remains.scatter_(1, torch.where(before >= 0, before, mass.shape[1]), 0.0)
    return left.index_put((row, position), remains.sum(1).clamp(min=_FAINTEST * torch.finfo(mass.dtype).tiny))


class Collector:
    """Sums gradients over blocks."""

    def __init__(self, states: Tensor, weight: Tensor, bias: Tensor, reduced: bool = False) -> None:
        self.weight, self.bias = torch.zeros_like(weight), torch.zeros_like(bias)
        self.states = torch.empty_like(states)
        self.dtype = torch.bfloat16 if reduced else states.dtype
        self.inputs, self.vectors = states, weight
        self.narrow = weight.to(self.dtype)
        self.own: list[tuple[slice, Tensor, Tensor]] = []

    def add(self, rows: slice, slope: Tensor) -> None:
        """slope: [n, A], the gradient of these rows' logits."""
        self.bias += slope.sum(0)
        self._multiply(rows, slope.to(self.dtype), self.inputs[rows])

    def add_slates(self, rows: slice, found: Mass, slate: Tensor, coefficient: Tensor) -> None:
        """That of sum coefficient * log p of these rows' slates; their mass is written over."""
        share = torch.where(slate >= 0, coefficient / found.left, 0.0)
        own = torch.where(slate >= 0, coefficient - found.chosen * share.cumsum(1), 0.0)
        self.own.append((rows, slate, own))
        mass = found.mass.scatter_(1, *standing(slate, torch.zeros_like(own)))
        scale = share.sum(1, keepdim=True).neg_()
        self.bias.addmv_(mass.T, scale[:, 0])
        self._multiply(rows, mass.to(self.dtype), self.inputs[rows] * scale)
        self.states[rows] *= scale

    def _multiply(self, rows: slice, slope: Tensor, inputs: Tensor) -> None:
        self.states[rows] = slope @ self.narrow
        if self.dtype == self.weight.dtype:
            self.weight.addmm_(slope.T, inputs)
        else:
            self.weight += slope.T @ inputs.to(self.dtype)

    def finish(self) -> Gradients:
        """The sums, with what the items on slates have of their own, which is added for all rows at once."""
        for rows, slate, own in self.own:
            self.states[rows] += (own[..., None] * self.vectors[slate.clamp(min=0)]).sum(1)
        if self.own:
            items = torch.cat([slate for _, slate, _ in self.own]).clamp(min=0).flatten()
            beside = torch.nn.functional.pad(self.inputs, (0, 1), value=1.0)  # a last column for the bias
            values = torch.cat([own[..., None] * beside[rows, None] for rows, _, own in self.own]).flatten(0, 1)
            summed = torch.ops.aten.embedding_dense_backward(values, items, len(self.weight), -1, False)
            self.weight += summed[:, :-1]
            self.bias += summed[:, -1]
        return Gradients(self.states, self.weight, self.bias)


def standing(slate: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Items [n, K] and values [n, K] to be written at them; pads repeat the first item shown and its value."""
    shown = slate >= 0
    positions = torch.arange(slate.shape[1], device=slate.device)
    place = torch.where(shown, positions, shown.int().argmax(1, keepdim=True))
    return slate.clamp(min=0).gather(1, place), values.gather(1, place)
