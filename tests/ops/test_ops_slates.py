"""Plackett-Luce against enumeration of every ordered slate."""

import itertools
import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from recil.ops import slate_kernel
from recil.ops.slates import draw_rows, greedy_slates, plackett_luce_log_prob, sample_plackett_luce, search
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


def in_torch_and_in_c(monkeypatch, logits, uniforms):
    """The same draw by torch's operators and by the compiled code."""
    if isinstance(slate_kernel._kernel(), str):
        pytest.skip("there is no C compiler")
    assert slate_kernel.native_draw(logits.device, logits.dtype, logits.shape[1], 1) is not None
    compiled = sample_plackett_luce(logits, uniforms)
    with monkeypatch.context() as without:
        without.setattr(slate_kernel, "_kernel", lambda: "none is wanted")
        without.setattr(slate_kernel, "WORTH_A_NOTICE", uniforms.numel() + 1)
        return sample_plackett_luce(logits, uniforms), compiled


@pytest.mark.parametrize(("rows", "items", "k", "spread"), [(1003, 1000, 5, 1.0), (37, 61, 61, 3.0), (9, 4, 3, 1.0)])
def test_compiled_draws_and_torch_agree(monkeypatch, rows, items, k, spread):
    """Also where rows do not fill the last group, where an item is all but certain, and where nothing is left."""
    logits = torch.randn(rows, items, generator=torch.Generator().manual_seed(1)) * spread
    logits[::3, 1] += 40.0
    logits[1::7, 2] += 90.0  # what is left then is too faint for float32
    uniforms = Streams(5).uniform("slate", torch.arange(rows), count=k, dtype=torch.float64)
    one, other = in_torch_and_in_c(monkeypatch, logits, uniforms)
    # An edge is off by 1e-6 at most, and there is one on either side of each draw.
    assert (one[0] == other[0]).all(1).double().mean() > 0.99
    for found, log_prob in (one, other):
        assert all(len(set(row)) == k for row in found.tolist())
        torch.testing.assert_close(log_prob, plackett_luce_log_prob(logits, found), rtol=0, atol=3e-5)


@pytest.mark.parametrize("batch", [1, 7, 8, 600])
def test_a_row_is_drawn_alike_in_every_batch(batch):
    """A session's draw does not depend on what is drawn beside it."""
    logits = torch.randn(600, 203, generator=torch.Generator().manual_seed(4)) * 3
    uniforms = Streams(8).uniform("slate", torch.arange(600), count=3, dtype=torch.float64)
    whole = sample_plackett_luce(logits, uniforms)
    for first in (0, 595):
        rows = slice(first, first + batch)
        part = sample_plackett_luce(logits[rows], uniforms[rows])
        assert torch.equal(part[0], whole[0][rows]) and torch.equal(part[1], whole[1][rows])


def weights_in_c(logits):
    """What the compiled code makes of rows of logits in blocks of 8, before anything is drawn from them."""
    native = slate_kernel.native_draw(logits.device, logits.dtype, logits.shape[1], 1)
    if native is None:
        pytest.skip("there is no C compiler")
    weights = logits.clone()
    native(weights, torch.zeros(weights.shape[1]), 8, torch.empty(len(weights), 0, dtype=torch.float64))
    return weights


@given(st.lists(st.floats(-120, 60, width=32), min_size=16, max_size=16))
@settings(max_examples=200, deadline=None)
def test_compiled_weights_are_exponentials(values):
    logits = torch.tensor([values])
    below = logits - logits.max()
    expected = torch.where(below < -87, 0.0, below.double().exp())
    torch.testing.assert_close(weights_in_c(logits).double(), expected, rtol=4e-7, atol=0)


def test_ties_and_zeros_are_met_alike():
    """A uniform on an edge takes the item before it; one beyond all sums the last item that can be drawn."""
    native = slate_kernel.native_draw(torch.device("cpu"), torch.float32, 16, 1)
    if native is None:
        pytest.skip("there is no C compiler")
    weight = torch.tensor([[0, 1, 1, 0, 1, 0, 1, 0], [0, 0, 1, 0, 1, 1, 0, 1]], dtype=torch.float32).flatten()
    uniforms = torch.tensor([[0.125], [0.5], [0.0], [0.625], [1 - 2**-53]], dtype=torch.float64)
    for one in (draw_rows, native):
        items, shares, faint = one(torch.zeros(5, 16), weight.log(), 8, uniforms)
        assert items[:, 0].tolist() == [1, 6, 1, 10, 15] and not faint.any()
        torch.testing.assert_close(shares[:, 0], torch.full((5,), 0.125, dtype=torch.float64))


