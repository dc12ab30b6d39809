"""What recommendation stories count: the reward of each user, now and so far."""

from __future__ import annotations

from recsim_ng.core.value import Value, ValueSpec

from recil.sim.fields import Field
from recil.sim.spaces import Reals


class RewardMetrics:
    """reward: [B], of this step's slate; cumulative_reward: [B], of all slates up to and including it."""

    def first(self, user: Value, slate: Value, response: Value, outcome: Value) -> Value:
        reward = outcome.get("reward").sum(-1)
        return Value(reward=reward, cumulative_reward=reward)

    def next(self, before: Value, user: Value, slate: Value, response: Value, outcome: Value) -> Value:
        reward = outcome.get("reward").sum(-1)
        return Value(reward=reward, cumulative_reward=before.get("cumulative_reward") + reward)

    def specs(self) -> ValueSpec:
        return ValueSpec(reward=Field(Reals()), cumulative_reward=Field(Reals()))
