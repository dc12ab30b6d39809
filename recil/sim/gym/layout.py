"""What an agent sees of a session: a window on its history, as numpy arrays of fixed size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recil.errors import InputError
from recil.logs.history import PAD, History
from recil.policies.environment import TurnByTurn, population_of
from recil.random import Streams
from recil.sim.gym.bounds import LARGEST_CODE, LARGEST_NUMBER, Bounds, bounds_of
from recil.sim.gym.glimpse import glimpse

Observation = dict[str, np.ndarray]


@dataclass(frozen=True)
class Column:
    """A column that agents see.

    part       where History keeps it: feedback, context or user
    name       its name there
    key        its name in observations: the part stands in front, once
    shape      of one session's values: [H, K], [H + 1] or [1]
    floating   numbers (float32, 0 where missing), or codes (int64, -1 where missing)
    bounds     smallest and largest value
    """

    part: str
    name: str
    shape: tuple[int, ...]
    floating: bool
    bounds: Bounds

    @property
    def key(self) -> str:
        return f"{self.part}_{self.name.removeprefix(f'{self.part}_')}"

    @property
    def pad(self) -> int:
        return 0 if self.floating else PAD

    def blank(self, batch: int) -> np.ndarray:
        """[batch, *shape], missing everywhere."""
        return np.full((batch, *self.shape), self.pad, np.float32 if self.floating else np.int64)


@dataclass(frozen=True)
class Layout:
    """The observation of one session; H = `window` is how many slates of the past it holds.

    items        int64 [H, K], the latest slate last; -1 where there was none
    reward       float32 [H, K], 0 where nothing was shown
    step         int64 [1], slates shown so far
    feedback_*   [H, K] each, what was seen after those slates
    context_*    [H + 1] each, the contexts of those slates and, last, of the coming one
    user_*       [1] each

    Columns are numbers (float32, 0 where missing) or codes (int64, -1 where missing).
    """

    catalogue: int
    slate_size: int
    horizon: int
    window: int
    rewards: Bounds
    columns: tuple[Column, ...] = ()

    @staticmethod
    def of(environment: TurnByTurn, window: int = 10) -> Layout:
        """What agents see of this environment. InputError where an agent cannot act in it."""
        if window < 1:
            raise InputError("window", f"{window} slates", "wanted 1 or more")
        if population_of(environment) > 1:
            raise InputError(
                "environment",
                f"its users meet in populations of {population_of(environment)}, an agent acts for one session",
                "take an environment whose sessions stand alone, or train with recil.reinforce",
            )
        start, after = glimpse(environment, torch.zeros(1, dtype=torch.int64), Streams(0))
        known = bounds_of(environment)
        shapes = {"feedback": (window, environment.slate_size), "context": (window + 1,), "user": (1,)}
        parts = {"feedback": after.feedback, "context": start.context, "user": start.user}
        columns = chain.from_iterable(_columns(part, parts[part], shapes[part], known) for part in shapes)
        size = environment.catalogue, environment.slate_size, environment.horizon
        return Layout(*size, window, known.get("reward", (-LARGEST_NUMBER, LARGEST_NUMBER)), tuple(columns))

    @property
    def starts_alike(self) -> bool:
        """Whether sessions look the same before their first slate."""
        return all(column.part == "feedback" for column in self.columns)

    def blank(self, batch: int) -> Observation:
        """Observations of sessions of which nothing is known: what is missing everywhere. [batch, ...] each."""
        slates = (batch, self.window, self.slate_size)
        seen: Observation = {
            "items": np.full(slates, PAD, np.int64),
            "reward": np.zeros(slates, np.float32),
            "step": np.zeros((batch, 1), np.int64),
        }
        for column in self.columns:
            seen[column.key] = column.blank(batch)
        return seen

    def observe(self, history: History) -> Observation:
        """What agents see of these sessions before their coming slates. [B, ...] each, in memory of their own.

        Columns that the history lacks are missing everywhere. InputError where its slates are wider than K.
        """
        if history.slate_size > self.slate_size:
            raise InputError(
                "history", f"slates of {history.slate_size}", f"the agent was made for {self.slate_size} or fewer"
            )
        past = history.length[:, None] + torch.arange(-self.window, 0, device=history.length.device)
        coming = torch.cat([past, history.length[:, None]], 1)
        items = self._wide(_at(history.items, past, PAD), PAD)
        shown = items >= 0
        seen: dict[str, Tensor] = {
            "items": items,
            "reward": torch.where(shown, self._wide(_at(history.reward.float(), past, 0), 0), 0.0),
            "step": history.length[:, None].clone(),
        }
        for column in self.columns:
            values = getattr(history, column.part).get(column.name)
            if values is None:
                seen[column.key] = torch.from_numpy(column.blank(history.batch))
                continue
            values = _plain(values) if column.floating else values.long()
            if column.part == "feedback":
                values = torch.where(shown, self._wide(_at(values, past, column.pad), column.pad), column.pad)
            else:
                values = _at(values, coming, column.pad) if column.part == "context" else values[:, None].clone()
            seen[column.key] = values
        return {key: np.asarray(values.detach().cpu()) for key, values in seen.items()}

    def _wide(self, values: Tensor, pad: int) -> Tensor:
        """Slates [..., k] filled up to [..., K]."""
        return F.pad(values, (0, self.slate_size - values.shape[-1]), value=pad)


def _columns(
    part: str, values: Mapping[str, Tensor], shape: tuple[int, ...], known: Mapping[str, Bounds]
) -> Iterator[Column]:
    for name in sorted(values):
        floating = values[name].is_floating_point()
        low, high = known.get(name, (-LARGEST_NUMBER, LARGEST_NUMBER) if floating else (0, LARGEST_CODE))
        pad = 0 if floating else PAD
        yield Column(part, name, shape, floating, (min(low, pad), max(high, pad)))


def _at(values: Tensor, index: Tensor, pad: int) -> Tensor:
    """values[b, index[b, w]], the pad where there is no such step. values: [B, T, ...]; index: int64 [B, W]."""
    steps = values.shape[1]
    if steps == 0:
        return values.new_full((*index.shape, *values.shape[2:]), pad)
    rows = torch.arange(len(values), device=values.device)[:, None]
    there = ((index >= 0) & (index < steps)).reshape(*index.shape, *[1] * (values.ndim - 2))
    return torch.where(there, values[rows, index.clamp(0, steps - 1)], pad)


def _plain(values: Tensor) -> Tensor:
    """Numbers as spaces can hold them: float32, finite; missing is 0, as logs pad numeric columns."""
    return values.float().nan_to_num()
