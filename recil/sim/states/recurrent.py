"""A state that a gated recurrent unit carries from step to step."""

from __future__ import annotations

import math

import torch
from recsim_ng.core.value import Value, ValueSpec
from torch import Tensor, nn

from recil.random import Streams
from recil.sim.entity import Entity
from recil.sim.fields import Field
from recil.sim.spaces import Reals
from recil.sim.states.parameters import adopt_precision, check_lead, field_of


class GRU(Entity):
    """The state of a GRU over the inputs' field `input`, [B, I]. Field: `state`, [B, units], computed.

    initial: [B or 1, units], a constant or, as an nn.Parameter, learned; None is 0. The weights start at addresses of
    `streams`, not at torch's own generator. Cho et al. (2014); RecSim NG's RNNCellStateModel.
    """

    def __init__(
        self, batch: int, inputs: int, units: int, initial: Tensor | None = None, streams: Streams | None = None
    ) -> None:
        super().__init__()
        self.batch, self.units = batch, units
        start = torch.zeros(1, units) if initial is None else initial
        check_lead("initial", start, batch, 2)
        self.initial = self.constant("initial", start)
        self.cell = nn.utils.skip_init(nn.GRUCell, inputs, units, dtype=start.dtype)
        generator = (streams or Streams(0)).generator("states.gru")
        bound = 1 / math.sqrt(units)
        with torch.no_grad():
            for weights in self.cell.parameters():
                weights.uniform_(-bound, bound, generator=generator)
        adopt_precision(self)

    def initial_state(self) -> Value:
        return Value(state=self.initial.expand(self.batch, -1).clone())

    def next_state(self, old: Value, inputs: Value | None = None) -> Value:
        return Value(state=self.cell(field_of(inputs, "input", self), old.get("state")))

    def specs(self) -> ValueSpec:
        return ValueSpec(state=Field(Reals((self.units,))))
