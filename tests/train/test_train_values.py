"""Monte Carlo and TD(0), online and in batch, on the random walk and on worlds where the answer is worked out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from recil.errors import InputError
from recil.exact import solve
from recil.exact.episodes import Episodes, sample_episodes
from recil.exact.worlds import random_walk, small_recommender
from recil.train.values import (
    ValueConfig,
    batch_monte_carlo_values,
    batch_td_values,
    monte_carlo_values,
    td_values,
)

RUNS = 100
INSIDE = torch.arange(1, 6)
AFTER = (10, 25, 50, 75, 100)
# Mean error over runs after so many sessions, by method and step size.
ONLINE = {
    (td_values, 0.05): (0.1745, 0.1098, 0.0531, 0.0359, 0.0351),
    (td_values, 0.1): (0.1281, 0.0565, 0.0499, 0.0545, 0.0554),
    (td_values, 0.15): (0.0945, 0.0574, 0.0681, 0.0705, 0.0704),
    (monte_carlo_values, 0.01): (0.2128, 0.1834, 0.1450, 0.1168, 0.0973),
    (monte_carlo_values, 0.02): (0.1974, 0.1548, 0.1113, 0.0902, 0.0829),
    (monte_carlo_values, 0.03): (0.1871, 0.1403, 0.1046, 0.0953, 0.0956),
    (monte_carlo_values, 0.04): (0.1804, 0.1350, 0.1099, 0.1072, 0.1097),
}
BATCH = {
    batch_td_values: (0.1228, 0.0772, 0.0535, 0.0377),
    batch_monte_carlo_values: (0.1760, 0.1144, 0.0812, 0.0569),
}


@pytest.fixture(scope="module")
def walks() -> Episodes:
    walk = random_walk()
    return sample_episodes(walk, solve.uniform_policy(walk), RUNS, 100, seed=0)


def truth() -> torch.Tensor:
    walk = random_walk()
    return solve.state_values(walk, solve.uniform_policy(walk))


def assert_near(errors: torch.Tensor, wanted: tuple[float, ...]) -> None:
    """errors: [runs, n]. Within 4 standard errors of a mean of so many runs: a false alarm in 16,000 per number."""
    bound = 4 * errors.std(0) / len(errors) ** 0.5
    distance = (errors.mean(0) - torch.tensor(wanted, dtype=torch.float64)).abs()
    assert bool((distance <= bound).all()), f"{errors.mean(0).tolist()} against {wanted}, bounds {bound.tolist()}"
    assert float(bound.max()) < 0.025


@pytest.mark.parametrize(("method", "step_size"), ONLINE, ids=lambda part: getattr(part, "__name__", str(part)))
def test_error_on_the_random_walk(walks, method, step_size):
    errors = method(walks, ValueConfig(step_size, 1.0, 0.5)).error(truth(), INSIDE)
    assert errors.shape == (RUNS, 101)
    assert round(float(errors[:, 0].mean()), 5) == 0.23570
    assert_near(errors[:, list(AFTER)], ONLINE[method, step_size])


@pytest.mark.parametrize("method", BATCH, ids=lambda method: method.__name__)
def test_error_of_batch_learning_on_the_random_walk(method):
    walk = random_walk()
    walks = sample_episodes(walk, solve.uniform_policy(walk), 400, 100, seed=1)
    errors = [method(walks.first(n), ValueConfig(initial=0.5)).error(truth(), INSIDE)[:, 0] for n in (10, 25, 50, 100)]
    assert_near(torch.stack(errors, 1), BATCH[method])


def test_one_session_moves_one_end_of_the_walk(walks):
    found = td_values(walks.first(1), ValueConfig(0.1, 1.0, 0.5))
    before, after = found.by_episode[:, 0, 1:-1], found.by_episode[:, 1, 1:-1]
    left = walks.state[:, 0].gather(1, walks.length[:, :1])[:, 0] == 0
    assert 20 < int(left.sum()) < 80
    wanted = before.clone()
    wanted[left, 0], wanted[~left, 4] = 0.45, 0.55
    torch.testing.assert_close(after, wanted, rtol=0, atol=1e-12)


def sessions_of_a_recommender(cut: int = 10_000) -> Episodes:
    world = small_recommender()
    return sample_episodes(world, solve.uniform_policy(world), 3, 12, seed=1, longest=cut)


def by_hand(episodes: Episodes, run: int, config: ValueConfig, monte_carlo: bool) -> list[float]:
    values = [config.initial] * episodes.states
    for session in range(episodes.shape[1]):
        length = int(episodes.length[run, session])
        state, reward = episodes.state[run, session].tolist(), episodes.reward[run, session].tolist()
        for step in range(length):
            ended = step + 1 == length and bool(episodes.terminated[run, session])
            target = reward[step] + (0 if ended else config.gamma * values[state[step + 1]])
            if monte_carlo:
                target = sum(config.gamma ** (later - step) * reward[later] for later in range(step, length))
            values[state[step]] += config.step_size * (target - values[state[step]])
    return values


@pytest.mark.parametrize("cut", [10_000, 3])
@pytest.mark.parametrize("method", [td_values, monte_carlo_values])
def test_online_learning_is_the_loop_of_the_book(method, cut):
    episodes = sessions_of_a_recommender(cut)
    assert bool(episodes.terminated.all()) == (cut == 10_000)
    config = ValueConfig(0.2, 0.9, 0.3)
    found = method(episodes, config)
    for run in range(3):
        assert found.values[run].tolist() == pytest.approx(
            by_hand(episodes, run, config, method is monte_carlo_values), abs=1e-12
        )
    assert torch.equal(found.values, found.by_episode[:, -1])


@pytest.mark.parametrize("cut", [10_000, 3])
def test_batch_td_is_certainty_equivalence(cut):
    episodes = sessions_of_a_recommender(cut)
    found = batch_td_values(episodes, ValueConfig(gamma=0.9, initial=0.3))
    for run in range(3):
        step = torch.zeros(episodes.states, episodes.states, dtype=torch.float64)
        reward, count = torch.zeros(episodes.states).double(), torch.zeros(episodes.states).double()
        for session in range(episodes.shape[1]):
            length = int(episodes.length[run, session])
            for place in range(length):
                state, after = episodes.state[run, session, place : place + 2].tolist()
                count[state] += 1
                reward[state] += episodes.reward[run, session, place]
                step[state, after] += not (place + 1 == length and episodes.terminated[run, session])
        seen = count > 0
        # What was never left keeps what it began with, and is worth that to what came to it.
        step, reward = step / count.clamp(min=1)[:, None], torch.where(seen, reward / count.clamp(min=1), 0.3)
        wanted = torch.linalg.solve(torch.eye(episodes.states).double() - 0.9 * step, reward)
        torch.testing.assert_close(found.values[run], wanted, rtol=0, atol=1e-10)


def test_batch_monte_carlo_is_the_mean_return():
    episodes = sessions_of_a_recommender()
    found = batch_monte_carlo_values(episodes, ValueConfig(gamma=0.9, initial=0.3))
    returns: dict[int, list[float]] = {}
    for session in range(episodes.shape[1]):
        length = int(episodes.length[1, session])
        reward = episodes.reward[1, session].tolist()
        for step in range(length):
            tail = sum(0.9 ** (later - step) * reward[later] for later in range(step, length))
            returns.setdefault(int(episodes.state[1, session, step]), []).append(tail)
    wanted = [sum(returns[state]) / len(returns[state]) if state in returns else 0.3 for state in range(10)]
    assert found.values[1].tolist() == pytest.approx(wanted, abs=1e-12)


def test_what_lies_behind_the_end_is_not_read():
    episodes = sessions_of_a_recommender()
    state, reward = episodes.state.clone(), episodes.reward.clone()
    state[..., 1:][~episodes.happened], reward[~episodes.happened] = 5, 1e6
    garbage = replace(episodes, state=state, reward=reward)
    for method in (td_values, monte_carlo_values, batch_td_values, batch_monte_carlo_values):
        config = ValueConfig(gamma=0.9)
        torch.testing.assert_close(method(garbage, config).values, method(episodes, config).values, rtol=0, atol=1e-12)


def test_values_that_cannot_settle_are_refused():
    for_ever = Episodes(
        torch.zeros(1, 1, 3, dtype=torch.int64),
        torch.zeros(1, 1, 2, dtype=torch.int64),
        torch.ones(1, 1, 2, dtype=torch.float64),
        torch.full((1, 1), 2),
        torch.zeros(1, 1, dtype=torch.bool),
        1,
        1,
    )
    with pytest.raises(InputError, match="do not settle"):
        batch_td_values(for_ever)
    assert batch_td_values(for_ever, ValueConfig(gamma=0.5)).values.item() == pytest.approx(2.0)


def test_the_table_reads_well(walks):
    found = td_values(walks.first(5), ValueConfig(initial=0.5), random_walk().states)
    assert str(found).splitlines()[0] == "values, mean of 100 runs"
    assert list(found.to_frame().index) == ["end", *"ABCDE", "goal"]
    assert len(found.plot().axes[0].lines) == 7
    with pytest.raises(InputError, match="2 names for 7"):
        td_values(walks.first(1), names=("a", "b"))


@pytest.mark.parametrize("wrong", [{"step_size": 0.0}, {"step_size": 2.0}, {"gamma": 1.1}, {"initial": float("nan")}])
def test_settings_that_cannot_be_used_are_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        ValueConfig(**wrong)
