"""One draw from a distribution out of given uniforms, so that randomness stays addressed (recil.random).

A kind of distribution says beside its own definition how it is drawn: a rule for `draw`, and one for `uniforms_needed`
unless it takes one uniform per number drawn.
"""

from __future__ import annotations

import math
from functools import singledispatch
from itertools import accumulate

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Independent,
    Normal,
    TransformedDistribution,
    Uniform,
)

# Up to so many alternatives sums are written out: a compiler melts them together, and a cumulative sum it cannot.
FEW = 16
_PARAMETERS = ("probs", "logits", "loc", "low")


def numbers_in(distribution: Distribution) -> int:
    """How many numbers a value holds for each session."""
    return math.prod((*distribution.batch_shape[1:], *distribution.event_shape))


@singledispatch
def precision_of(distribution: Distribution) -> torch.dtype:
    """The floating type in which the distribution computes, and its uniforms are wanted."""
    for name in _PARAMETERS:
        if name in vars(distribution):
            return vars(distribution)[name].dtype
    return torch.get_default_dtype()


@singledispatch
def uniforms_needed(distribution: Distribution) -> int:
    """Uniforms per session that `draw` takes: one per number, or one for a choice among alternatives."""
    return numbers_in(distribution)


@singledispatch
def addresses(distribution: Distribution, sessions: Tensor) -> Tensor:
    """The addresses of the rows of a value: those of the batch's sessions, unless sessions share one."""
    return sessions


@singledispatch
def draw(distribution: Distribution, uniforms: Tensor) -> Tensor:
    """A value of `distribution` ([B, ...]) by inverse transform. uniforms: [B, n] in (0, 1).

    The draw of a location and a scale is differentiable in both.
    """
    kind = type(distribution).__name__
    raise TypeError(f"{kind} cannot be drawn from addressed uniforms; register a rule with recil.sim.draws.draw")


@draw.register
def _(distribution: Bernoulli, uniforms: Tensor) -> Tensor:
    return (uniforms.reshape(distribution.batch_shape) < distribution.probs).to(uniforms.dtype)


@draw.register
def _(distribution: Normal, uniforms: Tensor) -> Tensor:
    standard = torch.special.ndtri(uniforms.reshape(distribution.batch_shape))
    return distribution.loc + distribution.scale * standard


@draw.register
def _(distribution: Uniform, uniforms: Tensor) -> Tensor:
    return torch.lerp(distribution.low, distribution.high, uniforms.reshape(distribution.batch_shape))


def invert(weights: Tensor, uniforms: Tensor) -> Tensor:
    """The alternative that a uniform falls on, int64 [...]. weights: [..., A], not negative; uniforms: [...].

    An alternative of weight 0 is never met: the sums before and after it are equal, and no uniform is 0.
    """
    if weights.shape[-1] <= FEW:
        sums = list(accumulate(weights.unbind(-1)))
        reached = [edge < uniforms * sums[-1] for edge in sums[:-1]]
        return sum((passed.long() for passed in reached), torch.zeros_like(uniforms, dtype=torch.int64))
    edges = weights.cumsum(-1)
    return (edges[..., :-1] < uniforms[..., None] * edges[..., -1:]).sum(-1)


@uniforms_needed.register
def _(distribution: Categorical) -> int:
    return math.prod(distribution.batch_shape[1:])


@draw.register
def _(distribution: Categorical, uniforms: Tensor) -> Tensor:
    return invert(distribution.probs, uniforms.reshape(distribution.batch_shape))


@precision_of.register
def _(distribution: Independent) -> torch.dtype:
    return precision_of(distribution.base_dist)


@uniforms_needed.register
def _(distribution: Independent) -> int:
    return uniforms_needed(distribution.base_dist)


@draw.register
def _(distribution: Independent, uniforms: Tensor) -> Tensor:
    return draw(distribution.base_dist, uniforms)


@precision_of.register
def _(distribution: TransformedDistribution) -> torch.dtype:
    return precision_of(distribution.base_dist)


@uniforms_needed.register
def _(distribution: TransformedDistribution) -> int:
    return uniforms_needed(distribution.base_dist)


@draw.register
def _(distribution: TransformedDistribution, uniforms: Tensor) -> Tensor:
    value = draw(distribution.base_dist, uniforms)
    for transform in distribution.transforms:
        value = transform(value)
    return value
