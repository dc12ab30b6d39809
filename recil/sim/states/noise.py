"""Normal noise around a known vector: independent by coordinate, or with any covariance."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from recil.sim.draws import draw
from recil.sim.entity import Entity
from recil.sim.states.mixture import normal
from recil.sim.states.parameters import adopt_precision


class Noise(Protocol):
    """The spread of a vector around where it would be without noise."""

    def around(self, loc: Tensor) -> Distribution:
        """Of batch shape [B] and event shape [D]. loc: [B, D]."""
        ...


def for_coordinates(values: Tensor) -> Tensor:
    """Scales so that they broadcast against [B, D]: one number, [B] for each session, or [B or 1, D]."""
    return values[:, None] if values.ndim == 1 else values


class DiagonalNoise(Entity):
    """Independent noise. scale: standard deviations: one number, [B] for each session, or [B or 1, D]."""

    def __init__(self, scale: Tensor | float) -> None:
        super().__init__()
        self.scale = self.constant("scale", scale)
        if self.scale.ndim > 2 or not bool((self.scale > 0).all()):
            raise ValueError("scale: wanted positive numbers: one, [B] or [B or 1, D]; noise=None is no noise")
        adopt_precision(self)

    def around(self, loc: Tensor) -> Distribution:
        return normal(loc, for_coordinates(self.scale).to(loc.dtype))


class FullNoise(Entity):
    """Noise of covariance L Lᵀ. scale_tril: L, lower triangular with a positive diagonal, [D, D] or [B, D, D]."""

    def __init__(self, scale_tril: Tensor) -> None:
        super().__init__()
        self.scale_tril = self.constant("scale_tril", scale_tril)
        square = scale_tril.ndim in (2, 3) and scale_tril.shape[-1] == scale_tril.shape[-2]
        if not square or bool((scale_tril.triu(1) != 0).any()) or not bool((_diagonal(scale_tril) > 0).all()):
            raise ValueError("scale_tril: wanted [D, D] or [B, D, D], lower triangular with a positive diagonal")
        adopt_precision(self)

    def around(self, loc: Tensor) -> Distribution:
        # Scores do not see what is above the diagonal, draws would: a learned L must not grow there.
        return MultivariateNormal(loc, scale_tril=self.scale_tril.tril(), validate_args=False)


def _diagonal(matrices: Tensor) -> Tensor:
    return matrices.diagonal(dim1=-2, dim2=-1)


@draw.register
def _(distribution: MultivariateNormal, uniforms: Tensor) -> Tensor:
    standard = torch.special.ndtri(uniforms.reshape(distribution.loc.shape))
    return distribution.loc + (distribution.scale_tril @ standard[..., None])[..., 0]
