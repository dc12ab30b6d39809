"""What every policy must do. Inherit, build the policy, and pytest runs the rest.

class TestMine(PolicyContract):
    def policy(self):
        return my_policy(log_with_all_columns())
"""

from __future__ import annotations

import pytest
import torch
from logs_for_policies import ITEMS, log_with_all_columns, with_garbage_behind

from recil.logs.history import History
from recil.policies.protocol import Policy, SessionScorer, log_prob_of_sessions
from recil.policies.storage import load
from recil.random import Streams

STREAMS = Streams(7)
# float32 scores; a defect moves a probability by far more.
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


class PolicyContract:
    """Over the log of `log_with_all_columns`, whose catalogue has ITEMS items."""

    def policy(self) -> Policy:
        raise NotImplementedError

    @pytest.fixture
    def histories(self) -> History:
        """Sessions of different length, some of them empty so far."""
        history = log_with_all_columns(60, seed=3).batch()
        return History(
            items=torch.where((history.session % 7 == 0)[:, None, None], -1, history.items),
            reward=torch.where((history.session % 7 == 0)[:, None, None], 0.0, history.reward),
            length=torch.where(history.session % 7 == 0, 0, history.length),
            session=history.session,
            feedback=history.feedback,
            context=history.context,
            user=history.user,
        )

    @pytest.fixture(autouse=True)
    def without_gradients(self):
        with torch.no_grad():
            yield

    def test_is_a_policy_over_the_whole_catalogue(self):
        policy = self.policy()
        assert isinstance(policy, Policy)
        assert policy.catalogue == ITEMS

    def test_probabilities_of_the_first_item_sum_to_one(self, histories):
        policy = self.policy()
        every = [
            policy.log_prob(histories, torch.full((histories.batch, 1), item)).double().exp() for item in range(ITEMS)
        ]
        assert (torch.stack(every) > 0).all()
        torch.testing.assert_close(sum(every), torch.ones(histories.batch, 1).double(), **CLOSE)

    def test_probabilities_of_the_second_item_sum_to_one_without_the_first(self, histories):
        policy = self.policy()
        first = policy.sample(histories, 1, STREAMS).items
        total = torch.zeros(histories.batch, dtype=torch.float64)
        for item in range(ITEMS):
            slate = torch.cat([first, torch.full_like(first, item)], 1)
            probability = policy.log_prob(histories, slate)[:, 1].double().exp()
            assert (probability[first[:, 0] == item] == 0).all()
            total += probability
        torch.testing.assert_close(total, torch.ones_like(total), **CLOSE)

    @pytest.mark.parametrize("k", [1, 3, ITEMS])
    def test_a_slate_repeats_no_item_and_knows_its_probability(self, histories, k):
        policy = self.policy()
        slates = policy.sample(histories, k, STREAMS)
        assert slates.items.shape == slates.log_prob.shape == (histories.batch, k)
        assert all(len(set(slate)) == k and set(slate) <= set(range(ITEMS)) for slate in slates.items.tolist())
        torch.testing.assert_close(policy.log_prob(histories, slates.items), slates.log_prob, **CLOSE)

    def test_pads_of_a_slate_score_zero_and_remove_nothing(self, histories):
        policy = self.policy()
        slate = policy.sample(histories, 2, STREAMS).items
        pad = torch.full_like(slate[:, :1], -1)
        padded = policy.log_prob(histories, torch.cat([slate[:, :1], pad, slate[:, 1:], pad], 1))
        assert (padded[:, [1, 3]] == 0).all()
        torch.testing.assert_close(padded[:, [0, 2]], policy.log_prob(histories, slate), **CLOSE)

    def test_what_stands_behind_the_length_changes_nothing(self, histories):
        policy = self.policy()
        behind = with_garbage_behind(histories, 4)
        slates = policy.sample(histories, 3, STREAMS)
        assert torch.equal(policy.sample(behind, 3, STREAMS).items, slates.items)
        torch.testing.assert_close(policy.log_prob(behind, slates.items), slates.log_prob, **CLOSE)
        if isinstance(policy, SessionScorer):
            scores, steps = policy.log_prob_of_sessions(behind), histories.steps
            torch.testing.assert_close(scores[:, :steps], policy.log_prob_of_sessions(histories), **CLOSE)
            assert (scores[:, steps:] == 0).all()

    def test_draws_depend_neither_on_batch_nor_on_order(self, histories):
        policy = self.policy()
        together = policy.sample(histories, 3, STREAMS).items
        order = torch.randperm(histories.batch, generator=torch.Generator().manual_seed(1))
        assert torch.equal(policy.sample(histories.take(order), 3, STREAMS).items, together[order])
        alone = [
            policy.sample(histories.take(torch.tensor([row])).prefix(int(histories.length[row])), 3, STREAMS).items
            for row in range(histories.batch)
        ]
        assert torch.equal(torch.cat(alone), together)

    def test_draws_differ_by_session_step_and_seed(self, histories):
        policy = self.policy()
        start = History.start(torch.arange(200), 3)
        first = policy.sample(start, 3, STREAMS).items
        assert len({tuple(slate) for slate in first.tolist()}) > 20
        again = start.append(first, torch.zeros(200, 3))
        assert not torch.equal(policy.sample(again, 3, STREAMS).items, first)
        assert not torch.equal(policy.sample(start, 3, Streams(8)).items, first)

    def test_sampling_leaves_the_global_generator_alone(self, histories):
        before = torch.get_rng_state()
        self.policy().sample(histories, 3, STREAMS)
        assert torch.equal(torch.get_rng_state(), before)

    def test_scoring_sessions_at_once_equals_scoring_step_by_step(self, histories):
        policy = self.policy()
        at_once = log_prob_of_sessions(policy, histories)
        by_step = torch.stack(
            [policy.log_prob(histories.prefix(step), histories.items[:, step]) for step in range(histories.steps)], 1
        )
        assert (at_once[~histories.shown] == 0).all()
        torch.testing.assert_close(at_once, torch.where(histories.shown, by_step, 0.0), **CLOSE)

    def test_a_growing_history_is_read_like_a_finished_one(self):
        """A rollout carries what was computed along; a history without it must say the same."""
        policy = self.policy()
        history = History.start(torch.arange(30), 2)
        for step in range(5):
            slates = policy.sample(history, 2, STREAMS)
            # A third of the sessions ends after each step.
            goes_on = (torch.arange(30) % 3 != 0) | (torch.arange(30) % 5 >= step)
            items = torch.where(goes_on[:, None], slates.items, -1)
            history = history.append(items, (items % 4 == 1).float(), feedback={"answer": items.clamp(min=-1, max=3)})
            fresh = history.take(torch.arange(30))
            torch.testing.assert_close(
                policy.log_prob(history, slates.items), policy.log_prob(fresh, slates.items), **CLOSE
            )

    def test_saved_and_loaded_it_is_the_same_policy(self, histories, tmp_path):
        policy = self.policy()
        policy.save(tmp_path / "policy")
        loaded = load(tmp_path / "policy")
        assert type(loaded) is type(policy)
        assert loaded.item_ids.tolist() == policy.item_ids.tolist()
        slates, again = policy.sample(histories, 3, STREAMS), loaded.sample(histories, 3, STREAMS)
        assert torch.equal(slates.items, again.items)
        assert torch.equal(slates.log_prob, again.log_prob)
        assert torch.equal(log_prob_of_sessions(policy, histories), log_prob_of_sessions(loaded, histories))
