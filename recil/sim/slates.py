"""Distributions over slates: ordered lists of distinct items of a catalogue."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from recil.ops.one_pass import slate_log_prob
from recil.ops.slates import plackett_luce_log_prob, sample_plackett_luce
from recil.ops.softmax import sample_inner_products
from recil.sim.draws import draw, precision_of, uniforms_needed


class UniformSlate(Distribution):
    """Every slate of `size` distinct items out of `catalogue` is as likely as any other. Values: int64 [B, size].

    batch: B; device: where values are made.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, batch: int, catalogue: int, size: int, device: torch.device | None = None) -> None:
        if not 1 <= size <= catalogue:
            raise ValueError(f"UniformSlate: {size} of {catalogue} items; wanted 1 to {catalogue}")
        self.catalogue, self.size, self.device = catalogue, size, device
        super().__init__(torch.Size([batch]), torch.Size([size]), validate_args=False)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:
        return constraints.independent(constraints.integer_interval(0, self.catalogue - 1), 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """float64 [B]; minus infinity where an item stands twice or is not in the catalogue."""
        one = math.lgamma(self.catalogue - self.size + 1) - math.lgamma(self.catalogue + 1)
        ordered = value.sort(-1).values
        possible = (ordered[..., 1:] != ordered[..., :-1]).all(-1)
        possible = possible & ((value >= 0) & (value < self.catalogue)).all(-1)
        return torch.full_like(possible, one, dtype=torch.float64).masked_fill(~possible, -torch.inf)


class SoftmaxSlate(Distribution):
    """Items drawn one after the other from a softmax over what is left (Plackett-Luce). Values: int64 [B, size].

    logits: [B, A].
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, logits: Tensor, size: int) -> None:
        self.logits, self.size = logits, size
        super().__init__(logits.shape[:1], torch.Size([size]), validate_args=False)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:
        return constraints.independent(constraints.integer_interval(0, self.logits.shape[-1] - 1), 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """[B]."""
        return plackett_luce_log_prob(self.logits, value).sum(-1)


class InnerProductSlate(Distribution):
    """A SoftmaxSlate whose logits are states @ weight.T + bias, made as they are needed and never stored all at once.

    states: [B, D]; weight: [A, D]; bias: [A].
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, states: Tensor, weight: Tensor, bias: Tensor, size: int) -> None:
        self.states, self.weight, self.bias, self.size = states, weight, bias, size
        super().__init__(states.shape[:1], torch.Size([size]), validate_args=False)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:
        return constraints.independent(constraints.integer_interval(0, len(self.weight) - 1), 1)

    def log_prob(self, value: Tensor) -> Tensor:
        """[B]."""
        return slate_log_prob(self.states, value, self.weight, self.bias).sum(-1)


@precision_of.register(UniformSlate)
@precision_of.register(SoftmaxSlate)
@precision_of.register(InnerProductSlate)
def _(distribution: UniformSlate | SoftmaxSlate | InnerProductSlate) -> torch.dtype:
    # A uniform in float32 has 2**23 values, too few to be fair to a large catalogue.
    return torch.float64


@uniforms_needed.register(UniformSlate)
@uniforms_needed.register(SoftmaxSlate)
@uniforms_needed.register(InnerProductSlate)
def _(distribution: UniformSlate | SoftmaxSlate | InnerProductSlate) -> int:
    return distribution.size


@draw.register
def _(distribution: UniformSlate, uniforms: Tensor) -> Tensor:
    """Each place draws a rank among the items that are left; ranks become items by stepping over those taken."""
    taken: list[Tensor] = []  # in ascending order
    items = []
    for place, uniform in enumerate(uniforms.unbind(-1)):
        item = (uniform * (distribution.catalogue - place)).long()
        for other in taken:
            item = item + (item >= other)
        items.append(item)
        taken = _inserted(taken, item)
    return torch.stack(items, -1)


def _inserted(ascending: list[Tensor], item: Tensor) -> list[Tensor]:
    result = []
    for other in ascending:
        result.append(torch.minimum(other, item))
        item = torch.maximum(other, item)
    return [*result, item]


@draw.register
def _(distribution: SoftmaxSlate, uniforms: Tensor) -> Tensor:
    return sample_plackett_luce(distribution.logits, uniforms)[0]


@draw.register
def _(distribution: InnerProductSlate, uniforms: Tensor) -> Tensor:
    return sample_inner_products(distribution.states, uniforms, distribution.weight, distribution.bias)[0]
