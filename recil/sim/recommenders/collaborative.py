"""A collaborative filter: a softmax over the catalogue from what a user consumed last, trainable inside a story."""

from __future__ import annotations

import torch
from recsim_ng.core.value import Value, ValueSpec
from torch import Tensor, nn
from torch.nn import functional as F

from recil.random import Streams
from recil.sim.entity import Entity
from recil.sim.fields import Field, RandomField
from recil.sim.slates import InnerProductSlate
from recil.sim.spaces import Integers, Reals


class CollaborativeRecommender(Entity):
    """Scores items by the inner product of their vectors with a network of the last items consumed and their rewards.

    batch, catalogue, slate_size: B, A, K; memory: how many consumed items are remembered; dimension: of the vectors.
    A user who consumes nothing leaves the memory as it is. Item A stands for nothing consumed yet. Source: RecSim NG's
    CollabFilteringRecommender; slates hold no item twice.
    """

    rows: Tensor

    def __init__(
        self,
        batch: int,
        catalogue: int,
        slate_size: int,
        memory: int = 15,
        dimension: int = 32,
        streams: Streams | None = None,
    ) -> None:
        super().__init__()
        self.batch, self.catalogue, self.slate_size, self.memory = batch, catalogue, slate_size, memory
        generator = (streams or Streams(0)).generator("collaborative.weights")

        def weights(*shape: int, spread: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator) * spread)

        spread = (memory * (dimension + 1)) ** -0.5
        self.consumed = weights(catalogue + 1, dimension, spread=0.05)
        self.proposed = weights(catalogue, dimension, spread=0.05)
        self.hidden = weights(memory, dimension, 32, spread=spread)
        self.hidden_reward = weights(32, memory, spread=spread)
        self.hidden_bias = nn.Parameter(torch.zeros(32))
        self.output = weights(dimension, 32, spread=32**-0.5)
        self.output_bias = nn.Parameter(torch.zeros(dimension))
        self.register_buffer("rows", torch.arange(memory) * (catalogue + 1), persistent=False)

    def initial_state(self) -> Value:
        size = (self.batch, self.memory)
        return Value(
            items=self.like.new_full(size, self.catalogue, dtype=torch.int64), rewards=self.like.new_zeros(size)
        )

    def next_state(self, before: Value, slate: Value, response: Value, outcome: Value) -> Value:
        reward, place = outcome.get("reward").max(-1, keepdim=True)
        item = slate.get("items").gather(-1, place)

        def pushed(remembered: Tensor, latest: Tensor) -> Tensor:
            return torch.where(reward > 0, torch.cat([remembered[:, 1:], latest], -1), remembered)

        return Value(items=pushed(before.get("items"), item), rewards=pushed(before.get("rewards"), reward))

    def states(self, state: Value) -> Tensor:
        """[B, dimension]: what the items' vectors are multiplied with."""
        # What each item adds to the hidden layer from each place of the memory, [memory * (A + 1), 32]: there are fewer
        # of these than users times places, whose vectors would have to be stored and multiplied otherwise.
        table = (self.consumed @ self.hidden).flatten(0, 1)
        remembered = _summed(table, state.get("items") + self.rows)
        hidden = F.leaky_relu(remembered + F.linear(state.get("rewards"), self.hidden_reward, self.hidden_bias), 0.3)
        return F.linear(hidden, self.output, self.output_bias)

    def offer(self, state: Value, observation: Value, available: Value) -> Value:
        bias = self.like.new_zeros(self.catalogue)
        return Value(items=InnerProductSlate(self.states(state), self.proposed, bias, self.slate_size))

    def specs(self) -> ValueSpec:
        remembered = (self.memory,)
        state = ValueSpec(
            items=Field(Integers(self.catalogue + 1, remembered)), rewards=Field(Reals(remembered, low=0.0))
        )
        items = RandomField(Integers(self.catalogue, (self.slate_size,)))
        return ValueSpec(state=state, offer=ValueSpec(items=items))


def _summed(table: Tensor, rows: Tensor) -> Tensor:
    """[B, D]: the sum of some rows [B, M] of a table."""
    if table.requires_grad:  # the gradient of a bag sorts all rows
        return table.index_select(0, rows.flatten()).unflatten(0, rows.shape).sum(1)
    return F.embedding_bag(rows, table, mode="sum")
