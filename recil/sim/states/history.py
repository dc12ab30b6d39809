"""The last few observations as a state."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from recsim_ng.core.value import Value, ValueSpec
from torch import Tensor

from recil.sim.entity import Entity
from recil.sim.fields import Field
from recil.sim.spaces import Reals, Space
from recil.sim.states.parameters import field_of


@dataclass(frozen=True)
class Several:
    """So many values of one space, along a first axis."""

    count: int
    space: Space

    @property
    def shape(self) -> tuple[int | None, ...]:
        return self.count, *self.space.shape

    def problem_of(self, values: Tensor) -> str | None:
        return self.space.problem_of(values)


class FiniteHistory(Entity):
    """The last `length` values of the inputs' field `input`, oldest first. Field: `state`, [B, length, ...], computed.

    observation: the space of one value; dtype: theirs, None is the entity's floating type; empty: what stands where
    nothing was observed yet, which for items had better be -1. ValueError where it is no value of the space.
    RecSim NG's FiniteHistoryStateModel.
    """

    def __init__(
        self,
        batch: int,
        length: int,
        observation: Space | None = None,
        dtype: torch.dtype | None = None,
        empty: float = 0,
    ) -> None:
        super().__init__()
        self.space = Several(length, Reals() if observation is None else observation)
        if length < 1 or None in self.space.shape:
            raise ValueError(f"history of {length} observations of shape {self.space.shape[1:]}; wanted known sizes")
        self.batch, self.dtype, self.empty = batch, dtype, empty
        problem = self.space.problem_of(self.initial_state().get("state"))
        if problem is not None:
            raise ValueError(f"an empty history has {problem}; give a dtype and an `empty` that the space contains")

    def initial_state(self) -> Value:
        shape = [self.batch, *(size for size in self.space.shape if size is not None)]
        return Value(state=self.like.new_full(shape, self.empty, dtype=self.dtype))

    def next_state(self, old: Value, inputs: Value | None = None) -> Value:
        observed = field_of(inputs, "input", self)
        return Value(state=torch.cat([old.get("state")[:, 1:], observed[:, None]], 1))

    def specs(self) -> ValueSpec:
        return ValueSpec(state=Field(self.space))
