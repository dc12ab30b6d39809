"""A finite Markov chain that an input may steer."""

from __future__ import annotations

import torch
from recsim_ng.core.value import Value, ValueSpec
from torch import Tensor
from torch.distributions import Categorical

from recil.sim.entity import Entity
from recil.sim.fields import RandomField
from recil.sim.spaces import Integers
from recil.sim.states.parameters import adopt_precision, check_lead, field_of, pick


class FiniteStateMarkov(Entity):
    """A Markov chain over S states, steered by one of I inputs. Field: `state`, int64 [B].

    transition: logits [B or 1, I, S, S], to the last axis from the one before; initial: logits [B or 1, S]; minus
    infinity is never. The inputs' field `input`, int64 [B], 0 to I - 1, is wanted where I > 1. ValueError for other
    shapes and for a state that leads nowhere. RecSim NG's FiniteStateMarkovModel.
    """

    def __init__(self, batch: int, transition: Tensor, initial: Tensor) -> None:
        super().__init__()
        check_lead("transition", transition, batch, 4)
        check_lead("initial", initial, batch, 2)
        states = initial.shape[1]
        if transition.shape[2:] != (states, states):
            raise ValueError(f"transition: shape {list(transition.shape)} for {states} initial states")
        for name, logits in (("transition", transition), ("initial", initial)):
            if not bool(torch.logsumexp(logits, -1).isfinite().all()):
                raise ValueError(f"{name}: logits that are nan, infinite, or all minus infinity")
        self.batch, self.inputs, self.states = batch, transition.shape[1], states
        self.transition = self.constant("transition", transition)
        self.initial = self.constant("initial", initial)
        adopt_precision(self)

    def initial_state(self) -> Value:
        return Value(state=Categorical(logits=self.initial.expand(self.batch, -1), validate_args=False))

    def next_state(self, old: Value, inputs: Value | None = None) -> Value:
        row = old.get("state")
        if self.inputs > 1:
            row = row + self.states * field_of(inputs, "input", self)
        logits = pick(self.transition.flatten(1, 2), row)
        return Value(state=Categorical(logits=logits, validate_args=False))

    def specs(self) -> ValueSpec:
        return ValueSpec(state=RandomField(Integers(self.states)))
