import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from logs_of_worlds import case
from tiny_worlds import RecallPolicy

from recil.errors import InputError
from recil.evaluate.ranking import cloning_metrics
from recil.logs.session_log import PAD


class WithoutScores:
    """The same policy, seen through the protocol alone."""

    def __init__(self, policy):
        self.catalogue, self.sample, self.log_prob = policy.catalogue, policy.sample, policy.log_prob


@pytest.fixture(scope="module")
def small():
    return case(sessions=100)


def always(order):
    """Prefers items in this order whatever happened."""
    table = torch.zeros(len(order) + 1, 2, len(order), dtype=torch.float64)
    table[..., list(order)] = torch.arange(len(order), 0, -1).double()
    return RecallPolicy(table)


def test_by_hand(small):
    log = replace(small.log, items=np.full_like(small.log.items, PAD))
    log.items[:, 0], log.items[:, 1] = 2, 3
    found = cloning_metrics(always([2, 0, 3, 1]), log, ks=(1, 2, 4))
    # Item 2 is first of all; item 3 is second of those left, behind item 0.
    assert found.hit_rate == {1: 0.5, 2: 1.0, 4: 1.0}
    assert found.ndcg[1] == pytest.approx(0.5) and found.ndcg[2] == pytest.approx((1 + 1 / math.log2(3)) / 2)
    assert found.coverage == {1: 0.25, 2: 0.5, 4: 1.0}
    assert found.items == log.impressions


def test_the_protocol_alone_gives_the_same_figures(small):
    assert cloning_metrics(WithoutScores(small.target), small.log) == cloning_metrics(small.target, small.log)


def test_the_policy_looks_at_the_past_only(small):
    """A policy that repeats the last item at once is right where the log repeats it, from the second step on."""
    table = torch.zeros(5, 2, 4, dtype=torch.float64)
    table[1:] += 5 * torch.eye(4, dtype=torch.float64)[:, None]
    log = replace(small.log, items=np.repeat(np.repeat(np.arange(100) % 4, small.log.lengths)[:, None], 2, 1))
    log.items[:, 1] = PAD
    log = replace(log, items=log.items.astype(np.int32))
    later = (small.log.steps - small.log.sessions) / small.log.steps
    found = cloning_metrics(RecallPolicy(table), log, ks=(1,))
    # At the first step all four items tie, and a tie is worth rank 1.5.
    assert found.hit_rate[1] == pytest.approx(later)


def test_bad_input(small):
    with pytest.raises(InputError, match="one catalogue"):
        cloning_metrics(RecallPolicy.make(5, 0), small.log)
    with pytest.raises(InputError, match="list lengths"):
        cloning_metrics(small.target, small.log, ks=(0,))
