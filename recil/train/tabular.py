"""Q-learning, Sarsa and expected Sarsa on tables, in a tabular world; many runs at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from recil.errors import InputError
from recil.exact.draw import Moves, ladder, pick
from recil.exact.episodes import Episodes
from recil.exact.learned import QTable
from recil.exact.mdp import TabularMDP
from recil.exact.world import TabularWorld
from recil.ops.values import epsilon_greedy, expected_sarsa_target, moved, q_learning_target, sarsa_target
from recil.random import Streams
from recil.train.finetune_config import require
from recil.train.values import discounts_of

# (reward [R], discount [R], values of the next state [R, A], the next action [R]) -> target [R].
Target = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
_STEPS_AT_ONCE = 64


@dataclass(frozen=True)
class TabularConfig:
    """How a table is learned.

    episodes   sessions of each run
    runs       independent runs, which differ in their draws only
    step_size  alpha, the share of the way to the target that a step goes
    epsilon    share of actions drawn uniformly; the rest are the best ones, ties alike
    gamma      discount per step; None: the world's
    initial    the value that every action begins with
    longest    steps after which a session is cut (in a world with a horizon, that if it is smaller)
    """

    episodes: int = 500
    runs: int = 1
    step_size: float = 0.5
    epsilon: float = 0.1
    gamma: float | None = None
    initial: float = 0.0
    longest: int = 10_000

    def __post_init__(self) -> None:
        for name in ("episodes", "runs", "longest"):
            require(self, name, getattr(self, name) >= 1, "give 1 or more")
        require(self, "step_size", 0 < self.step_size <= 1, "give a number above 0, at most 1")
        require(self, "epsilon", 0 <= self.epsilon <= 1, "give a probability")
        require(self, "gamma", self.gamma is None or 0 <= self.gamma <= 1, "give a discount in [0, 1]")
        require(self, "initial", abs(self.initial) < float("inf"), "give a finite number")


def tabular_q_learning(
    source: TabularMDP | TabularWorld | Episodes, config: TabularConfig | None = None, seed: int = 0
) -> QTable:
    """Q(s, a) <- Q(s, a) + alpha (r + gamma max_a' Q(s', a') - Q(s, a)), acting epsilon-greedily.

    From recorded sessions (Episodes) it learns in their order, whoever acted; config.episodes, runs, epsilon and the
    seed then say nothing, and gamma must be given. Source: Watkins & Dayan (1992), "Q-learning".
    """
    config = config or TabularConfig()
    if isinstance(source, Episodes):
        return _from_sessions(source, config)
    return _in_world(source, config, seed, _q_learning, on_policy=False)


def sarsa(world: TabularMDP | TabularWorld, config: TabularConfig | None = None, seed: int = 0) -> QTable:
    """Q(s, a) <- Q(s, a) + alpha (r + gamma Q(s', a') - Q(s, a)), with a' the action that is taken next.

    It values the policy that explores. Source: Rummery & Niranjan (1994), "On-line Q-learning using connectionist
    systems".
    """
    return _in_world(world, config or TabularConfig(), seed, sarsa_target, on_policy=True)


def expected_sarsa(world: TabularMDP | TabularWorld, config: TabularConfig | None = None, seed: int = 0) -> QTable:
    """Sarsa with the expectation over a' in place of a'; see `sarsa`."""
    config = config or TabularConfig()
    epsilon = config.epsilon

    def target(reward: Tensor, discount: Tensor, next_values: Tensor, _: Tensor) -> Tensor:
        return expected_sarsa_target(reward, discount, next_values, epsilon_greedy(next_values, epsilon))

    return _in_world(world, config, seed, target, on_policy=False)


def _q_learning(reward: Tensor, discount: Tensor, next_values: Tensor, _: Tensor) -> Tensor:
    return q_learning_target(reward, discount, next_values)


class _Draws:
    """Four uniform numbers for each run and step, made for many steps at once."""

    def __init__(self, runs: Tensor, seed: int) -> None:
        self.runs, self.streams, self.time = runs, Streams(seed).child("tabular"), 0

    def next(self, live: Tensor) -> tuple[Tensor, ...]:
        """Of these runs, four times [live]."""
        block, place = divmod(self.time, _STEPS_AT_ONCE)
        if not place:
            drawn = self.streams.uniform("step", self.runs, block, 4 * _STEPS_AT_ONCE, torch.float64)
            self.block = drawn.view(-1, _STEPS_AT_ONCE, 4).permute(1, 2, 0).contiguous()
        self.time += 1
        return self.block[place].index_select(1, live).unbind(0)


class _Runs:
    """Runs that go through their sessions each at its own pace, a step of each at a time, until it has had them all."""

    def __init__(self, world: TabularMDP | TabularWorld, config: TabularConfig, seed: int) -> None:
        self.mdp, self.codes, self.longest = _parts(world, config)
        self.config, self.moves = config, Moves.of(self.mdp)
        self.live = torch.arange(config.runs)
        self.draws, self.width = _Draws(self.live, seed), int(self.codes.max()) + 1
        # Row r * width + o holds run r's values of what is observed as o.
        self.values = torch.full((config.runs * self.width, self.mdp.size[1]), config.initial, dtype=torch.float64)
        gamma = self.mdp.gamma if config.gamma is None else config.gamma
        self.discount = (~self.mdp.terminal).double() * gamma
        self.returns = torch.zeros(config.runs, config.episodes, dtype=torch.float64)
        self.lengths = torch.zeros_like(self.returns, dtype=torch.int64)
        self.episode, self.length = torch.zeros_like(self.live), torch.zeros_like(self.live)
        self.total = torch.zeros_like(self.returns[:, 0])
        start, chance, *_ = self.draws.next(self.live)
        self.state = self.moves.start(start)
        self.action = self.act(self.row(self.state), chance)

    def row(self, state: Tensor) -> Tensor:
        """Where each live run keeps its values of a state, int64 [live]."""
        return self.live * self.width + self.codes[state]

    def act(self, row: Tensor, uniform: Tensor) -> Tensor:
        return pick(ladder(epsilon_greedy(self.values.index_select(0, row), self.config.epsilon)), uniform)

    def step(self, target: Target, on_policy: bool) -> None:
        """One step of every live run, and what it teaches."""
        again, coming, chance, start = self.draws.next(self.live)
        after, reward = self.moves.step(self.state, self.action, chance)
        following = self.row(after)
        chosen = self.act(following, coming) if on_policy else self.action
        wanted = target(reward, self.discount[after], self.values.index_select(0, following), chosen)
        cells, cell = self.values.view(-1), self.row(self.state) * self.mdp.size[1] + self.action
        cells[cell] = moved(cells[cell], wanted, self.config.step_size)
        self.total, self.length = self.total + reward, self.length + 1
        over = self.mdp.terminal[after] | (self.length >= self.longest)
        self.state = torch.where(over, self.moves.start(start), after)
        fresh = self.act(self.row(self.state), again)
        self.action = torch.where(over, fresh, chosen) if on_policy else fresh
        self._close(over.nonzero()[:, 0])

    def _close(self, over: Tensor) -> None:
        """Write down the sessions that are over (places among the live runs), and let go of runs that have had all."""
        if not len(over):
            return
        run, episode = self.live[over], self.episode[over]
        self.returns[run, episode], self.lengths[run, episode] = self.total[over], self.length[over]
        self.total[over], self.length[over], self.episode[over] = 0.0, 0, episode + 1
        if int(episode.max()) + 1 == self.config.episodes:
            rest = self.episode < self.config.episodes
            for name in ("live", "state", "action", "episode", "length", "total"):
                setattr(self, name, getattr(self, name)[rest])


def _parts(world: TabularMDP | TabularWorld, config: TabularConfig) -> tuple[TabularMDP, Tensor, int]:
    """The tables, what is seen of each state, the longest session."""
    if isinstance(world, TabularMDP):
        return world, torch.arange(world.size[0]), config.longest
    return world.mdp, world.codes, min(config.longest, world.horizon)


@torch.no_grad()
def _in_world(
    world: TabularMDP | TabularWorld, config: TabularConfig, seed: int, target: Target, on_policy: bool
) -> QTable:
    runs = _Runs(world, config, seed)
    while len(runs.live):
        runs.step(target, on_policy)
    values = runs.values.view(config.runs, runs.width, -1)
    names = runs.mdp.states if torch.equal(runs.codes, torch.arange(len(runs.codes))) else ()
    return QTable(values, runs.returns, runs.lengths, names, runs.mdp.actions)


@torch.no_grad()
def _from_sessions(episodes: Episodes, config: TabularConfig) -> QTable:
    """Step after step as recorded, every run from its own sessions."""
    if config.gamma is None:
        raise InputError("TabularConfig gamma", "recorded sessions have no discount", "give gamma")
    discount, happened = discounts_of(episodes, config.gamma), episodes.happened.double()
    runs = torch.arange(episodes.shape[0])
    values = torch.full((len(runs), episodes.states, episodes.actions), config.initial, dtype=torch.float64)
    for episode, steps in enumerate(episodes.length.amax(0).tolist()):
        for step in range(steps):
            alive = happened[:, episode, step]
            state, after = episodes.state[:, episode, step], episodes.state[:, episode, step + 1]
            action = episodes.action[:, episode, step]
            target = q_learning_target(
                episodes.reward[:, episode, step], discount[:, episode, step], values[runs, after]
            )
            old = values[runs, state, action]
            values[runs, state, action] = moved(old, target, config.step_size * alive)
    returns = torch.where(episodes.happened, episodes.reward, 0.0).sum(-1)
    return QTable(values, returns, episodes.length)
