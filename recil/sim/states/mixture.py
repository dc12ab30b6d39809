"""Finite mixtures with exact likelihoods whose draws are addressed: one uniform chooses, the others draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent, Normal, constraints

from recil.sim.distributions import Certain
from recil.sim.draws import draw, precision_of, uniforms_needed
from recil.sim.states.parameters import pick


class Mixture(Distribution):
    """One of N parts, chosen by logits, then a value from it.

    logits: [*batch, N]; kind: makes a distribution of `parameters`, which are [*lead, N, ...] with every size of lead
    that of the batch or 1. A draw is differentiable in the parameters of the part it comes from, not in the logits.
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}

    def __init__(self, logits: Tensor, kind: Callable[..., Distribution], *parameters: Tensor) -> None:
        self.logits, self.kind, self.parameters = logits, kind, parameters
        self.parts = kind(*parameters)
        super().__init__(logits.shape[:-1], self.parts.event_shape, validate_args=False)

    @constraints.dependent_property
    def support(self) -> Any:
        return constraints.independent(constraints.real, len(self.event_shape))

    @property
    def component(self) -> Categorical:
        """The distribution of the part's number."""
        return Categorical(logits=self.logits, validate_args=False)

    def given(self, component: Tensor) -> Distribution:
        """The distribution of the value once the part is known. component: int64 [*batch]."""
        return self.kind(*(pick(parameter, component) for parameter in self.parameters))

    def by_part(self, value: Tensor) -> Tensor:
        """[*batch, N]: log-probability of the value under each part."""
        return self.parts.log_prob(value.unsqueeze(-1 - len(self.event_shape)))

    def log_prob(self, value: Tensor) -> Tensor:
        """[*batch], whichever part the value came from."""
        return torch.logsumexp(torch.log_softmax(self.logits, -1) + self.by_part(value), -1)

    @property
    def mean(self) -> Tensor:
        weights = torch.softmax(self.logits, -1)
        return (weights.reshape(*weights.shape, *(1,) * len(self.event_shape)) * self.parts.mean).sum(
            -1 - len(self.event_shape)
        )


def one_of(logits: Tensor, rows: Tensor) -> Mixture:
    """One of the rows of a dictionary. logits: [*batch, N]; rows: [*lead, N, *event]."""
    event_dims = rows.ndim - logits.ndim
    return Mixture(logits, lambda row: Certain(row, event_dims), rows)


def normal(loc: Tensor, scale: Tensor) -> Independent:
    """A normal vector with independent coordinates. loc: [..., D]; scale: broadcasts against it."""
    return Independent(Normal(loc, scale, validate_args=False), 1, validate_args=False)


def normal_mixture(logits: Tensor, means: Tensor, scales: Tensor) -> Mixture:
    """A vector from one of N normal distributions with independent coordinates.

    logits: [*batch, N]; means: [*lead, N, D]; scales: the same, or sizes of 1 in place of N and D.
    """
    return Mixture(logits, normal, means, scales.expand(*scales.shape[:-2], means.shape[-2], scales.shape[-1]))


def _given_the_first(mixture: Mixture) -> Distribution:
    """The mixture's value as if the part were known: parts differ in their parameters, not in what they need."""
    return mixture.given(mixture.logits.new_zeros(mixture.batch_shape, dtype=torch.int64))


@precision_of.register
def _(distribution: Mixture) -> torch.dtype:
    return torch.promote_types(distribution.logits.dtype, precision_of(distribution.parts))


@uniforms_needed.register
def _(distribution: Mixture) -> int:
    return uniforms_needed(distribution.component) + uniforms_needed(_given_the_first(distribution))


@draw.register
def _(distribution: Mixture, uniforms: Tensor) -> Tensor:
    count = uniforms_needed(distribution.component)
    component = draw(distribution.component, uniforms[:, :count])
    return draw(distribution.given(component), uniforms[:, count:])
