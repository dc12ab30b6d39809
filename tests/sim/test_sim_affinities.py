"""Affinities against values worked out by hand, and against the same formulas in plain Python."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recil.sim.choice import affinities

CORNERS = [[-4.0, 3.0], [-4.0, -3.0], [4.0, 3.0], [4.0, -3.0]]
NUMBER = st.floats(-50, 50).map(lambda value: round(value, 3))
VECTOR = st.lists(NUMBER, min_size=3, max_size=3)


def plain(name: str, user: list[float], item: list[float], peaks: list[float]) -> float:
    product = [u * v for u, v in zip(user, item, strict=True)]
    distance = math.dist(user, item)
    lengths = math.hypot(*user) * math.hypot(*item)
    return {
        "negative_euclidean": -distance,
        "inverse_euclidean": 1 / max(distance, 1e-6),
        "dot": sum(product),
        "cosine": sum(product) / lengths if lengths else 0.0,
        "single_peaked": sum(p - abs(x - p) for x, p in zip(product, peaks, strict=True)),
    }[name]


def affinity(name: str, target: Tensor, items: Tensor, peaks: Tensor) -> Tensor:
    function = getattr(affinities, name)
    return function(target, items, peaks) if name == "single_peaked" else function(target, items)


NAMES = ("negative_euclidean", "inverse_euclidean", "dot", "cosine", "single_peaked")


@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None)
@given(users=st.lists(VECTOR, min_size=2, max_size=2), items=st.lists(VECTOR, min_size=4, max_size=4), peaks=VECTOR)
def test_every_pair_of_user_and_item_follows_the_formula(name: str, users, items, peaks) -> None:
    target = torch.tensor(users, dtype=torch.float64)
    slates = torch.tensor([items[:2], items[2:]], dtype=torch.float64)
    optimum = torch.tensor([peaks, peaks[::-1]], dtype=torch.float64)
    wanted = [
        [plain(name, user, item, peak) for item in slate]
        for user, slate, peak in zip(users, slates.tolist(), optimum.tolist(), strict=True)
    ]
    found = affinity(name, target, slates, optimum)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_a_user_and_an_item_twice_as_far_out() -> None:
    users = torch.tensor(CORNERS)
    slates = torch.stack([2 * users, torch.zeros(4, 2)], 1)
    peaks = torch.tensor([[32.0, 32.0], [32.0, 0.0], [0.0, 32.0], [0.0, 0.0]])
    assert affinities.negative_euclidean(users, slates).tolist() == [[-5.0, -5.0]] * 4
    assert affinities.dot(users, slates).tolist() == [[50.0, 0.0]] * 4
    assert affinities.single_peaked(users, slates, peaks).tolist() == [[50.0, 0.0], [14.0, 0.0], [-14.0, 0.0], [-50, 0]]


def test_items_that_all_users_see_need_no_copy_for_each() -> None:
    users = torch.tensor(CORNERS)
    items = torch.cat([2 * users, torch.zeros(1, 2)])
    near, far, across = 0.2, 97**-0.5, 153**-0.5
    wanted = [
        [near, far, across, 1 / 15, near],
        [far, near, 1 / 15, across, near],
        [across, 1 / 15, near, far, near],
        [1 / 15, across, far, near, near],
    ]
    torch.testing.assert_close(affinities.inverse_euclidean(users, items), torch.tensor(wanted))
    angles = [[1, 0.28, -0.28, -1, 0], [0.28, 1, -1, -0.28, 0], [-0.28, -1, 1, 0.28, 0], [-1, -0.28, 0.28, 1, 0]]
    torch.testing.assert_close(affinities.cosine(users, items), torch.tensor(angles))
    for name in NAMES:
        shared = affinity(name, users, items, users)
        torch.testing.assert_close(shared, affinity(name, users, items.expand(4, 5, 2), users), rtol=0, atol=0)


def test_an_item_on_the_spot_is_a_million_and_no_more() -> None:
    target = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    items = torch.tensor([[[1.0, 2.0], [1.0, 2.0 + 1e-7], [1.0, 2.0 + 1e-5]]], dtype=torch.float64)
    torch.testing.assert_close(
        affinities.inverse_euclidean(target, items), torch.tensor([[1e6, 1e6, 1e5]]).double(), rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_finite_where_the_formula_has_a_corner(name: str) -> None:
    target = torch.tensor([[1.0, 2.0], [0.0, 0.0]], requires_grad=True)
    items = torch.tensor([[[1.0, 2.0], [0.0, 0.0]], [[0.0, 0.0], [3.0, 4.0]]], requires_grad=True)
    peaks = torch.tensor([[1.0, 4.0], [0.0, 0.0]], requires_grad=True)
    found = affinity(name, target, items, peaks)
    found.sum().backward()
    assert bool(torch.isfinite(found).all())
    for leaf in (target, items):
        assert bool((leaf.grad.abs() < 100).all())


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_the_formula(name: str) -> None:
    generator = torch.Generator().manual_seed(3)
    shapes = ((2, 3), (2, 4, 3), (2, 3))
    leaves = [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(lambda *parts: affinity(name, *parts), leaves)


@pytest.mark.parametrize("name", NAMES)
def test_vectors_of_different_length_are_refused(name: str) -> None:
    target, items = torch.zeros(2, 1), torch.zeros(2, 4, 3)
    with pytest.raises(ValueError, match=r"target \[2, 1\] and items \[2, 4, 3\] differ .* 1 and 3"):
        affinity(name, target, items, torch.zeros(2, 3))


def test_peaks_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match=r"peaks \[2, 1\] and items"):
        affinities.single_peaked(torch.zeros(2, 3), torch.zeros(2, 4, 3), torch.zeros(2, 1))
