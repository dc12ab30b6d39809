"""Logged sessions as variables of a story."""

from __future__ import annotations

import pytest
import torch
from recsim_ng.core.value import Value, ValueSpec
from recsim_ng.core.variable import Variable, value

from recil.logs.history import History
from recil.sim.fields import Field
from recil.sim.network import network_of
from recil.sim.replay import replay, replay_sessions
from recil.sim.runtime import TorchRuntime

SESSIONS = History(
    items=torch.tensor([[[0, 1], [2, 0]], [[1, 2], [-1, -1]]]),
    reward=torch.tensor([[[0.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]]]),
    length=torch.tensor([2, 1]),
    session=torch.arange(2),
    propensity=torch.full((2, 2, 2), 0.5),
    feedback={"dwell": torch.arange(8.0).reshape(2, 2, 2)},
    context={"hour": torch.tensor([[7, 8, 9], [10, 11, 12]])},
)


def test_a_story_meets_what_was_logged_step_by_step() -> None:
    slate = replay_sessions("slate", SESSIONS, context=["hour"], feedback=["dwell"], reward=True, propensity=True)
    clicks = Variable("clicks", ValueSpec(count=Field()))
    clicks.value = value(lambda shown: Value(count=shown.get("reward").sum(-1)), (slate,))
    path = TorchRuntime(network_of([slate, clicks])).trajectory(2)
    assert torch.equal(path["slate"].get("items"), SESSIONS.items.transpose(0, 1))
    assert torch.equal(path["slate"].get("propensity"), SESSIONS.propensity.transpose(0, 1))
    assert torch.equal(path["slate"].get("feedback.dwell"), SESSIONS.feedback["dwell"].transpose(0, 1))
    assert path["slate"].get("context.hour").tolist() == [[7, 10], [8, 11]]
    assert path["clicks"].get("count").tolist() == [[1, 1], [0, 0]]


def test_steps_beyond_the_data_are_refused_by_name() -> None:
    with pytest.raises(IndexError, match="variable 'slate' has data for 2 steps, step 2 was asked for"):
        TorchRuntime(network_of([replay_sessions("slate", SESSIONS)])).trajectory(3)


def test_columns_that_are_not_there_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"no context column 'day'; there are \['hour'\]"):
        replay_sessions("slate", SESSIONS, context=["day"])
    with pytest.raises(ValueError, match="columns of different lengths"):
        replay("data", {"a": torch.zeros(2, 3), "b": torch.zeros(2, 4)})
