"""Linear dynamics with normal noise: x' = A x + noise, and x' = A x + B u + noise under control."""

from __future__ import annotations

from typing import Self

from recsim_ng.core.value import Value, ValueSpec
from torch import Tensor, nn

from recil.sim.distributions import Certain
from recil.sim.entity import Entity
from recil.sim.fields import RandomField
from recil.sim.spaces import Reals
from recil.sim.states.noise import DiagonalNoise, Noise, for_coordinates
from recil.sim.states.parameters import adopt_precision, check_lead, field_of


class Matrix(Entity):
    """x -> M x. values: M, [D, U] or [B, D, U]; x: [B, U]."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.values = self.constant("values", values)
        if values.ndim not in (2, 3):
            raise ValueError(f"matrix: shape {list(values.shape)}; wanted [D, U] or [B, D, U]")

    def forward(self, x: Tensor) -> Tensor:
        return (self.values.expand(x.shape[0], -1, -1) @ x[..., None])[..., 0]


class Scale(Entity):
    """x -> s x. values: s: one number, [B] for each session, or [B or 1, D] for each coordinate; x: [B, D]."""

    def __init__(self, values: Tensor | float) -> None:
        super().__init__()
        self.values = self.constant("values", values)
        if self.values.ndim > 2:
            raise ValueError(f"scale: shape {list(self.values.shape)}; wanted one number, [B] or [B or 1, D]")

    def forward(self, x: Tensor) -> Tensor:
        return for_coordinates(self.values) * x


def _scale(values: Tensor | float | None) -> nn.Module:
    return nn.Identity() if values is None else Scale(values)


def _noise(scale: Tensor | float | None) -> DiagonalNoise | None:
    return None if scale is None else DiagonalNoise(scale)


class LinearGaussian(Entity):
    """x' = A x + noise, from noise around 0. Field: `state`, [B, D].

    transition: A, a module from [B, D] to [B, D]; noise: None where steps are certain (and scored by equality);
    initial: the spread of the first state, None is 1. RecSim NG's LinearGaussianStateModel.
    """

    def __init__(
        self,
        batch: int,
        dimension: int,
        transition: nn.Module,
        noise: Noise | None = None,
        initial: Noise | None = None,
    ) -> None:
        super().__init__()
        self.batch, self.dimension = batch, dimension
        self.transition, self.noise = transition, noise
        self.initial = DiagonalNoise(1.0) if initial is None else initial
        adopt_precision(self)

    @classmethod
    def from_matrix(
        cls, batch: int, transition: Tensor, noise: Noise | None = None, initial: Noise | None = None
    ) -> Self:
        """Of A itself. transition: [D, D] or [B, D, D]. ValueError for other shapes."""
        dimension = transition.shape[-1]
        matrices = transition if transition.ndim == 3 else transition[None]
        check_lead("transition", matrices, batch, 3)
        if matrices.shape[1] != dimension:
            raise ValueError(f"transition: shape {list(transition.shape)}; wanted square matrices")
        return cls(batch, dimension, Matrix(transition), noise, initial)

    @classmethod
    def scaled(
        cls,
        batch: int,
        dimension: int,
        transition: Tensor | float | None = None,
        noise: Tensor | float | None = None,
        initial: Tensor | float | None = None,
    ) -> Self:
        """Of scales in place of matrices: one number, [B], or [B or 1, D].

        transition: None is 1; noise: standard deviation of a step, None is no noise; initial: that of the first state,
        None is 1.
        """
        return cls(batch, dimension, _scale(transition), _noise(noise), _noise(initial))

    def initial_state(self) -> Value:
        return Value(state=self.initial.around(self.like.new_zeros(self.batch, self.dimension)))

    def next_state(self, old: Value, inputs: Value | None = None) -> Value:
        return self.around(self.transition(old.get("state")))

    def around(self, loc: Tensor) -> Value:
        """The state of a step that leads to `loc` ([B, D]) but for the noise."""
        return Value(state=Certain(loc, 1) if self.noise is None else self.noise.around(loc))

    def specs(self) -> ValueSpec:
        return ValueSpec(state=RandomField(Reals((self.dimension,))))


class ControlledLinearGaussian(Entity):
    """x' = A x + B u + noise, u being the field `input` of the inputs, [B, U]. Field: `state`, [B, D].

    free: the model without control; control: B, a module from [B, U] to [B, D]. ValueError at a step without input.
    RecSim NG's ControlledLinearGaussianStateModel.
    """

    def __init__(self, free: LinearGaussian, control: nn.Module) -> None:
        super().__init__()
        self.free, self.control = free, control
        adopt_precision(self)

    @classmethod
    def from_matrices(
        cls,
        batch: int,
        transition: Tensor,
        control: Tensor,
        noise: Noise | None = None,
        initial: Noise | None = None,
    ) -> Self:
        """Of A and B themselves. transition: [D, D] or [B, D, D]; control: [D, U] or [B, D, U]."""
        free = LinearGaussian.from_matrix(batch, transition, noise, initial)
        matrices = control if control.ndim == 3 else control[None]
        check_lead("control", matrices, batch, 3)
        if matrices.shape[1] != free.dimension:
            raise ValueError(f"control: shape {list(control.shape)} for states of {free.dimension} numbers")
        return cls(free, Matrix(control))

    @classmethod
    def scaled(
        cls,
        batch: int,
        dimension: int,
        transition: Tensor | float | None = None,
        control: Tensor | float | None = None,
        noise: Tensor | float | None = None,
        initial: Tensor | float | None = None,
    ) -> Self:
        """Of scales in place of matrices, as `LinearGaussian.scaled`. control: None is 1.

        RecSim NG's ControlledLinearScaledGaussianStateModel.
        """
        return cls(LinearGaussian.scaled(batch, dimension, transition, noise, initial), _scale(control))

    def initial_state(self) -> Value:
        return Value(state=self.free.initial.around(self.like.new_zeros(self.free.batch, self.free.dimension)))

    def next_state(self, old: Value, inputs: Value | None = None) -> Value:
        pushed = self.control(field_of(inputs, "input", self))
        return self.free.around(self.free.transition(old.get("state")) + pushed)

    def specs(self) -> ValueSpec:
        return self.free.specs()
