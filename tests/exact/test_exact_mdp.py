"""Tables that are no Markov decision process are refused, by name."""

from dataclasses import replace

import pytest
import torch

from recil.errors import InputError
from recil.exact.mdp import TabularMDP
from recil.exact.worlds import infinite_variance_loop, random_walk


@pytest.fixture
def walk() -> TabularMDP:
    return random_walk()


def test_a_world_without_chance_moves_as_told(walk):
    assert walk.size == (7, 2)
    assert walk.transition[1, 0].tolist() == [1, 0, 0, 0, 0, 0, 0]
    assert walk.transition[5, 1].tolist() == [0, 0, 0, 0, 0, 0, 1]
    assert not walk.transition[walk.terminal].any()
    assert walk.reward.sum() == walk.reward[walk.state("E"), 1] == 1
    assert walk.state("C") == int(walk.start.argmax())


def test_mean_reward_is_over_what_may_follow():
    loop = infinite_variance_loop(0.75).mdp
    torch.testing.assert_close(loop.mean_reward[0], torch.tensor([0.25, 0.0]).double())
    two = replace(loop, reward=loop.mean_reward)
    torch.testing.assert_close((two.transition * two.reward_on_arrival).sum(-1), loop.mean_reward)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("transition", lambda table: table * 0.9, "action left.*sums to 0.9"),
        ("transition", lambda table: table.float(), "float32"),
        ("transition", lambda table: table[:, :, :-1], "its shape is"),
        ("transition", lambda table: table.clone().index_fill_(0, torch.tensor(0), 1 / 7), "end.*terminal"),
        ("reward", lambda table: table[:-1], r"mdp\.reward: its shape"),
        ("reward", lambda table: table + 1, "terminal"),
        ("reward", lambda table: table * torch.inf, "not finite"),
        ("start", lambda table: table * 2, "sums to 2"),
        ("start", lambda table: table.roll(-3), "begin in a terminal"),
        ("terminal", lambda table: table.double(), "float64"),
        ("gamma", lambda _: 1.5, "1.5"),
        ("states", lambda _: ("a",), "1 names for 7"),
        ("actions", lambda _: ("a", "a"), "2 names for 2"),
    ],
)
def test_what_is_wrong_is_named(walk, part, change, message):
    with pytest.raises(InputError, match=message):
        replace(walk, **{part: change(getattr(walk, part))})


def test_negative_probabilities_that_sum_to_one_are_refused(walk):
    table = walk.transition.clone()
    table[3, 0, :2] += torch.tensor([0.5, -0.5])
    with pytest.raises(InputError, match="state C"):
        replace(walk, transition=table)


def test_an_unknown_state_is_refused(walk):
    with pytest.raises(InputError, match="'F'"):
        walk.state("F")