def test_a_block_whose_sum_rounds_otherwise_gives_its_last_item():
    weight = torch.tensor([[0, 1, 1, 0, 1, 0, 1, 0], [0, 0, 2, 0, 1, 1, 0, 0]], dtype=torch.float32).flatten()
    mass = torch.tensor([[5.0, 4.0], [4.0, 1e-30]], dtype=torch.float64)
    uniforms = torch.tensor([[0.49], [1 - 2**-53]], dtype=torch.float64)
    items, _, faint = search(weight.expand(2, 16).clone(), mass, uniforms)
    assert items[:, 0].tolist() == [6, 6] and not faint.any()


def test_uniforms_fall_on_items_in_the_order_of_the_catalogue(monkeypatch):
    """Against a search in float64 over all items that are left; edges of items round otherwise in float32."""
    logits = torch.randn(2000, 300, generator=torch.Generator().manual_seed(2))
    uniforms = Streams(6).uniform("slate", torch.arange(2000), count=4, dtype=torch.float64)
    expected, left = [], logits.double().exp()
    for uniform in uniforms.T:
        edges = left.cumsum(1)
        item = torch.searchsorted(edges, uniform[:, None] * edges[:, -1:])
        expected.append(item)
        left = left.scatter(1, item, 0.0)
    for items, _ in in_torch_and_in_c(monkeypatch, logits, uniforms):
        # An edge is off by 1e-6 at most, and there is one on either side of each of 4 draws.
        assert (items == torch.cat(expected, 1)).all(1).double().mean() > 0.999


def test_impossible_items_are_never_drawn_by_compiled_code(monkeypatch):
    logits = torch.full((1000, 90), -math.inf)
    logits[:, [3, 50, 89]] = torch.tensor([0.0, 1.0, 2.0])
    uniforms = Streams(1).uniform("slate", torch.arange(1000), count=3, dtype=torch.float64)
    uniforms[0], uniforms[1] = 1e-17, 1 - 2**-53
    _, (items, _) = in_torch_and_in_c(monkeypatch, logits, uniforms)
    assert items.sort(1).values.unique(dim=0).tolist() == [[3, 50, 89]]
    assert items[0].tolist() == [3, 50, 89] and items[1].tolist() == [89, 50, 3]


@pytest.mark.parametrize("rows", [3, 5000])
def test_more_positions_than_possible_items_and_what_is_not_a_number_are_refused(rows):
    uniforms = torch.full((rows, 2), 0.5, dtype=torch.float64)
    for bad in ([0.0, -math.inf, -math.inf], [0.0, math.nan, 1.0], [-math.inf] * 3):
        logits = torch.zeros(rows, 3)
        logits[1] = torch.tensor(bad)
        with pytest.raises(ValueError, match="not numbers, or fewer possible items"):
            sample_plackett_luce(logits, uniforms)


def test_without_a_compiler_torch_draws_after_one_notice(monkeypatch):
    logits = torch.randn(3000, 20, generator=torch.Generator().manual_seed(3))
    uniforms = Streams(7).uniform("slate", torch.arange(3000), count=2, dtype=torch.float64)
    expected = sample_plackett_luce(logits, uniforms)
    monkeypatch.setenv("CC", "a-compiler-that-is-not-there")
    slate_kernel._kernel.cache_clear()
    slate_kernel._notice.cache_clear()
    try:
        sample_plackett_luce(logits[:5], uniforms[:5])  # a few draws are not worth a word: warnings are errors
        with pytest.warns(RuntimeWarning, match=r"drawn by torch operators.*a-compiler-that-is-not-there"):
            found = sample_plackett_luce(logits, uniforms)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            again = sample_plackett_luce(logits, uniforms)
    finally:
        slate_kernel._kernel.cache_clear()
    assert (found[0] == expected[0]).all(1).double().mean() > 0.999
    assert torch.equal(found[0], again[0]) and torch.equal(found[1], again[1])


def test_greedy_slates_go_down_the_logits_with_ties_to_the_lower_index():
    logits = torch.tensor([[1.0, 3.0, 1.0, 2.0], [0.0, 0.0, 0.0, 0.0]])
    assert greedy_slates(logits, 3).tolist() == [[1, 3, 0], [0, 1, 2]]
