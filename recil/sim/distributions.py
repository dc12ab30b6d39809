"""Distributions that torch lacks: a value that is certain, and a choice between two by a known condition."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from recil.sim.draws import draw, precision_of, uniforms_needed


def _to_the_left(condition: Tensor, values: Tensor) -> Tensor:
    """`condition` with axes of size 1 added on the right, so that it broadcasts against `values`."""
    return condition.reshape(condition.shape + (1,) * (values.ndim - condition.ndim))


class Certain(Distribution):
    """All probability on one value: log-probability 0 there, minus infinity elsewhere.

    loc: [B, ...], any dtype; event_dims: how many of the last dimensions make one event.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, loc: Tensor, event_dims: int = 0) -> None:
        self.loc = loc
        split = loc.ndim - event_dims
        super().__init__(loc.shape[:split], loc.shape[split:], validate_args=False)

    @constraints.dependent_property
    def support(self) -> Any:
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def mean(self) -> Tensor:
        return self.loc

    def log_prob(self, value: Tensor) -> Tensor:
        same = value == self.loc
        if self.event_shape:
            same = same.flatten(len(self.batch_shape)).all(-1)
        kind = self.loc.dtype if self.loc.is_floating_point() else torch.get_default_dtype()
        return torch.where(same, 0.0, -torch.inf).to(kind)


class Selected(Distribution):
    """`chosen` where the condition holds, `other` elsewhere; both are distributions of one shape.

    condition: bool, [B] or the batch shape. The same uniforms serve both, so sessions stay comparable.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, condition: Tensor, chosen: Distribution, other: Distribution) -> None:
        shapes = [(part.batch_shape, part.event_shape) for part in (chosen, other)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"Selected: distributions of shapes {shapes[0]} and {shapes[1]}; wanted one shape")
        self.condition, self.chosen, self.other = condition, chosen, other
        super().__init__(chosen.batch_shape, chosen.event_shape, validate_args=False)

    @constraints.dependent_property
    def support(self) -> Any:
        return self.chosen.support

    @property
    def mean(self) -> Tensor:
        mean = self.chosen.mean
        return torch.where(_to_the_left(self.condition, mean), mean, self.other.mean)

    def log_prob(self, value: Tensor) -> Tensor:
        score = self.chosen.log_prob(value)
        return torch.where(_to_the_left(self.condition, score), score, self.other.log_prob(value))


@precision_of.register
def _(distribution: Certain) -> torch.dtype:
    return distribution.loc.dtype if distribution.loc.is_floating_point() else torch.get_default_dtype()


@uniforms_needed.register
def _(distribution: Certain) -> int:
    return 0


@draw.register
def _(distribution: Certain, uniforms: Tensor) -> Tensor:
    return distribution.loc


@precision_of.register
def _(distribution: Selected) -> torch.dtype:
    return torch.promote_types(precision_of(distribution.chosen), precision_of(distribution.other))


@uniforms_needed.register
def _(distribution: Selected) -> int:
    return max(uniforms_needed(distribution.chosen), uniforms_needed(distribution.other))


@draw.register
def _(distribution: Selected, uniforms: Tensor) -> Tensor:
    chosen, other = (
        draw(part, uniforms[:, : uniforms_needed(part)]) for part in (distribution.chosen, distribution.other)
    )
    return torch.where(_to_the_left(distribution.condition, chosen), chosen, other)
