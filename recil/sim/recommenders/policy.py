"""Any recil policy as the recommender of a story."""

from __future__ import annotations

import torch
from recsim_ng.core.value import Value, ValueSpec

from recil.logs.history import PAD, History
from recil.policies.protocol import Policy
from recil.random import Streams
from recil.sim.fields import Field
from recil.sim.spaces import Flags, Integers, Reals


class PolicyRecommender:
    """Shows what a policy samples; users who have left are shown nothing. The slate holds `propensity`, [B, K].

    start: empty histories of the sessions; feedback: names of outcome fields [B, K] that the policy sees afterwards.
    The state holds the sessions so far, and who is `present`, bool [B]: an outcome's field `leaves` ends a session.
    """

    def __init__(self, policy: Policy, start: History, streams: Streams, feedback: tuple[str, ...] = ()) -> None:
        self.policy, self.start, self.streams, self.feedback = policy, start, streams, feedback

    def initial_state(self) -> Value:
        return Value(sessions=self.start, present=torch.ones_like(self.start.session, dtype=torch.bool))

    def next_state(self, before: Value, slate: Value, response: Value, outcome: Value) -> Value:
        return Value(sessions=self.after(before, slate, outcome), present=self.staying(before, outcome))

    def after(self, state: Value, slate: Value, outcome: Value) -> History:
        """The sessions with this slate and what came of it."""
        feedback = {name: outcome.get(name) for name in self.feedback}
        return state.get("sessions").append(
            slate.get("items"), outcome.get("reward"), slate.get("propensity"), feedback
        )

    def staying(self, state: Value, outcome: Value) -> torch.Tensor:
        """bool [B]: who is there for the next slate."""
        present = state.get("present")
        return present & ~outcome.get("leaves") if "leaves" in outcome.as_dict else present

    def offer(self, state: Value, observation: Value, available: Value) -> Value:
        offered = self.policy.sample(state.get("sessions"), self.start.slate_size, self.streams)
        present = state.get("present")[:, None]
        return Value(
            items=torch.where(present, offered.items, PAD),
            propensity=torch.where(present, offered.log_prob.exp(), 1.0),
        )

    def specs(self) -> ValueSpec:
        size = (self.start.slate_size,)
        items = Integers(self.policy.catalogue + 1, size, start=PAD)
        return ValueSpec(
            state=ValueSpec(sessions=Field(), present=Field(Flags())),
            offer=ValueSpec(items=Field(items), propensity=Field(Reals(size, 0.0))),
        )
