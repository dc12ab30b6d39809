"""The softmax policy beyond the contract: temperature, greedy slates, item features, gradients."""

import pytest
import torch
from logs_for_policies import ITEMS, log_with_all_columns

from recil.errors import InputError
from recil.logs.history import History
from recil.ops import one_pass
from recil.policies.encoders import EncoderConfig
from recil.policies.softmax import SoftmaxConfig, SoftmaxPolicy
from recil.random import Streams

LOG = log_with_all_columns()


def test_temperature_divides_the_logits_and_shares_the_weights():
    policy = SoftmaxPolicy.for_log(LOG)
    with torch.no_grad():
        policy.bias.weight.copy_(torch.linspace(-1, 1, ITEMS)[:, None])
    cold = policy.at_temperature(0.25)
    history = LOG.batch()
    torch.testing.assert_close(cold.next_logits(history), 4 * policy.next_logits(history))
    assert (policy.temperature, cold.temperature) == (1.0, 0.25)
    assert all(one is other for one, other in zip(policy.parameters(), cold.parameters(), strict=True))
    torch.testing.assert_close(cold.logits(cold.encode(history))[:, 0], 4 * policy.logits(policy.encode(history))[:, 0])
    with pytest.raises(InputError, match="temperature"):
        policy.at_temperature(0.0)


def test_draws_are_addressed_by_the_step_even_where_the_state_does_not_move():
    policy = SoftmaxPolicy.for_log(LOG)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.zero_()
    start = History.start(torch.arange(50), 1)
    first = policy.sample(start, 1, Streams(0)).items
    later = start.append(first, torch.zeros(50, 1))
    assert (policy.sample(later, 1, Streams(0)).items == first).float().mean() < 0.5
    unchanged = start.append(torch.full_like(first, -1), torch.zeros(50, 1))
    assert torch.equal(policy.sample(unchanged, 1, Streams(0)).items, first)


def test_greedy_slates_hold_the_most_probable_items():
    policy, history = SoftmaxPolicy.for_log(LOG), LOG.batch()
    best = policy.next_logits(history).argsort(1, descending=True)[:, :3]
    assert torch.equal(policy.greedy(history, 3), best)


def test_training_reaches_every_weight():
    policy = SoftmaxPolicy.for_log(LOG, EncoderConfig("gru", 8))
    policy.log_prob_of_sessions(LOG.batch()).sum().backward()
    without = [name for name, weight in policy.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert without == []


def test_sampling_can_be_differentiated():
    policy = SoftmaxPolicy.for_log(LOG)
    slates = policy.sample(LOG.batch(), 2, Streams(0))
    assert slates.log_prob.requires_grad


def test_item_features_move_the_logits_of_the_items_that_have_them():
    policy = SoftmaxPolicy.for_log(LOG)
    history = LOG.batch()
    before = policy.next_logits(history)
    tags = next(part for part in policy.output.features if part.feature.name == "item_tags")
    with torch.no_grad():
        tags.vectors.weight[1 + 2].add_(1.0)
    moved = (policy.next_logits(history) - before).abs().amax(0) > 1e-5
    assert torch.equal(moved, torch.from_numpy((LOG.item_features["item_tags"].values == 2).any(1)))


def test_scores_agree_whatever_is_stored_at_once(monkeypatch):
    policy, history = SoftmaxPolicy.for_log(LOG), LOG.batch()
    whole = policy.log_prob_of_sessions(history)
    monkeypatch.setattr(one_pass, "LOGITS_AT_ONCE", 5 * ITEMS)
    torch.testing.assert_close(policy.log_prob_of_sessions(history), whole)


def test_a_catalogue_without_names_or_columns_will_do():
    policy = SoftmaxPolicy(SoftmaxConfig(5))
    history = History.start(torch.arange(3), 2)
    assert policy.sample(history, 2, Streams(0)).items.shape == (3, 2)
    assert policy.log_prob_of_sessions(history).shape == (3, 0, 2)
    with pytest.raises(InputError, match="catalogue is empty"):
        SoftmaxConfig(0)
