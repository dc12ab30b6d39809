"""Sessions as states, actions and rewards: what value learners read."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recil.errors import InputError
from recil.exact.draw import Moves, ladder, pick
from recil.exact.mdp import TabularMDP
from recil.exact.policy import STATE
from recil.exact.solve import check_policy
from recil.logs.history import History
from recil.random import Streams


@dataclass(frozen=True, eq=False)
class Episodes:
    """R independent runs of E sessions each, of up to T steps; runs are learned from apart, all at once.

    state       int64 [R, E, T + 1], the last entry of a session is the state it came to; what lies behind is ignored
    action      int64 [R, E, T]
    reward      float64 [R, E, T]
    length      int64 [R, E], 1 or more
    terminated  bool [R, E], the session ended; False: it was cut, and its last state still has a value
    states      S, the number of states that there are
    actions     A
    """

    state: Tensor
    action: Tensor
    reward: Tensor
    length: Tensor
    terminated: Tensor
    states: int
    actions: int

    def __post_init__(self) -> None:
        shape = tuple(self.action.shape)
        if len(shape) != 3 or self.state.shape != (*shape[:2], shape[2] + 1) or self.reward.shape != shape:
            raise InputError("episodes", f"actions are {shape}, states {tuple(self.state.shape)}", "give [R, E, T]")
        if self.length.shape != shape[:2] or self.terminated.shape != shape[:2] or self.reward.dtype != torch.float64:
            raise InputError(
                "episodes", "lengths or ends have another shape, or rewards are not float64", "give [R, E]"
            )
        if not self.length.numel() or int(self.length.min()) < 1 or int(self.length.max()) > shape[2]:
            raise InputError("episodes", f"lengths beyond 1 to {shape[2]}", "leave out sessions without a step")
        inside = torch.arange(shape[2] + 1) <= self.length[..., None]
        for part, seen, size in (("state", inside, self.states), ("action", inside[..., 1:], self.actions)):
            codes = getattr(self, part)[seen]
            if int(codes.min()) < 0 or int(codes.max()) >= size:
                raise InputError(f"episodes.{part}", f"has codes beyond 0 to {size - 1}", "number them from 0")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(R, E, T)"""
        return self.action.shape[0], self.action.shape[1], self.action.shape[2]

    @property
    def happened(self) -> Tensor:
        """bool [R, E, T]"""
        return torch.arange(self.shape[2]) < self.length[..., None]

    def first(self, episodes: int) -> Episodes:
        """The first sessions of each run."""
        names = ("state", "action", "reward", "length", "terminated")
        return replace(self, **{name: getattr(self, name)[:, :episodes] for name in names})


def sample_episodes(
    mdp: TabularMDP, policy: Tensor, runs: int, episodes: int, seed: int = 0, longest: int = 10_000
) -> Episodes:
    """Sessions under a policy, [S, A]. A session's draws depend on the seed, its run and its number in it alone.

    longest: steps after which a session is cut.
    """
    check_policy(mdp, policy)
    streams, session = Streams(seed), torch.arange(runs * episodes)
    if not len(session) or longest < 1:
        raise InputError("sample_episodes", f"{runs} runs of {episodes} sessions, {longest} steps", "give 1 or more")
    address = (session // episodes << 32) + session % episodes
    moves, choice = Moves.of(mdp), ladder(policy)
    state = moves.start(streams.uniform("start", address, dtype=torch.float64)[:, 0])
    length, going = torch.zeros_like(session), session
    states, actions, rewards = [state], [], []
    for step in range(longest):
        draws = streams.uniform("step", address[going], step, 2, torch.float64)
        now = states[-1][going]
        action = pick(choice[now], draws[:, 0])
        after, paid = moves.step(now, action, draws[:, 1])
        states.append(states[-1].index_copy(0, going, after))
        actions.append(torch.zeros_like(session).index_copy_(0, going, action))
        rewards.append(torch.zeros(len(session), dtype=torch.float64).index_copy_(0, going, paid))
        length[going] += 1
        going = going[~mdp.terminal[after]]
        if not len(going):
            break
    terminated = torch.ones_like(session, dtype=torch.bool).index_fill_(0, going, False)
    shape = (runs, episodes)

    def by_run(parts: list[Tensor]) -> Tensor:
        return torch.stack(parts, 1).unflatten(0, shape)

    return Episodes(
        by_run(states),
        by_run(actions),
        by_run(rewards),
        length.unflatten(0, shape),
        terminated.unflatten(0, shape),
        *mdp.size,
    )


def episodes_of(sessions: History, states: int, actions: int, column: str = STATE) -> Episodes:
    """Sessions of one run, in their order, with slates of one item: the state is a context column of codes.

    Where a session was cut, the state it came to is taken from the context if it is there (C > T), else its last state
    stands in for it. InputError: no such column, or slates of several items.
    """
    codes = sessions.context.get(column)
    if codes is None or codes.is_floating_point():
        raise InputError(f"context column {column}", "is not there as codes", "name the column that holds the state")
    if sessions.slate_size != 1:
        raise InputError("episodes", f"slates of {sessions.slate_size} items", "give slates of one item, the action")
    width, last = sessions.steps + 1, sessions.length[:, None]
    padded = torch.nn.functional.pad(codes, (0, max(width - codes.shape[1], 0)), value=-1)[:, :width]
    before = padded.gather(1, last - 1)
    reached = padded.gather(1, last)
    # A terminated session's next state is never looked at, but must be a code.
    state = padded.scatter(1, last, torch.where(reached >= 0, reached, before))
    ended = sessions.terminated
    if ended is None:
        ended = torch.zeros(sessions.batch, dtype=torch.bool)
    action, reward = sessions.items[None, :, :, 0], sessions.reward[None, :, :, 0].double()
    return Episodes(state[None], action, reward, sessions.length[None], ended[None], states, actions)
