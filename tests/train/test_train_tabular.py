"""Q-learning and Sarsa in worlds that were solved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from statistics_helper import assert_mean

from recil.errors import InputError
from recil.evaluate.simulate import simulate
from recil.exact import solve
from recil.exact.episodes import episodes_of, sample_episodes
from recil.exact.policy import TabularPolicy
from recil.exact.world import TabularWorld
from recil.exact.worlds import cheese_maze, cliff_walk, lane, random_walk, short_corridor
from recil.train.tabular import TabularConfig, expected_sarsa, sarsa, tabular_q_learning

CLOSE = {"rtol": 0, "atol": 1e-9}
RUNS = 60


def value_from_start(world, table) -> float:
    return float(world.start @ solve.finite_values(world, table, 200))


@pytest.fixture(scope="module")
def on_the_cliff():
    config = TabularConfig(episodes=500, runs=RUNS, step_size=0.5, epsilon=0.1)
    return {learn: learn(cliff_walk(), config) for learn in (tabular_q_learning, sarsa)}


@pytest.mark.parametrize(("learn", "mean"), [(tabular_q_learning, -49.5), (sarsa, -28.1)])
def test_online_returns_on_the_cliff(on_the_cliff, learn, mean):
    returns = on_the_cliff[learn].returns
    assert returns.shape == (RUNS, 500)
    late = returns[:, 100:].mean(1)
    assert_mean(late, mean, false_alarm=6.3e-5)  # 4 standard errors
    assert float(late.std()) / RUNS**0.5 < 1.0


def test_q_learning_walks_the_edge_and_sarsa_keeps_away(on_the_cliff):
    world = cliff_walk()
    edge = [value_from_start(world, table) for table in on_the_cliff[tabular_q_learning].table()]
    assert edge == pytest.approx([-13.0] * RUNS)
    away = [value_from_start(world, table) for table in on_the_cliff[sarsa].table()]
    assert np.median(away) == pytest.approx(-17, abs=2)
    # What Sarsa does is better than what Q-learning does, for whoever goes on exploring.
    exploring = {
        learn: np.median([float(solve.start_value(world, table)) for table in found.table(0.1)])
        for learn, found in on_the_cliff.items()
    }
    assert exploring[sarsa] > exploring[tabular_q_learning] + 10


def test_the_mazes_q_table():
    maze = cheese_maze()
    found = tabular_q_learning(maze, TabularConfig(episodes=500, runs=3, epsilon=1.0))
    for table in found.values:
        torch.testing.assert_close(table, solve.optimal_values(maze).action_values, **CLOSE)
    assert value_from_start(maze, found.table()[0]) == pytest.approx(7.4)
    lines = str(found).splitlines()
    assert lines[0].startswith("Q-table after 500 sessions, mean of 3 runs; return of the last tenth")
    assert lines[1].split() == ["left", "right", "up", "down"]
    assert lines[2].split() == ["Start", "5.920", "7.4", "5.92", "6.736"]
    assert list(found.to_frame().index) == list(maze.states)
    assert len(found.plot().axes[0].lines) == 1


def test_expected_sarsa_and_sarsa_value_the_policy_that_explores():
    maze = cheese_maze()
    certain = expected_sarsa(maze, TabularConfig(episodes=1_500, epsilon=0.6))
    policy = solve.greedy_policy(certain.values[0], 0.6)
    wanted = solve.action_values(maze, policy)
    torch.testing.assert_close(certain.values[0], wanted, rtol=0, atol=1e-4)
    assert float((wanted - solve.optimal_values(maze).action_values).abs().max()) > 0.5
    # Under a coin for every step the policy is fixed, and Sarsa's mean over runs is its value.
    noisy = sarsa(maze, TabularConfig(episodes=300, runs=60, step_size=0.2, epsilon=1.0))
    fixed = solve.action_values(maze, solve.uniform_policy(maze))
    for state in ("Start", "Small cheese", "2 small cheese"):
        for way in ("left", "up"):
            place = maze.state(state), maze.actions.index(way)
            assert_mean(noisy.values[:, *place], float(fixed[place]))


def test_a_run_is_its_own_whatever_the_others_are():
    many = tabular_q_learning(cliff_walk(), TabularConfig(episodes=5, runs=4), seed=7)
    few = tabular_q_learning(cliff_walk(), TabularConfig(episodes=5, runs=2), seed=7)
    assert torch.equal(many.values[:2], few.values)
    assert torch.equal(many.returns[:2], few.returns)
    assert torch.equal(many.lengths[:2], few.lengths)
    assert not torch.equal(many.returns[0], many.returns[1])
    other = tabular_q_learning(cliff_walk(), TabularConfig(episodes=5, runs=2), seed=8)
    assert not torch.equal(other.returns, few.returns)


def test_returns_and_lengths_are_of_whole_sessions():
    found = tabular_q_learning(short_corridor(), TabularConfig(episodes=40, runs=3, epsilon=0.5))
    assert torch.equal(found.returns, -found.lengths.double())
    assert (found.lengths >= 3).all()


def test_a_cut_session_is_no_end():
    # One step per session, cut: what lies behind the cut is learned all the same.
    walk = random_walk()
    found = tabular_q_learning(walk, TabularConfig(episodes=400, runs=2, longest=1, epsilon=1.0, initial=0.7))
    assert (found.lengths == 1).all()
    torch.testing.assert_close(found.values[:, walk.state("C")], torch.full((2, 2), 0.7, dtype=torch.float64), **CLOSE)
    horizon = tabular_q_learning(TabularWorld(walk, 4), TabularConfig(episodes=50, runs=2, epsilon=1.0))
    assert int(horizon.lengths.max()) == 4


def test_what_is_not_seen_shares_a_row():
    world = TabularWorld(short_corridor(), 30, observed=torch.zeros(4, dtype=torch.int64))
    found = sarsa(world, TabularConfig(episodes=50, runs=2, step_size=0.1))
    assert found.values.shape == (2, 1, 2)
    assert found.states == ("0",)


def test_from_recorded_sessions():
    maze = cheese_maze()
    episodes = sample_episodes(maze, solve.uniform_policy(maze), 2, 400, seed=1)
    found = tabular_q_learning(episodes, TabularConfig(gamma=0.8))
    optimum = solve.optimal_values(maze).action_values
    torch.testing.assert_close(found.values, optimum.expand(2, -1, -1), **CLOSE)
    assert torch.equal(found.lengths, episodes.length)
    log = simulate(TabularPolicy(solve.uniform_policy(maze)), TabularWorld(maze, 50), 400)
    read = episodes_of(log.batch(np.arange(log.sessions)), *maze.size)
    torch.testing.assert_close(tabular_q_learning(read, TabularConfig(gamma=0.8)).values[0], optimum, **CLOSE)
    with pytest.raises(InputError, match="no discount"):
        tabular_q_learning(episodes)


def test_what_was_learned_recommends():
    maze = cheese_maze()
    found = tabular_q_learning(maze, TabularConfig(episodes=400, epsilon=1.0))
    world = TabularWorld(maze, 20)
    log = simulate(found.policy(), world, 5)
    assert (log.lengths == 3).all()
    assert log.reward.sum() == 5 * 11


def test_the_lanes_are_what_the_learners_choose_between():
    world = cliff_walk()
    assert value_from_start(world, lane(2)) == -13


@pytest.mark.parametrize(
    "wrong",
    [{"episodes": 0}, {"runs": 0}, {"step_size": 0.0}, {"epsilon": 1.5}, {"gamma": -0.1}, {"initial": float("inf")}],
)
def test_settings_that_cannot_be_used_are_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        TabularConfig(**wrong)
