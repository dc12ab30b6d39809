"""A softmax policy over a causal transformer keeps the contract."""

import torch
from logs_for_policies import log_with_all_columns
from policy_contract import PolicyContract

from recil.policies.encoders import EncoderConfig
from recil.policies.softmax import SoftmaxPolicy


class TestSoftmaxWithTransformer(PolicyContract):
    kind = "softmax"

    def policy(self):
        policy = SoftmaxPolicy.for_log(log_with_all_columns(), EncoderConfig("transformer", 8))
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for weight in policy.parameters():
                weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.3)
        return policy
