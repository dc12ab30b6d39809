"""One draw from a distribution out of given uniforms, so that randomness stays addressed (recil.random)."""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Normal

from recil.sim.choice import IndependentClicks, SlateChoice


def uniforms_needed(distribution: Distribution) -> int:
    """Uniforms per session that `draw` takes: one per event element, or one for a choice among alternatives."""
    if isinstance(distribution, (SlateChoice, Categorical)):
        return 1
    size = 1
    for extent in tuple(distribution.batch_shape[1:]) + tuple(distribution.event_shape):
        size *= extent
    return size


@singledispatch
def draw(distribution: Distribution, uniforms: Tensor) -> Tensor:
    """A value of `distribution` ([B, ...]) by inverse transform. uniforms: [B, n] in (0, 1)."""
    kind = type(distribution).__name__
    raise TypeError(f"{kind} cannot be drawn from addressed uniforms; register a rule with recil.sim.draws.draw")


@draw.register
def _(distribution: Bernoulli, uniforms: Tensor) -> Tensor:
    return (uniforms.reshape(distribution.batch_shape) < distribution.probs).to(uniforms.dtype)


@draw.register
def _(distribution: Normal, uniforms: Tensor) -> Tensor:
    return distribution.icdf(uniforms.reshape(distribution.batch_shape))


@draw.register
def _(distribution: Categorical, uniforms: Tensor) -> Tensor:
    reached = distribution.probs.cumsum(-1) < uniforms
    return reached.sum(-1).clamp(max=distribution.probs.shape[-1] - 1)


@draw.register
def _(distribution: SlateChoice, uniforms: Tensor) -> Tensor:
    edges = distribution.probs.cumsum(-1)
    below = torch.cat([torch.zeros_like(edges[:, :1]), edges[:, :-1]], -1)
    return ((uniforms >= below) & (uniforms < edges)).to(uniforms.dtype)


@draw.register
def _(distribution: IndependentClicks, uniforms: Tensor) -> Tensor:
    return (uniforms < distribution.probs).to(uniforms.dtype)
