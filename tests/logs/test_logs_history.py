"""A batch of histories: what append, prefix and take keep."""

from __future__ import annotations

import pytest
import torch
from logs_for_policies import log_with_all_columns

from recil.logs.history import History


def test_take_keeps_every_part_of_the_chosen_sessions() -> None:
    history, rows = log_with_all_columns().batch(), torch.tensor([3, 0, 3])
    taken = history.take(rows)
    for name in ("items", "reward", "length", "session", "propensity", "terminated"):
        before, after = getattr(history, name), getattr(taken, name)
        assert (before is None and after is None) or torch.equal(after, before[rows])
    for name in ("feedback", "context", "user"):
        for key, values in getattr(history, name).items():
            assert torch.equal(getattr(taken, name)[key], values[rows])


def test_appending_slates_one_by_one_rebuilds_the_batch() -> None:
    whole = log_with_all_columns().batch()
    grown = History.start(whole.session, whole.slate_size, whole.user, whole.context)
    for step in range(whole.steps):
        feedback = {name: values[:, step] for name, values in whole.feedback.items()}
        grown = grown.append(whole.items[:, step], whole.reward[:, step], feedback=feedback)
        cut = whole.prefix(step + 1)
        assert torch.equal(grown.items, cut.items) and torch.equal(grown.length, cut.length)
    assert torch.equal(grown.reward, whole.reward)
    assert all(torch.equal(grown.feedback[name], values) for name, values in whole.feedback.items())


def test_shapes_are_checked() -> None:
    items = torch.zeros(2, 3, 1, dtype=torch.int64)
    with pytest.raises(ValueError, match=r"must be \[B, T, K\]"):
        History(items, torch.zeros(2, 3, 2), torch.tensor([3, 3]), torch.arange(2))
    with pytest.raises(ValueError, match=r"length and session must be \[B\]"):
        History(items, torch.zeros(2, 3, 1), torch.tensor([3]), torch.arange(2))
