"""Tabular Markov decision processes: all that can happen, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recil.errors import InputError

_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class TabularMDP:
    """S states and A actions (a recommender's items). A session ends on entering a terminal state.

    transition  float64 [S, A, S], probability of the state that follows; rows of terminal states are 0
    reward      float64 [S, A], or [S, A, S] where it depends on the state that follows; 0 in terminal states
    start       float64 [S], how sessions begin; never in a terminal state
    terminal    bool [S]
    gamma       discount per step, in [0, 1]
    states      the names of the states, [S]; numbers where none are given
    actions     the names of the actions, [A]

    InputError where tables do not fit each other or are no probabilities.
    """

    transition: Tensor
    reward: Tensor
    start: Tensor
    terminal: Tensor
    gamma: float = 1.0
    states: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_shapes(self)
        for part, size in (("states", self.transition.shape[0]), ("actions", self.transition.shape[1])):
            names = getattr(self, part) or tuple(map(str, range(size)))
            if len(names) != size or len(set(names)) != size:
                raise InputError(f"mdp.{part}", f"{len(names)} names for {size}", "give each one a name of its own")
            object.__setattr__(self, part, names)
        _check_probabilities(self)

    @property
    def size(self) -> tuple[int, int]:
        """(S, A)"""
        return self.transition.shape[0], self.transition.shape[1]

    @property
    def reward_on_arrival(self) -> Tensor:
        """[S, A, S]: what the step from a state by an action to a state pays."""
        return self.reward if self.reward.ndim == 3 else self.reward[..., None].expand_as(self.transition)

    @property
    def mean_reward(self) -> Tensor:
        """[S, A], over the states that may follow."""
        return self.reward if self.reward.ndim == 2 else (self.transition * self.reward).sum(-1)

    def state(self, name: str) -> int:
        """The number of the state of this name."""
        if name not in self.states:
            raise InputError(f"state {name!r}", "is not one of the world's", f"it has {', '.join(self.states)}")
        return self.states.index(name)

    @staticmethod
    def from_moves(
        moves: Sequence[Sequence[int]],
        reward: Sequence[Sequence[float]],
        start: int,
        terminal: Sequence[int] = (),
        gamma: float = 1.0,
        states: tuple[str, ...] = (),
        actions: tuple[str, ...] = (),
    ) -> TabularMDP:
        """A world without chance. moves: the state that follows, [S, A], anything in terminal states; reward [S, A]."""
        after = torch.tensor(moves)
        size = len(after)
        ends = torch.zeros(size, dtype=torch.bool)
        ends[list(terminal)] = True
        transition = torch.nn.functional.one_hot(after, size).double() * ~ends[:, None, None]
        paid = torch.tensor(reward, dtype=torch.float64) * ~ends[:, None]
        begin = torch.zeros(size, dtype=torch.float64)
        begin[start] = 1.0
        return TabularMDP(transition, paid, begin, ends, gamma, states, actions)


def _check_shapes(mdp: TabularMDP) -> None:
    states, width = mdp.transition.shape[0], mdp.transition.shape[1] if mdp.transition.ndim == 3 else 0
    wanted: dict[str, list[tuple[int, ...]]] = {
        "transition": [(states, width, states)],
        "reward": [(states, width), (states, width, states)],
        "start": [(states,)],
        "terminal": [(states,)],
    }
    for part, shapes in wanted.items():
        tensor = getattr(mdp, part)
        kind = torch.bool if part == "terminal" else torch.float64
        if tuple(tensor.shape) not in shapes or not tensor.numel():
            shape = " or ".join(map(str, shapes))
            raise InputError(f"mdp.{part}", f"its shape is {tuple(tensor.shape)}", f"give {shape}, none of them 0")
        if tensor.dtype != kind:
            raise InputError(f"mdp.{part}", f"holds {tensor.dtype}", f"give {kind}")
    if not 0.0 <= mdp.gamma <= 1.0:
        raise InputError("mdp.gamma", f"{mdp.gamma}", "give a discount in [0, 1]")


def _check_probabilities(mdp: TabularMDP) -> None:
    rows = mdp.transition.sum(-1)
    wanted = (~mdp.terminal).double()[:, None].expand_as(rows)
    wrong = ((rows - wanted).abs() > _ROUNDING) | ~(mdp.transition >= 0).all(-1)
    if bool(wrong.any()):
        state, action = wrong.nonzero()[0].tolist()
        end = " in a terminal state" if mdp.terminal[state] else ""
        raise InputError(
            f"mdp.transition of state {mdp.states[state]}, action {mdp.actions[action]}",
            f"sums to {float(rows[state, action]):.6g}{end}",
            "give probabilities that sum to 1, and 0 in terminal states",
        )
    if not bool((mdp.start >= 0).all()) or abs(float(mdp.start.sum()) - 1) > _ROUNDING:
        raise InputError("mdp.start", f"sums to {float(mdp.start.sum()):.6g}", "give probabilities that sum to 1")
    if bool((mdp.start[mdp.terminal] > 0).any()):
        raise InputError("mdp.start", "sessions begin in a terminal state", "begin where something can be shown")
    if not bool(mdp.reward.isfinite().all()) or bool((mdp.reward[mdp.terminal] != 0).any()):
        raise InputError("mdp.reward", "is not finite, or not 0 in a terminal state", "pay on entering it instead")
