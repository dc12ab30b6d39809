"""Every policy keeps the contract."""

import torch
from logs_for_policies import log_with_all_columns
from policy_contract import PolicyContract

from recil.policies.encoders import EncoderConfig
from recil.policies.frequencies import popular, uniform
from recil.policies.markov import markov
from recil.policies.neighbours import knn
from recil.policies.softmax import SoftmaxPolicy
from recil.policies.storage import KINDS


def with_strong_weights(policy: SoftmaxPolicy) -> SoftmaxPolicy:
    """Weights large enough that what is ignored or mixed up would show."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.3)
    return policy


class TestUniform(PolicyContract):
    kind = "frequencies"

    def policy(self):
        return uniform(log_with_all_columns())


class TestPopular(PolicyContract):
    kind = "frequencies"

    def policy(self):
        return popular(log_with_all_columns())


class TestSessionNeighbours(PolicyContract):
    kind = "neighbours"

    def policy(self):
        return knn(log_with_all_columns())


class TestMarkov(PolicyContract):
    kind = "transitions"

    def policy(self):
        return markov(log_with_all_columns(), ("answer",))


class TestSoftmaxWithBag(PolicyContract):
    kind = "softmax"

    def policy(self):
        return with_strong_weights(SoftmaxPolicy.for_log(log_with_all_columns(), EncoderConfig("bag", 8)))


class TestSoftmaxWithOneVectorPerItem(PolicyContract):
    kind = "softmax"

    def policy(self):
        return with_strong_weights(SoftmaxPolicy.for_log(log_with_all_columns(), EncoderConfig("bag", 8), tied=True))


class TestSoftmaxWithGru(PolicyContract):
    kind = "softmax"

    def policy(self):
        return with_strong_weights(SoftmaxPolicy.for_log(log_with_all_columns(), EncoderConfig("gru", 8)))


class TestSoftmaxAtLowTemperature(PolicyContract):
    kind = "softmax"

    def policy(self):
        policy = SoftmaxPolicy.for_log(log_with_all_columns(), EncoderConfig("bag", 8))
        return with_strong_weights(policy).at_temperature(0.5)


def test_every_kind_that_can_be_saved_is_held_to_the_contract():
    assert {test.kind for test in PolicyContract.__subclasses__()} == set(KINDS)
