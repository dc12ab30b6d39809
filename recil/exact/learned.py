"""What tabular learners leave behind: tables of values, and how they came about."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recil.errors import InputError
from recil.exact.policy import TabularPolicy
from recil.exact.solve import greedy_policy

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class ValueTable:
    """State values of R runs.

    values      float64 [R, S], after the last session; where a state was never left, what it began with
    by_episode  float64 [R, E + 1, S], before the first session and after each; [R, 1, S] of batch learning
    states      the states' names, [S]; numbers where none are given
    """

    values: Tensor
    by_episode: Tensor = field(repr=False)
    states: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        runs, states = self.values.shape
        if self.by_episode.shape[0] != runs or self.by_episode.shape[2] != states:
            raise InputError("values", f"{tuple(self.by_episode.shape)} by episode", f"give [{runs}, E + 1, {states}]")
        object.__setattr__(self, "states", _names(self.states, states, "states"))

    def error(self, truth: Tensor, states: Tensor) -> Tensor:
        """Root mean squared error over `states` (int64 [n]), [R, E + 1]. truth: [S]."""
        return (self.by_episode - truth)[..., states].square().mean(-1).sqrt()

    def to_frame(self) -> pd.DataFrame:
        """One row per state: the mean over runs, and its standard error (nan of one run)."""
        import pandas as pd

        spread = _standard_error(self.values)
        return pd.DataFrame({"value": self.values.mean(0).numpy(), "error": spread.numpy()}, index=list(self.states))

    def plot(self) -> Figure:
        """Mean value of each state by session."""
        figure = _figure("sessions", "value")
        for name, line in zip(self.states, self.by_episode.mean(0).T, strict=True):
            figure.axes[0].plot(line.numpy(), label=name)
        figure.axes[0].legend()
        return figure

    def __str__(self) -> str:
        runs = len(self.values)
        return f"values, mean of {runs} run{'s' * (runs > 1)}\n" + self.to_frame().round(4).to_string(na_rep="")


@dataclass(frozen=True, eq=False)
class QTable:
    """Action values of R runs, and how their sessions went.

    values   float64 [R, S, A], Q after the last session
    returns  float64 [R, E], undiscounted reward of each session while learning
    lengths  int64 [R, E], its steps
    states   the states' names, [S]; numbers where none are given
    actions  the actions' names, [A]; numbers where none are given
    """

    values: Tensor
    returns: Tensor = field(repr=False)
    lengths: Tensor = field(repr=False)
    states: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        runs, states, actions = self.values.shape
        if self.returns.shape[:1] != (runs,) or self.lengths.shape != self.returns.shape:
            raise InputError(
                "q table", f"returns {tuple(self.returns.shape)}, lengths {tuple(self.lengths.shape)}", "give [R, E]"
            )
        object.__setattr__(self, "states", _names(self.states, states, "states"))
        object.__setattr__(self, "actions", _names(self.actions, actions, "actions"))

    def table(self, epsilon: float = 0.0) -> Tensor:
        """Each run's greedy policy (epsilon of it uniform), float64 [R, S, A]; ties to the lower action."""
        return greedy_policy(self.values, epsilon)

    def policy(self, run: int = 0, epsilon: float = 0.0) -> TabularPolicy:
        """That of one run, to recommend by in a tabular world."""
        return TabularPolicy(self.table(epsilon)[run])

    def to_frame(self) -> pd.DataFrame:
        """The Q-table, mean over runs: a row per state, a column per action."""
        import pandas as pd

        return pd.DataFrame(self.values.mean(0).numpy(), index=list(self.states), columns=list(self.actions))

    def plot(self) -> Figure:
        """Mean return by session."""
        figure = _figure("session", "return")
        figure.axes[0].plot(self.returns.mean(0).numpy())
        return figure

    def __str__(self) -> str:
        runs, episodes = self.returns.shape
        last = self.returns[:, -max(episodes // 10, 1) :].mean(1)
        lately = f"return of the last tenth {float(last.mean()):.4g}"
        if runs > 1:
            lately += f" ± {float(_standard_error(last)):.2g}"
        head = f"Q-table after {episodes:,} sessions, mean of {runs} run{'s' * (runs > 1)}; {lately}"
        return head + "\n" + self.to_frame().round(4).to_string()


def _standard_error(values: Tensor) -> Tensor:
    """Of the mean over runs, nan of one run. [R, ...] -> [...]."""
    if len(values) < 2:
        return torch.full_like(values[0], torch.nan)
    return values.std(0) / len(values) ** 0.5


def _names(names: tuple[str, ...], size: int, what: str) -> tuple[str, ...]:
    names = names or tuple(map(str, range(size)))
    if len(names) != size:
        raise InputError(what, f"{len(names)} names for {size}", "give each one a name")
    return names


def _figure(across: str, up: str) -> Figure:
    """A figure with one axis; matplotlib without pyplot: nothing global."""
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    return figure
