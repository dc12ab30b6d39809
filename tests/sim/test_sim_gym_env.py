"""One session as a Gymnasium episode: Gymnasium's own checks, and the sessions that recil itself simulates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("gymnasium")

import gymnasium
from agents_for_gym import EVOLVING, LEAVING, SINGLE, WITH_COLUMNS, WORLDS, Ranker, assert_equal, played
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from known_users import users_with_columns

from recil.errors import InputError
from recil.logs.history import PAD
from recil.sim.gym import AgentPolicy, RecommendationEnv
from recil.sim.storage import save_users


@pytest.mark.parametrize("slate_size", [1, 2, 5])
def test_gymnasium_finds_nothing_in_interest_evolution(slate_size):
    env = gymnasium.make("recil/InterestEvolution-v0", items=6, slate_size=slate_size, horizon=4, topics=3)
    check_env(env.unwrapped)


def test_gymnasium_finds_nothing_in_fitted_users(tmp_path):
    save_users(users_with_columns(), tmp_path / "users")
    check_env(gymnasium.make("recil/FittedUsers-v0", users=str(tmp_path / "users"), horizon=4).unwrapped)


@pytest.mark.parametrize("name", WORLDS)
def test_observations_are_of_the_space_declared_and_of_its_types(name):
    env = RecommendationEnv(WORLDS[name], window=3)
    for session in range(20):
        for seen in played(env, Ranker.of(WORLDS[name]), seed=0, options={"session": session}).seen:
            assert seen in env.observation_space
            assert {key: values.dtype for key, values in seen.items()} == {
                key: space.dtype for key, space in env.observation_space.items()
            }


@pytest.mark.parametrize("name", WORLDS)
def test_an_episode_is_the_session_that_recil_simulates(name):
    world, agent = WORLDS[name], Ranker.of(WORLDS[name])
    env = RecommendationEnv(world)
    policy = AgentPolicy.of_actions(agent, env.layout)
    episodes = [played(env, agent, **({"seed": 11} if session == 0 else {})) for session in range(25)]
    sessions = world.rollout(policy, torch.arange(25), env.streams)
    for row, episode in enumerate(episodes):
        length = int(sessions.length[row])
        assert len(episode.rewards) == length
        np.testing.assert_array_equal(np.stack(episode.actions), sessions.items[row, :length])
        paid = np.stack([info["reward_by_position"] for info in episode.infos])
        np.testing.assert_array_equal(paid, sessions.reward[row, :length])
        assert episode.rewards == paid.sum(1, dtype=np.float64).tolist()
        assert episode.terminated == bool(sessions.terminated[row])
        assert {info["session"] for info in episode.infos} == {row}
    assert sessions.reward.sum() > 0


def test_who_leaves_is_terminated_and_who_is_cut_is_truncated():
    env = RecommendationEnv(LEAVING)
    episodes = [played(env, Ranker.of(LEAVING), seed=2, options={"session": session}) for session in range(60)]
    assert all(type(episode.terminated) is type(episode.truncated) is bool for episode in episodes)
    assert all(episode.terminated != episode.truncated for episode in episodes)
    lengths = [len(episode.rewards) for episode in episodes]
    assert all(episode.terminated for episode in episodes if len(episode.rewards) < LEAVING.horizon)
    last = [episode for episode, length in zip(episodes, lengths, strict=True) if length == LEAVING.horizon]
    # Some leave with the very last slate: that is their own decision, not the horizon's.
    assert any(episode.terminated for episode in last) and any(episode.truncated for episode in last)
    assert min(lengths) < LEAVING.horizon == max(lengths)


def test_a_seed_is_a_series_of_different_sessions():
    env, agent = RecommendationEnv(LEAVING), Ranker.of(LEAVING)

    def series(seed: int) -> list[tuple[list[float], int]]:
        episodes = [played(env, agent, **({"seed": seed} if number == 0 else {})) for number in range(8)]
        return [(episode.rewards, episode.infos[0]["session"]) for episode in episodes]

    one = series(5)
    assert [session for _, session in one] == list(range(8))
    assert len({tuple(rewards) for rewards, _ in one}) > 2
    assert series(5) == one
    assert series(6) != one


def test_a_reset_ends_a_session_that_was_going_on():
    env, agent = RecommendationEnv(EVOLVING), Ranker.of(EVOLVING)
    expected = played(env, agent, seed=1, options={"session": 4})
    env.reset(options={"session": 3})
    env.step(np.arange(3))
    again = played(env, agent)
    assert again.infos[0]["session"] == 4 and again.rewards == expected.rewards


def test_without_a_seed_environments_differ():
    seeds = set()
    for _ in range(3):
        env = RecommendationEnv(SINGLE)
        env.reset()
        seeds.add(env.streams.seed)
    assert len(seeds) == 3


@pytest.mark.parametrize(
    ("action", "problem"),
    [
        ([3, 4, 3], r"action: \[3, 4, 3\]: item 3 stands twice -> show 3 different items of 0 to 11"),
        ([3, 4, 12], r"action: \[3, 4, 12\]: 12 is no item -> show 3 different items of 0 to 11"),
        ([3, -1, 4], r"action: \[3, -1, 4\]: -1 is no item"),
        ([3, 2**40, 4], "1099511627776 is no item"),
        ([3, 4], r"int64 of shape \[1, 2\] -> give whole numbers of shape \[1, 3\]"),
        (3, r"int64 of shape \[1\]"),
        ([0.0, 1.0, 2.0], "float64"),
        ([True, False, True], "bool"),
    ],
)
def test_what_is_no_slate_is_refused_and_changes_nothing(action, problem):
    env = RecommendationEnv(EVOLVING)
    env.reset(seed=1)
    with pytest.raises(InputError, match=problem):
        env.step(action)
    after = env.step([3, 4, 5])
    env.reset(seed=1)
    expected = env.step([3, 4, 5])
    assert_equal(after[0], expected[0])
    assert after[1:4] == expected[1:4]


@pytest.mark.parametrize("action", [6, -1, [1, 2], 0.5])
def test_what_is_no_item_is_refused(action):
    env = RecommendationEnv(SINGLE)
    env.reset(seed=1)
    with pytest.raises(InputError, match="action"):
        env.step(action)


def test_sampled_actions_can_be_shown():
    env = RecommendationEnv(EVOLVING)
    env.action_space.seed(3)
    slates = [env.action_space.sample() for _ in range(200)]
    assert all(len(set(slate.tolist())) == 3 and slate in env.action_space for slate in slates)
    assert {item for slate in slates for item in slate.tolist()} == set(range(12))
    assert np.array([1, 2, 1]) not in env.action_space and np.array([1, 2, 12]) not in env.action_space
    env.action_space.seed(3)
    assert (env.action_space.sample() == slates[0]).all()


def test_steps_belong_between_a_reset_and_the_end():
    env = RecommendationEnv(EVOLVING)
    with pytest.raises(ResetNeeded, match="call reset"):
        env.step([0, 1, 2])
    played(env, Ranker.of(EVOLVING), seed=0)
    with pytest.raises(ResetNeeded, match="is over"):
        env.step([0, 1, 2])
    env.close()
    env.close()
    assert env.reset()[1] == {"session": 0}


def test_the_propensity_is_the_agents_to_declare():
    env = RecommendationEnv(EVOLVING)
    env.reset(seed=0)
    assert env.step([0, 1, 2])[4]["propensity"] is None
    env.declare_propensity([0.5, 0.25, 1.0])
    with pytest.raises(InputError):
        env.step([0, 0, 0])
    assert env.step([0, 1, 2])[4]["propensity"].tolist() == [0.5, 0.25, 1.0]
    assert env.step([0, 1, 2])[4]["propensity"] is None
    env.declare_propensity([0.5, 0.25, 1.0])
    env.reset()
    assert env.step([0, 1, 2])[4]["propensity"] is None


@pytest.mark.parametrize(
    ("values", "problem"), [([0.5, 0.5], r"shape \[2\]"), ([0.5, 0.0, 1.0], "propensity: 0 ->"), ([0.5, 1.5, 1], "1.5")]
)
def test_what_is_no_propensity_is_refused(values, problem):
    env = RecommendationEnv(EVOLVING)
    with pytest.raises(InputError, match=problem):
        env.declare_propensity(values)


def test_the_window_holds_the_latest_slates_the_newest_last():
    env = RecommendationEnv(EVOLVING, window=2)
    episode = played(env, Ranker.of(EVOLVING), seed=3)
    assert (episode.seen[0]["items"] == PAD).all() and not episode.seen[0]["reward"].any()
    assert (episode.seen[1]["items"][0] == PAD).all()
    for step in range(2, EVOLVING.horizon + 1):
        seen = episode.seen[step]
        np.testing.assert_array_equal(seen["items"], episode.actions[step - 2 : step])
        paid = [info["reward_by_position"] for info in episode.infos[step - 2 : step]]
        np.testing.assert_array_equal(seen["reward"], paid)
        assert seen["step"].tolist() == [step]
    assert any(episode.rewards)


def test_columns_of_the_user_and_of_the_coming_step_are_seen_and_no_later_ones():
    env = RecommendationEnv(WITH_COLUMNS, window=2)
    starts = WITH_COLUMNS.users.starts
    met = set()
    for session in range(30):
        episode = played(env, Ranker.of(WITH_COLUMNS), seed=8, options={"session": session})
        _, start = starts.draw(torch.tensor([session]), 2, WITH_COLUMNS.horizon, env.streams)
        tabs = [PAD, PAD, *start.context["context_tab"][0].tolist(), PAD]
        age = float(start.user["user_age"].nan_to_num())
        for step, seen in enumerate(episode.seen):
            assert seen["context_tab"].tolist() == tabs[step : step + 3]
            assert seen["user_age"].tolist() == [age]
            assert seen["user_region"].tolist() == start.user["user_region"].tolist()
        met.add((age, int(start.user["user_region"])))
    assert met == {(20.0, 0), (30.0, 1), (0.0, -1)}
    assert env.observation_space["context_tab"].high.tolist() == [1, 1, 1]
    assert env.observation_space["user_region"].low.tolist() == [-1]


def test_feedback_is_seen_with_its_bounds():
    world = replace(EVOLVING, feedback=("reward",))
    env = RecommendationEnv(world, window=4)
    space = env.observation_space["feedback_reward"]
    assert space.shape == (4, 3) and not space.low.any() and (space.high > 1e38).all()
    seen = played(env, Ranker.of(world), seed=3).seen
    assert seen[-1]["reward"].any()
    for one in seen:
        np.testing.assert_array_equal(one["feedback_reward"], one["reward"])


def test_users_who_meet_in_populations_are_refused():
    with pytest.raises(InputError, match="populations of 2, an agent acts for one session"):
        RecommendationEnv(replace(EVOLVING, population=2))


def test_options_are_checked():
    env = RecommendationEnv(EVOLVING)
    with pytest.raises(InputError, match=r"options: \['reset_mask'\]"):
        env.reset(options={"reset_mask": [True]})
    for wrong in ("x", 1.5, [1, 2], True):
        with pytest.raises(InputError, match="session"):
            env.reset(options={"session": wrong})
    with pytest.raises(InputError, match="window"):
        RecommendationEnv(EVOLVING, window=0)
