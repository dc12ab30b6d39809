"""The items that stand for a catalogue: their weighted sums are right on average, and exact where all are there."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from recil.errors import InputError
from recil.ops.proposal import Proposal
from recil.random import Streams

COUNTS = np.array([400, 50, 3, 0, 0, 1, 2, 2, 1, 0, 0, 5, 1])


@pytest.mark.parametrize("negatives", [1, 4, 9])
def test_weighted_sums_have_the_catalogues_as_their_mean(negatives):
    """Four standard errors; the second column counts the items."""
    proposal = Proposal.of(COUNTS, negatives)
    values = np.stack([np.arange(13.0) ** 2, np.ones(13)], 1)
    found = []
    for number in range(800):
        sample = proposal.draw(Streams(1), "test", number)
        found.append((sample.log_weight.exp()[:, None].numpy() * values[sample.items]).sum(0))
    error = np.std(found, 0) / len(found) ** 0.5
    assert (np.abs(np.mean(found, 0) - values.sum(0)) < 4 * error + 1e-9).all()


def test_what_would_be_drawn_anyway_always_is_with_weight_one():
    proposal = Proposal.of(COUNTS, 4)
    assert proposal.certain.tolist() == [0]
    assert proposal.edges[-1] == pytest.approx(3) and proposal.draws == 3
    for number in range(50):
        sample = proposal.draw(Streams(0), "test", number)
        assert sample.items[0] == 0 and sample.log_weight[0] == 0
        assert len(sample.items) <= 4 and (sample.items.diff() > 0).all()


@pytest.mark.parametrize("negatives", [13, 40])
def test_as_many_negatives_as_items_are_all_of_them(negatives):
    sample = Proposal.of(COUNTS, negatives).draw(Streams(0), "test", 3)
    assert torch.equal(sample.items, torch.arange(13)) and not sample.log_weight.any()


def test_draws_depend_on_their_address_alone():
    proposal = Proposal.of(np.ones(1000), 20)
    one, same, other = (proposal.draw(Streams(seed), "test", step) for seed, step in ((0, 1), (0, 1), (0, 2)))
    assert torch.equal(one.items, same.items) and torch.equal(one.log_weight, same.log_weight)
    assert not torch.equal(one.items, other.items)


def test_no_negatives_are_refused():
    with pytest.raises(InputError, match="negatives: 0 of 13 items"):
        Proposal.of(COUNTS, 0)
