"""A recommender that knows nothing."""

from __future__ import annotations

from recsim_ng.core.value import Value, ValueSpec

from recil.sim.entity import Entity
from recil.sim.fields import RandomField
from recil.sim.slates import UniformSlate
from recil.sim.spaces import Integers


class UniformRecommender(Entity):
    """Shows each of `batch` users `slate_size` distinct items of `catalogue`, all slates being equally likely."""

    def __init__(self, batch: int, catalogue: int, slate_size: int) -> None:
        super().__init__()
        self.batch, self.catalogue, self.slate_size = batch, catalogue, slate_size

    def initial_state(self) -> Value:
        return Value()

    def next_state(self, before: Value, slate: Value, response: Value, outcome: Value) -> Value:
        return Value()

    def offer(self, state: Value, observation: Value, available: Value) -> Value:
        return Value(items=UniformSlate(self.batch, self.catalogue, self.slate_size, self.like.device))

    def specs(self) -> ValueSpec:
        items = RandomField(Integers(self.catalogue, (self.slate_size,)))
        return ValueSpec(state=ValueSpec(), offer=ValueSpec(items=items))
