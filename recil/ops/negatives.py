"""Losses over a few negatives in place of the whole catalogue, and what keeps them honest."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from recil.errors import InputError


def sampled_softmax_loss(positive: Tensor, negative: Tensor, log_expected: Tensor, hit: Tensor | None = None) -> Tensor:
    """-s+ + log(e^s+ + sum_j e^(s_j - log(k q_j))), per row. [n].

    positive: [n]; negative: [n, k], scores of items drawn with replacement from q; log_expected: log(k q_j), [n, k],
    how often each was expected among the draws; hit: bool [n, k], negatives that are the positive itself, which drop
    out. The sum in the logarithm is unbiased for the whole catalogue's, so the loss tends to the full one as k grows,
    and equals it for q proportional to e^s over the other items. The positive was not drawn: its score is not
    corrected. Source: Bengio & Senecal (2008), "Adaptive importance sampling to accelerate training of a neural
    probabilistic language model".
    """
    if negative.shape != log_expected.shape or negative.shape[:-1] != positive.shape:
        shapes = f"{tuple(positive.shape)}, {tuple(negative.shape)}, {tuple(log_expected.shape)}"
        raise InputError("sampled_softmax_loss", shapes, "give [n], [n, k] and [n, k]")
    corrected = negative - log_expected
    if hit is not None:
        corrected = corrected.masked_fill(hit, -torch.inf)
    return torch.cat([positive[..., None], corrected], -1).logsumexp(-1) - positive


def gbce_power(negatives: int, catalogue: int, calibration: float) -> float:
    """beta = a (t (1 - 1/a) + 1/a) with a = negatives / (catalogue - 1): 1 at t = 0 (plain BCE), a at t = 1.

    Source: Petrov & Macdonald (2023), "gSASRec: reducing overconfidence in sequential recommendation trained with
    negative sampling".
    """
    if not 1 <= negatives <= catalogue - 1 or not 0 <= calibration <= 1:
        raise InputError(
            "gbce",
            f"{negatives} negatives of {catalogue} items, calibration {calibration}",
            "give 1 to catalogue - 1 negatives and a calibration in [0, 1]",
        )
    rate = negatives / (catalogue - 1)
    return rate * (calibration * (1 - 1 / rate) + 1 / rate)


def gbce_loss(positive: Tensor, negative: Tensor, catalogue: int, calibration: float = 0.75) -> Tensor:
    """-(beta log sigma(s+) + sum_j log(1 - sigma(s_j))), per row. [n].

    positive: [n]; negative: [n, k], scores of k items drawn uniformly without replacement from those other than the
    positive. At its optimum sigma(s) = beta p / (beta p + a (1 - p)): the item's probability p where calibration is 1,
    overconfident below that.
    """
    if negative.shape[:-1] != positive.shape:
        raise InputError("gbce_loss", f"{tuple(positive.shape)}, {tuple(negative.shape)}", "give [n] and [n, k]")
    power = gbce_power(negative.shape[-1], catalogue, calibration)
    return power * F.softplus(-positive) + F.softplus(negative).sum(-1)


def log_expected_uniform(drawn: int, items: int) -> float:
    """log(k q) of k draws with replacement from `items` alike."""
    return math.log(drawn / items)
