"""Sessions side by side, advanced slate by slate from outside; an ended one gives its place to another."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from recil.errors import InputError
from recil.logs.history import History
from recil.policies.environment import Turn, TurnByTurn
from recil.policies.protocol import Slates
from recil.random import Streams
from recil.sim.gym.glimpse import glimpse
from recil.sim.gym.layout import Layout, Observation


class Shown(NamedTuple):
    """What came of slates at N places; at those where no session is going on: nothing.

    observation [N, ...] each; reward float32 [N, K]; terminated, truncated bool [N], never both
    """

    observation: Observation
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray


class _Handed:
    """Shows the slates it was handed, each once."""

    def __init__(self, catalogue: int) -> None:
        self.catalogue = catalogue
        self.next: Slates | None = None

    def sample(self, history: History, k: int, streams: Streams) -> Slates:
        slates, self.next = self.next, None
        if slates is None:
            raise RuntimeError("the environment asked for a slate ahead of its turn: `turns` must run step by step")
        return slates

    def log_prob(self, history: History, slate: Tensor) -> Tensor:
        raise NotImplementedError("what an agent outside would have shown is not known")


class _Cohort:
    """Sessions that started together, as one batch of the environment.

    places: int64 [C], where each sits; going: bool [C], which of them have not ended.
    """

    def __init__(self, environment: TurnByTurn, places: np.ndarray, sessions: np.ndarray, streams: Streams) -> None:
        self.places, self.going = places, np.ones(len(places), dtype=bool)
        self._policy = _Handed(environment.catalogue)
        self._turns = environment.turns(self._policy, torch.from_numpy(sessions), streams)

    def show(self, items: np.ndarray, propensity: np.ndarray) -> Turn:
        """The turn after these slates, [C, K] each; those of sessions that have ended are not looked at."""
        harmless = np.arange(items.shape[1])
        items = np.where(self.going[:, None], items, harmless)
        chances = np.where(self.going[:, None] & ~np.isnan(propensity), propensity, 1.0)
        self._policy.next = Slates(torch.from_numpy(items), torch.from_numpy(chances).float().log())
        turn = next(self._turns, None)
        if turn is None:
            raise RuntimeError("the environment ended before its horizon while a session was still going on")
        return turn


class Sessions:
    """N places. The one numbered i plays the sessions i, i + N, i + 2 N, ... of `streams`, unless told otherwise.

    So what a place plays depends neither on the others nor on when their sessions end. Sessions that start together
    are simulated as one batch; there are at most as many batches as the environment's horizon has steps.
    """

    def __init__(self, environment: TurnByTurn, layout: Layout, streams: Streams, places: int) -> None:
        self._environment, self._layout, self.streams = environment, layout, streams
        self.address = np.arange(-places, 0)
        self.waiting = np.ones(places, dtype=bool)
        self._step = np.zeros(places, dtype=np.int64)
        self._cohorts: list[_Cohort] = []

    def call(self, addresses: np.ndarray) -> None:
        """The sessions that places play from the next `seat` on, int64 [N]."""
        if addresses.shape != self.address.shape or not np.issubdtype(addresses.dtype, np.integer):
            raise InputError(
                "options['session']",
                f"{addresses.dtype} of shape {list(addresses.shape)}",
                f"give a whole number for each of {len(self.address)} sessions",
            )
        self.address = addresses.astype(np.int64) - len(addresses)

    def seat(self, places: np.ndarray) -> Observation:
        """The next session at each of these places (int64 [C]), whatever went on there. First observations [C, ...]."""
        for cohort in self._cohorts:
            cohort.going &= ~np.isin(cohort.places, places)
        self._cohorts = [cohort for cohort in self._cohorts if cohort.going.any()]
        self.address[places] += len(self.address)
        self.waiting[places], self._step[places] = False, 0
        sessions = self.address[places]
        self._cohorts.append(_Cohort(self._environment, places, sessions, self.streams))
        if self._layout.starts_alike:
            return self._layout.blank(len(places))
        return self._layout.observe(glimpse(self._environment, torch.from_numpy(sessions), self.streams)[0])

    def show(self, items: np.ndarray, propensity: np.ndarray) -> Shown:
        """A slate at every place where a session goes on. items: int64 [N, K]; propensity: [N, K], NaN unknown."""
        count, size = items.shape
        shown = Shown(
            self._layout.blank(count),
            np.zeros((count, size), np.float32),
            np.zeros(count, dtype=bool),
            np.zeros(count, dtype=bool),
        )
        for cohort in self._cohorts:
            turn = cohort.show(items[cohort.places], propensity[cohort.places])
            self._note(cohort, turn, shown)
        self._cohorts = [cohort for cohort in self._cohorts if cohort.going.any()]
        return shown

    def _note(self, cohort: _Cohort, turn: Turn, shown: Shown) -> None:
        rows = np.flatnonzero(cohort.going)
        places = cohort.places[rows]
        history = turn.history.take(torch.from_numpy(rows))
        for key, values in self._layout.observe(history).items():
            shown.observation[key][places] = values
        latest = torch.where(history.shown[:, -1], history.reward[:, -1], 0.0)
        shown.reward[places] = latest.float().cpu().numpy()
        self._step[places] += 1
        there = turn.present.cpu().numpy()[rows]
        shown.terminated[places] = ~there
        shown.truncated[places] = there & (self._step[places] >= self._environment.horizon)
        self.waiting[places] = shown.terminated[places] | shown.truncated[places]
        cohort.going[rows] = ~self.waiting[places]
