"""Plackett-Luce against enumeration of every ordered slate."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from recil.ops.slates import greedy_slates, plackett_luce_log_prob, sample_plackett_luce
from recil.random import Streams


def by_hand(weights: list[float], slate: tuple[int, ...]) -> list[float]:
    """Log-probability of each item among the weights that are left, in exact order."""
    left, scores = dict(enumerate(weights)), []
    for item in slate:
        scores.append(math.log(left[item]) - math.log(math.fsum(left.values())))
        del left[item]
    return scores


@given(st.lists(st.floats(0.01, 100), min_size=4, max_size=5), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_every_slate_has_the_probability_of_the_enumeration(weights, k):
    slates = list(itertools.permutations(range(len(weights)), k))
    logits = torch.tensor(weights, dtype=torch.float64).log().expand(len(slates), -1)
    scores = plackett_luce_log_prob(logits, torch.tensor(slates))
    expected = torch.tensor([by_hand(weights, slate) for slate in slates], dtype=torch.float64)
    torch.testing.assert_close(scores, expected, rtol=1e-10, atol=1e-12)
    assert scores.sum(1).exp().sum().item() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("gap", [10.0, 30.0, 80.0])
def test_the_rest_is_exact_after_an_item_with_nearly_all_the_mass(gap):
    rest = torch.tensor([0.3, -1.2, 0.7])
    logits = torch.cat([torch.tensor([gap]), rest])[None]
    slates = torch.tensor([[0, 2, 3, 1]])
    expected = plackett_luce_log_prob(rest.double()[None], torch.tensor([[1, 2, 0]]))
    found = plackett_luce_log_prob(logits, slates)
    torch.testing.assert_close(found[:, 1:].double(), expected, rtol=0, atol=1e-6)
    items, log_prob = sample_plackett_luce(logits, torch.tensor([[0.5, 0.5, 0.5, 0.5]]))
    assert items[0, 0] == 0
    torch.testing.assert_close(log_prob, plackett_luce_log_prob(logits, items), rtol=0, atol=1e-6)


def test_gradients_are_those_of_the_formula_with_and_without_a_dominant_item():
    logits = torch.tensor([[0.1, 0.2, -0.3, 0.0], [5.0, 0.2, -0.3, 1.0]], dtype=torch.float64, requires_grad=True)
    slate = torch.tensor([[1, 0, 3], [0, -1, 3]])
    assert torch.autograd.gradcheck(lambda values: plackett_luce_log_prob(values, slate), logits)


def test_pads_score_zero_and_remove_nothing():
    logits = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    slate = torch.tensor([[2, 4, 1]]).expand(5, 3)
    padded = torch.tensor([[2, -1, 4, -1, 1]]).expand(5, 5)
    found = plackett_luce_log_prob(logits, padded)
    assert torch.equal(found[:, [0, 2, 4]], plackett_luce_log_prob(logits, slate))
    assert (found[:, [1, 3]] == 0).all()


def test_an_item_that_stands_twice_is_impossible():
    logits = torch.zeros(1, 4)
    assert plackett_luce_log_prob(logits, torch.tensor([[1, 2, 1]]))[0].tolist()[2] == -math.inf


def test_leading_axes_are_batch_axes():
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0))
    slate = torch.tensor([4, 0, 2]).expand(2, 3, 3)
    flat = plackett_luce_log_prob(logits.reshape(6, 7), slate.reshape(6, 3))
    assert torch.equal(plackett_luce_log_prob(logits, slate).reshape(6, 3), flat)


def test_samples_follow_the_enumerated_distribution():
    """Chi-square over all 24 ordered slates; a right sampler fails once in a million seeds."""
    weights, draws = [4.0, 2.0, 1.0, 0.5], 40_000
    logits = torch.tensor(weights).log().expand(draws, -1)
    items, _ = sample_plackett_luce(logits, Streams(3).uniform("slate", torch.arange(draws), count=3))
    slates = list(itertools.permutations(range(4), 3))
    place = {slate: index for index, slate in enumerate(slates)}
    seen = torch.bincount(torch.tensor([place[tuple(row)] for row in items.tolist()]), minlength=len(slates))
    expected = [draws * math.exp(sum(by_hand(weights, slate))) for slate in slates]
    assert stats.chisquare(seen.numpy(), expected).pvalue > 1e-6


def test_equal_uniforms_pick_equal_items_where_two_policies_agree():
    """Two policies that differ in one item's mass by δ pick different first items in a share of at most δ of draws."""
    uniforms = Streams(1).uniform("slate", torch.arange(20_000), count=1)
    one = torch.tensor([0.2, 0.3, 0.5]).log().expand(20_000, -1)
    other = torch.tensor([0.2, 0.31, 0.49]).log().expand(20_000, -1)
    differ = (sample_plackett_luce(one, uniforms)[0] != sample_plackett_luce(other, uniforms)[0]).double().mean()
    assert 0 < differ < 0.015
    assert torch.equal(sample_plackett_luce(one, uniforms)[0], sample_plackett_luce(one + 5.0, uniforms)[0])


def test_impossible_items_are_never_drawn():
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0]]).expand(1000, -1)
    items, log_prob = sample_plackett_luce(logits, Streams(1).uniform("slate", torch.arange(1000), count=2))
    assert set(items.flatten().tolist()) == {1, 3}
    torch.testing.assert_close(log_prob, torch.tensor([[math.log(0.5), 0.0]]).expand(1000, -1))


def test_more_positions_than_items_are_refused():
    with pytest.raises(ValueError, match="3 positions but 2 items"):
        sample_plackett_luce(torch.zeros(1, 2), torch.full((1, 3), 0.5))


def test_greedy_slates_go_down_the_logits_with_ties_to_the_lower_index():
    logits = torch.tensor([[1.0, 3.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    assert greedy_slates(logits, 3).tolist() == [[1, 3, 0], [0, 1, 2]]
