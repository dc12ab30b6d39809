"""What a state model is: a start, a step, and what its fields hold."""

from __future__ import annotations

from typing import Protocol

from recsim_ng.core.value import Value, ValueSpec


class StateModel(Protocol):
    """How a part of an entity's state begins and moves on. Every field leads with the batch, [B, ...].

    A field is random at every step (a torch distribution, declared as RandomField) or at none (a tensor, declared as
    Field). What is random at first and certain afterwards is `recil.sim.distributions.Certain` afterwards.
    """

    def initial_state(self) -> Value:
        """The state at step 0: the fields of `specs`."""
        ...

    def next_state(self, old: Value, inputs: Value | None = None) -> Value:
        """The state after `old`, which holds drawn values. inputs: what acts on the state, where something does."""
        ...

    def specs(self) -> ValueSpec:
        """A fresh spec of each field, for one session."""
        ...
