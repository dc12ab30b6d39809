"""Losses over sampled negatives against every sample that can be drawn."""

from __future__ import annotations

from itertools import combinations, product

import pytest
import torch
from torch.nn import functional as F

from recil.errors import InputError
from recil.ops.negatives import gbce_loss, gbce_power, log_expected_uniform, sampled_softmax_loss

CLOSE = {"rtol": 0, "atol": 1e-10}
ITEMS = 5


def scores(seed: int = 0) -> torch.Tensor:
    return torch.randn(ITEMS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_sum_in_the_logarithm_is_unbiased():
    score, q = scores(), scores(1).softmax(-1)
    drawn = 2
    samples = torch.tensor(list(product(range(ITEMS), repeat=drawn)))
    chance = q[samples].prod(-1)
    for positive in range(ITEMS):
        loss = sampled_softmax_loss(
            score[positive].expand(len(samples)),
            score[samples],
            (drawn * q[samples]).log(),
            samples == positive,
        )
        total = float(chance @ (loss + score[positive]).exp())
        assert total == pytest.approx(float(score.exp().sum()), abs=1e-10)


def test_in_proportion_to_the_softmax_it_is_the_full_loss_and_gradient():
    score = scores().requires_grad_()
    others = torch.arange(1, ITEMS)
    q = score.detach()[others].softmax(-1)
    full = F.cross_entropy(score[None], torch.tensor([0]))
    wanted = torch.autograd.grad(full, score)[0]
    samples = torch.tensor(list(product(range(ITEMS - 1), repeat=2)))
    loss = sampled_softmax_loss(score[0].expand(len(samples)), score[others[samples]], (2 * q[samples]).log())
    torch.testing.assert_close(loss, full.detach().expand(len(samples)), **CLOSE)
    mean = (q[samples].prod(-1) * loss).sum()
    torch.testing.assert_close(torch.autograd.grad(mean, score)[0], wanted, **CLOSE)


def test_each_item_once_is_the_full_softmax():
    score = scores().requires_grad_()
    negatives = score[1:][None]
    log_expected = torch.full((1, ITEMS - 1), log_expected_uniform(ITEMS - 1, ITEMS - 1))
    loss = sampled_softmax_loss(score[:1], negatives, log_expected)
    torch.testing.assert_close(loss[0], F.cross_entropy(score[None], torch.tensor([0])), **CLOSE)


def test_gbce_goes_from_bce_to_the_sampling_rate():
    for negatives in (1, 3, 4):
        rate = negatives / (ITEMS - 1)
        assert gbce_power(negatives, ITEMS, 0.0) == pytest.approx(1.0, abs=1e-12)
        assert gbce_power(negatives, ITEMS, 1.0) == pytest.approx(rate, abs=1e-12)
        assert gbce_power(negatives, ITEMS, 0.75) == pytest.approx(0.75 * rate + 0.25, abs=1e-12)
    positive, negative = scores()[:1], scores(1)[None, :3]
    plain = F.binary_cross_entropy_with_logits(positive, torch.ones(1).double()) + sum(
        F.binary_cross_entropy_with_logits(one[None], torch.zeros(1).double()) for one in negative[0]
    )
    torch.testing.assert_close(gbce_loss(positive, negative, 10, 0.0)[0], plain, **CLOSE)


@pytest.mark.parametrize("calibration", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("negatives", [1, 3])
def test_gbce_is_at_rest_at_calibrated_probabilities(calibration, negatives):
    chance = scores(3).softmax(-1)
    rate, power = negatives / (ITEMS - 1), gbce_power(negatives, ITEMS, calibration)
    told = power * chance / (power * chance + rate * (1 - chance))
    score = torch.logit(told).requires_grad_()
    loss = torch.zeros((), dtype=torch.float64)
    for positive in range(ITEMS):
        others = [item for item in range(ITEMS) if item != positive]
        samples = list(combinations(others, negatives))
        for sample in samples:
            term = gbce_loss(score[positive][None], score[list(sample)][None], ITEMS, calibration)[0]
            loss = loss + chance[positive] / len(samples) * term
    assert float(torch.autograd.grad(loss, score)[0].abs().max()) < 1e-12
    if calibration == 1.0:
        torch.testing.assert_close(told, chance, **CLOSE)
    else:
        assert (told > chance).all()


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="sampled_softmax_loss"):
        sampled_softmax_loss(torch.zeros(2), torch.zeros(2, 3), torch.zeros(3))
    with pytest.raises(InputError, match="gbce_loss"):
        gbce_loss(torch.zeros(2), torch.zeros(3, 3), 10)
    with pytest.raises(InputError, match="5 negatives of 5 items"):
        gbce_power(5, 5, 0.5)
    with pytest.raises(InputError, match="calibration 2"):
        gbce_power(1, 5, 2)
