"""Ranks, hit rate, NDCG and coverage on cases done by hand."""

import math

import pytest
import torch

from recil.ops.ranking import coverage, hit_rate, ndcg, rank_of


def test_rank_counts_the_better_items_and_half_of_the_ties():
    logits = torch.tensor([[0.1, 3.0, 2.0, 2.0], [1.0, 1.0, 1.0, 1.0]])
    assert rank_of(logits, torch.tensor([0, 2])).tolist() == [3.0, 1.5]
    assert rank_of(logits, torch.tensor([1, 0])).tolist() == [0.0, 1.5]
    assert rank_of(logits, torch.tensor([2, 0]))[0] == 1.5


def test_a_constant_score_is_no_better_than_chance():
    catalogue, k = 100, 10
    ranks = rank_of(torch.zeros(catalogue, catalogue), torch.arange(catalogue))
    assert hit_rate(ranks, k) <= k / catalogue


def test_hit_rate_and_ndcg_by_hand():
    rank = torch.tensor([0.0, 1.0, 2.0, 10.0])
    assert hit_rate(rank, 2).item() == 0.5
    assert hit_rate(rank, 10).item() == 0.75
    assert ndcg(rank, 10).item() == pytest.approx((1 + 1 / math.log2(3) + 0.5) / 4, abs=1e-12)
    assert ndcg(rank, 1).item() == 0.25


def test_coverage_counts_items_once_and_pads_never():
    assert coverage(torch.tensor([[0, 1, -1], [1, 4, -1]]), 5) == 3 / 5


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="rank_of"):
        rank_of(torch.zeros(3, 4), torch.zeros(2, dtype=torch.int64))
