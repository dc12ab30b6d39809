"""Parts of the reference against sums by hand, and its settings."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.random import Streams
from recil.sim.reference import fit_reference
from recil.sim.reference_config import ReferenceConfig
from recil.sim.reference_network import click_probabilities, negative_log_likelihood
from recil.sim.reference_repeats import repeats_of


def test_repeats_are_those_before_the_slate() -> None:
    """Against counting by hand, on slates that hold items twice, and pads."""
    draws = Streams(0).numpy("repeats")
    items = draws.integers(-1, 3, (60, 3)).astype(np.int32)
    reward = ((draws.random(items.shape) < 0.4) & (items >= 0)).astype(np.float32)
    offsets = np.array([0, 1, 2, 9, 30, 60])
    log = SessionLog(np.arange(3), items, reward, offsets, np.arange(5))
    wanted = np.zeros((60, 3, 2))
    for start, end in itertools.pairwise(offsets):
        for row in range(start, end):
            for place in range(3):
                same = (items[start:row] == items[row, place]) & (items[row, place] >= 0)
                wanted[row, place] = same.sum(), (same * reward[start:row]).sum()
    np.testing.assert_allclose(repeats_of(log), np.log1p(wanted), rtol=1e-6)


def test_one_click_of_a_slate_or_several() -> None:
    odds = torch.tensor([[[0.3, -1.0, -torch.inf], [2.0, 0.1, -0.4]]], requires_grad=True)
    reward = torch.tensor([[[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]])
    weights = np.exp(odds.detach().numpy()[0].astype(float))
    one, several = (click_probabilities(odds.detach(), answer).numpy()[0] for answer in (False, True))
    np.testing.assert_allclose(one, weights / (1 + weights.sum(1, keepdims=True)), rtol=1e-6)
    np.testing.assert_allclose(several, weights / (1 + weights), rtol=1e-6)
    wanted = -np.log(one[0, 1]) - np.log(1 - one[1].sum())
    assert negative_log_likelihood(odds, reward, several=False).item() == pytest.approx(wanted, rel=1e-5)
    wanted = -np.log([several[0, 1], *(1 - several[0, [0, 2]]), *(1 - several[1])]).sum()
    loss = negative_log_likelihood(odds, reward, several=True)
    assert loss.item() == pytest.approx(wanted, rel=1e-5)
    loss.backward()
    assert torch.isfinite(odds.grad).all()


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
@pytest.mark.parametrize(
    "name", ["width", "epochs", "batch", "patience", "learning_rate", "held_out", "vector_scale", "appeal_scale"]
)
def test_settings_that_cannot_be_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"reference\.{name}: {value} is"):
        ReferenceConfig(**{name: value})


def test_weight_decay_may_be_nothing_but_not_less() -> None:
    assert ReferenceConfig(weight_decay=0).weight_decay == 0
    with pytest.raises(InputError, match=r"reference\.weight_decay: -0\.1 is"):
        ReferenceConfig(weight_decay=-0.1)


def test_what_a_context_adds_to_all_items_is_held_back_little(columns) -> None:
    config = ReferenceConfig(width=8, epochs=8, batch=64, learning_rate=0.05)
    fitted = fit_reference(columns, config)
    (effect,) = fitted.network.context_effects()
    _, home, search = effect[:, 0].tolist()
    assert search - home > 0.5  # true: 3, much of it left to the network
    (held_back,) = fit_reference(columns, replace(config, context_scale=0.02)).network.context_effects()
    assert held_back.abs().max() < 0.1
