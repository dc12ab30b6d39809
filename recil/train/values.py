"""Values of the policy that wrote the sessions: Monte Carlo and temporal differences, online and in batch.

Runs are learned from apart and all at once. Source: Sutton & Barto (2018), "Reinforcement learning", chapter 6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from recil.errors import InputError
from recil.exact.episodes import Episodes
from recil.exact.learned import ValueTable
from recil.ops.returns import rewards_to_go
from recil.ops.values import moved, td_target
from recil.train.finetune_config import require

_MOST_SWEEPS = 20_000


@dataclass(frozen=True)
class ValueConfig:
    """How values are learned.

    step_size  alpha, the share of the way to the target that a step goes; batch learning has none
    gamma      discount per step
    initial    the value that every state begins with
    """

    step_size: float = 0.1
    gamma: float = 1.0
    initial: float = 0.0

    def __post_init__(self) -> None:
        require(self, "step_size", 0 < self.step_size <= 1, "give a number above 0, at most 1")
        require(self, "gamma", 0 <= self.gamma <= 1, "give a discount in [0, 1]")
        require(self, "initial", abs(self.initial) < float("inf"), "give a finite number")


def td_values(episodes: Episodes, config: ValueConfig | None = None, names: tuple[str, ...] = ()) -> ValueTable:
    """TD(0), step by step: V(s_t) <- V(s_t) + alpha (r_t + gamma V(s_{t+1}) - V(s_t)). names: of the states, [S].

    The end of a session that was cut counts with the value of the state it came to.
    """
    config = config or ValueConfig()
    discount = discounts_of(episodes, config.gamma)
    values, by_episode = _begin(episodes, config)
    for episode, step, alive in _steps(episodes):
        state, after = episodes.state[:, episode, step, None], episodes.state[:, episode, step + 1, None]
        target = td_target(
            episodes.reward[:, episode, step, None], discount[:, episode, step, None], values.gather(1, after)
        )
        values.scatter_(1, state, moved(values.gather(1, state), target, config.step_size * alive))
        by_episode[:, episode + 1] = values
    return ValueTable(values, by_episode, names)


def monte_carlo_values(
    episodes: Episodes, config: ValueConfig | None = None, names: tuple[str, ...] = ()
) -> ValueTable:
    """Every visit, after each session: V(s_t) <- V(s_t) + alpha (G_t - V(s_t)). names: of the states, [S].

    Of a session that was cut, the return is what it brought until then.
    """
    config = config or ValueConfig()
    returns = _returns(episodes, config.gamma)
    values, by_episode = _begin(episodes, config)
    for episode, step, alive in _steps(episodes):
        state = episodes.state[:, episode, step, None]
        target = returns[:, episode, step, None]
        values.scatter_(1, state, moved(values.gather(1, state), target, config.step_size * alive))
        by_episode[:, episode + 1] = values
    return ValueTable(values, by_episode, names)


def batch_td_values(
    episodes: Episodes, config: ValueConfig | None = None, names: tuple[str, ...] = (), precision: float = 1e-12
) -> ValueTable:
    """Where TD(0) comes to rest when all sessions are presented again and again. names: of the states, [S].

    Each sweep moves every state by the mean of its increments, until nothing moves: the values of the world that is
    likeliest to have brought these sessions (certainty equivalence). InputError where they do not settle.
    """
    config = config or ValueConfig()
    count, paid, follows = _counted(episodes)
    seen, values = count > 0, _begin(episodes, config)[0]
    for _ in range(_MOST_SWEEPS):
        target = (paid + config.gamma * (follows @ values[..., None])[..., 0]) / count.clamp(min=1)
        change = torch.where(seen, target - values, 0.0)
        values = values + change
        if float(change.abs().amax()) <= precision * max(1.0, float(values.abs().amax())):
            return ValueTable(values, values[:, None], names)
    raise InputError("batch_td_values", "values do not settle", "give a gamma below 1, or sessions that end")


def batch_monte_carlo_values(
    episodes: Episodes, config: ValueConfig | None = None, names: tuple[str, ...] = ()
) -> ValueTable:
    """Where Monte Carlo comes to rest on all sessions: the mean return after each visit. names: of the states, [S]."""
    config = config or ValueConfig()
    values = _begin(episodes, config)[0]
    place, happened = episodes.state[..., :-1].flatten(1), episodes.happened.flatten(1)
    place = torch.where(happened, place, 0)
    returns = torch.where(happened, _returns(episodes, config.gamma).flatten(1), 0.0)
    total = torch.zeros_like(values).scatter_add_(1, place, returns)
    count = torch.zeros_like(values).scatter_add_(1, place, happened.double())
    values = torch.where(count > 0, total / count.clamp(min=1), values)
    return ValueTable(values, values[:, None], names)


def discounts_of(episodes: Episodes, gamma: float) -> Tensor:
    """gamma after each step, 0 where the session ended (not where it was cut). float64 [R, E, T]."""
    last = torch.arange(episodes.shape[2]) == episodes.length[..., None] - 1
    return gamma * (~(last & episodes.terminated[..., None])).double()


def _begin(episodes: Episodes, config: ValueConfig) -> tuple[Tensor, Tensor]:
    """Values [R, S] before the first session, and room for those after each."""
    runs, sessions, _ = episodes.shape
    by_episode = torch.full((runs, sessions + 1, episodes.states), config.initial, dtype=torch.float64)
    return by_episode[:, 0].clone(), by_episode


def _steps(episodes: Episodes) -> Iterator[tuple[int, int, Tensor]]:
    """(session, step, float64 [R, 1]: 1 for runs whose session has this step), in the order in which they happened."""
    longest, happened = episodes.length.amax(0).tolist(), episodes.happened.double()
    for episode, steps in enumerate(longest):
        for step in range(steps):
            yield episode, step, happened[:, episode, step, None]


def _returns(episodes: Episodes, gamma: float) -> Tensor:
    """[R, E, T]"""
    return rewards_to_go(episodes.reward.flatten(0, 1), episodes.happened.flatten(0, 1), gamma).view(episodes.shape)


def _counted(episodes: Episodes) -> tuple[Tensor, Tensor, Tensor]:
    """Of each run: visits [R, S], reward after them [R, S], and how often which state followed, ends left out."""
    runs, states = episodes.shape[0], episodes.states
    happened = episodes.happened.flatten(1)
    source = torch.where(happened, episodes.state[..., :-1].flatten(1), 0)
    after = torch.where(happened, episodes.state[..., 1:].flatten(1), 0)
    goes_on = discounts_of(episodes, 1.0).flatten(1) * happened
    count = torch.zeros(runs, states, dtype=torch.float64)
    paid = count.scatter_add(1, source, torch.where(happened, episodes.reward.flatten(1), 0.0))
    follows = torch.zeros(runs, states * states, dtype=torch.float64)
    follows.scatter_add_(1, source * states + after, goes_on)
    return count.scatter_add(1, source, happened.double()), paid, follows.view(runs, states, states)
