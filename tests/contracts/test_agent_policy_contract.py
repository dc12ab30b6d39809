"""An agent trained elsewhere keeps the contract of policies, save that recil cannot write it."""

import pytest
import torch
from logs_for_policies import ITEMS
from policy_contract import CLOSE, STREAMS, PolicyContract

from recil.errors import InputError
from recil.random import Streams

pytest.importorskip("gymnasium")

from agents_with_columns import LAYOUT, ranking, told

from recil.sim.gym import AgentPolicy


class TestAgentOfLogits(PolicyContract):
    kind = "softmax"  # how its slates are drawn; an agent cannot be saved, so it has no kind of its own

    def policy(self):
        return AgentPolicy.of_logits(told, LAYOUT)

    def test_saved_and_loaded_it_is_the_same_policy(self, histories, tmp_path):
        with pytest.raises(InputError, match="save the agent with its own library"):
            self.policy().save(tmp_path / "policy")


class TestAgentOfActions(PolicyContract):
    kind = "softmax"

    def policy(self):
        return AgentPolicy.of_actions(ranking, LAYOUT)

    def test_probabilities_of_the_first_item_sum_to_one(self, histories):
        policy = self.policy()
        every = [policy.log_prob(histories, torch.full((histories.batch, 1), item)).exp() for item in range(ITEMS)]
        assert set(torch.stack(every).unique().tolist()) == {0.0, 1.0}
        torch.testing.assert_close(sum(every), torch.ones(histories.batch, 1), **CLOSE)

    def test_draws_differ_by_session_step_and_seed(self, histories):
        first = self.policy().sample(histories, 3, STREAMS)
        assert torch.equal(first.items, self.policy().sample(histories, 3, Streams(8)).items)
        assert len(first.items.unique(dim=0)) > 10

    def test_saved_and_loaded_it_is_the_same_policy(self, histories, tmp_path):
        with pytest.raises(InputError, match="save the agent with its own library"):
            self.policy().save(tmp_path / "policy")
