"""Models made of models: each session takes one step or another, as a condition says.

The condition is the field `condition` of the inputs, bool [B]; the inputs are handed on to the models within. Random
fields are scored exactly, each under the model that the session took.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from recsim_ng.core.value import Value, ValueSpec
from torch import Tensor
from torch.distributions import Distribution

from recil.sim.distributions import Certain, Selected
from recil.sim.entity import Entity
from recil.sim.states.parameters import field_of
from recil.sim.states.protocol import StateModel


def select(condition: Tensor, chosen: Value, other: Value) -> Value:
    """`chosen` where the condition holds, `other` elsewhere, field by field.

    condition: bool [B]; the two have the same fields, distributions in both or tensors in both.
    """

    def selected(one: Any, two: Any) -> Any:
        if isinstance(one, Distribution):
            return Selected(condition, one, two)
        return torch.where(condition.reshape(-1, *(1,) * (one.ndim - 1)), one, two)

    return _over_fields(selected, chosen, other)


def _over_fields(make: Callable[..., Any], *values: Value) -> Value:
    return Value(**{name: make(*(value.get(name) for value in values)) for name in values[0].as_dict})


class Switching(Entity):
    """Steps of `chosen` where the condition holds, of `other` elsewhere; the start is that of `chosen`.

    ValueError for two models that differ in their fields. RecSim NG's SwitchingDynamicsStateModel.
    """

    def __init__(self, chosen: StateModel, other: StateModel) -> None:
        super().__init__()
        self.chosen, self.other = chosen, other
        fields, others = _said(chosen), _said(other)
        if fields != others:
            raise ValueError(f"Switching: models of fields {fields} and {others}; wanted the same")

    def initial_state(self) -> Value:
        return self.chosen.initial_state()

    def next_state(self, old: Value, inputs: Value | None = None) -> Value:
        condition = field_of(inputs, "condition", self)
        return select(condition, self.chosen.next_state(old, inputs), self.other.next_state(old, inputs))

    def specs(self) -> ValueSpec:
        return self.chosen.specs()


def _said(model: StateModel) -> dict[str, tuple[str, Any]]:
    """What a model's specs say of each field: random or computed, and its space."""
    return {name: (type(spec).__name__, getattr(spec, "space", None)) for name, spec in model.specs().as_dict.items()}


class ResetOrContinue(Entity):
    """Begins anew where the condition holds, goes on elsewhere. RecSim NG's ResetOrContinueStateModel."""

    def __init__(self, model: StateModel) -> None:
        super().__init__()
        self.model = model

    def initial_state(self) -> Value:
        return self.model.initial_state()

    def next_state(self, old: Value, inputs: Value | None = None) -> Value:
        condition = field_of(inputs, "condition", self)
        return select(condition, self.model.initial_state(), self.model.next_state(old, inputs))

    def specs(self) -> ValueSpec:
        return self.model.specs()


class NoOpOrContinue(Entity):
    """Stays as it was where the condition holds, goes on elsewhere. RecSim NG's NoOPOrContinueStateModel."""

    def __init__(self, model: StateModel) -> None:
        super().__init__()
        self.model = model

    def initial_state(self) -> Value:
        return self.model.initial_state()

    def next_state(self, old: Value, inputs: Value | None = None) -> Value:
        condition = field_of(inputs, "condition", self)
        after = self.model.next_state(old, inputs)
        return select(condition, _over_fields(_kept, after, old), after)

    def specs(self) -> ValueSpec:
        return self.model.specs()


def _kept(after: Any, old: Tensor) -> Any:
    """The old value in the form the next one has: certain where that is random."""
    return Certain(old, len(after.event_shape)) if isinstance(after, Distribution) else old
