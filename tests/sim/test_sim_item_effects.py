"""Items' appeal, split into what columns tell and what is the item's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.sparse import hstack
from scipy.special import expit

from recil.policies.inputs import Feature
from recil.sim.features import Effects
from recil.sim.item_effects import LEAST, _design, _mode, item_appeal

ITEMS = 300
KIND, PRICE = Feature("item_kind", 6), Feature("item_price", None, 2.0, 0.5)


def columns(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = np.random.default_rng(seed)
    price = torch.from_numpy(generator.normal(2.0, 0.5, ITEMS).astype(np.float32))
    return {"item_kind": torch.from_numpy(generator.integers(0, 6, ITEMS)), "item_price": price}


def counts(kind: np.ndarray, slope: float, own: np.ndarray, shown: np.ndarray, seed: int):
    given = columns()
    odds = -2 + kind[given["item_kind"].numpy()] + slope * (given["item_price"].numpy() - 2.0) / 0.5 + own
    return np.random.default_rng(seed).binomial(shown.astype(int), expit(odds)).astype(float), odds


def test_newton_meets_the_mode_that_a_general_optimiser_finds() -> None:
    generator = np.random.default_rng(1)
    shown = generator.integers(0, 60, ITEMS).astype(float)
    clicks, _ = counts(np.linspace(-1, 1, 6), 0.4, generator.normal(0, 0.5, ITEMS), shown, 2)
    design = hstack([np.ones((ITEMS, 1)), *(_design(feature, columns()) for feature in (KIND, PRICE))], format="csr")
    prior = np.array([1e-6] + [4.0] * 7)

    def loss(x: np.ndarray) -> tuple[float, np.ndarray]:
        weights, own = x[:8], x[8:]
        odds = design @ weights + own
        value = (shown * np.logaddexp(0, odds) - clicks * odds).sum() + prior @ weights**2 / 2 + (own**2).sum() / 0.5
        off = shown * expit(odds) - clicks
        return value, np.concatenate([design.T @ off + prior * weights, off + 4 * own])

    best = minimize(loss, np.zeros(8 + ITEMS), jac=True, method="L-BFGS-B", options={"maxiter": 5000, "ftol": 1e-15}).x
    weights, own = np.zeros(8), np.zeros(ITEMS)
    for _ in range(5):
        weights, own, *_ = _mode(clicks, shown, design, prior, 0.5, weights, own)
    assert weights == pytest.approx(best[:8], abs=1e-4) and own == pytest.approx(best[8:], abs=1e-4)


@pytest.mark.parametrize(("kinds", "slope", "spread"), [(1.0, 0.5, 0.3), (0.0, 0.0, 0.8), (1.0, 0.0, 0.05)])
def test_the_scales_are_those_of_the_world(kinds: float, slope: float, spread: float) -> None:
    """Within a half of the root mean square of the effects drawn, or of `LEAST` where they are smaller than it."""
    generator = np.random.default_rng(3)
    kind = kinds * np.array([-1.0, 1.0, -0.5, 0.5, 1.5, -1.5])
    own = generator.normal(0, spread, ITEMS)
    clicks, odds = counts(kind, slope, own, np.full(ITEMS, 2000.0), 4)
    found = item_appeal(clicks, np.full(ITEMS, 2000.0), (KIND, PRICE), columns())
    truths = (np.sqrt((kind**2).mean()), slope, own.std())
    for scale, truth in zip((*found.scales, found.own_scale), truths, strict=True):
        assert max(truth, LEAST) / 1.5 < scale < max(truth, LEAST) * 1.5
    told = found.base + found.tables[0][columns()["item_kind"].numpy()]
    told = told + found.tables[1][0] * (columns()["item_price"].numpy() - 2.0) / 0.5 + found.own
    assert np.abs(told - odds).mean() < 0.08


def test_items_never_shown_have_what_their_columns_tell_and_nothing_of_their_own() -> None:
    shown = np.full(ITEMS, 500.0)
    shown[:50] = 0
    kind = np.array([-1.0, 1.0, -0.5, 0.5, 1.5, -1.5])
    clicks, odds = counts(kind, 0.5, np.random.default_rng(5).normal(0, 0.2, ITEMS), shown, 6)
    found = item_appeal(clicks, shown, (KIND, PRICE), columns())
    assert np.abs(found.own[:50]).max() < 1e-6
    told = found.base + found.tables[0][columns()["item_kind"].numpy()]
    told = told + found.tables[1][0] * (columns()["item_price"].numpy() - 2.0) / 0.5
    assert np.abs(told - odds)[:50].mean() < 0.25  # their own appeals have a mean size of 0.16


def test_without_columns_rates_are_shrunk_as_far_as_items_are_alike() -> None:
    generator = np.random.default_rng(7)
    shown = generator.integers(1, 200, ITEMS).astype(float)
    alike = generator.binomial(shown.astype(int), 0.05).astype(float)
    found = item_appeal(alike, shown, (), {})
    assert found.own_scale < 0.2 and np.abs(found.own).max() < 0.2 and found.tables == ()
    assert expit(found.base) == pytest.approx(alike.sum() / shown.sum(), rel=0.05)


def test_the_design_is_what_the_users_add_up() -> None:
    tags = Feature("item_tags", 4)
    given = columns() | {"item_tags": torch.randint(-1, 4, (ITEMS, 3), generator=torch.Generator().manual_seed(0))}
    given["item_price"][3] = float("nan")
    for feature in (KIND, PRICE, tags):
        effects = Effects((feature,), 1)
        table = torch.randn(effects.tables[0].shape, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            effects.tables[0].copy_(table)
            expected = effects(given, torch.zeros(ITEMS))[:, 0].numpy()
        assert _design(feature, given) @ table[:, 0].double().numpy() == pytest.approx(expected, abs=1e-5)
