"""Logs of small worlds whose values are known, for the coverage of intervals.

A user is in one of some moods. The logging policy shows one item by the mood, the item decides with the mood whether
it is clicked, and mood and click decide whether the user stays and in which mood. Policies look at the mood. The
target's logits are the logging policy's plus noise whose standard deviation is the *gap*: it decides the overlap. The
true value is a sum over moods and items, step by step. Click rates are log-normal around the setting's rate.

The model behind `dr` is that of a world whose click rates are drawn half way to their mean: wrong, as models are.
Sessions are arrays that go straight to the estimators. One-step logs are counted by (mood, item, click): the Poisson
counts that a replicate gives to n like sessions add up to a Poisson count with mean n. Logs of longer sessions use
the counts that `evaluate` draws for sessions 0 to n - 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from recil.evaluate.arrays import SessionArrays
from recil.evaluate.bootstrap import poisson_counts
from recil.evaluate.facts import LogFacts
from recil.evaluate.influence import Influence, influences
from recil.evaluate.pass_over import Passed
from recil.evaluate.rewards import Rewards
from recil.evaluate.spread import Spread, relative
from recil.evaluate.sums import SessionSums, log_contributions
from recil.evaluate.support import Showings, Support
from recil.random import Streams

_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class World:
    """click, logging, target [S, A]: click rates and probabilities; stay [S, 2], moves [S, 2, S] by mood and click;
    start [S]; horizon."""

    click: np.ndarray
    logging: np.ndarray
    target: np.ndarray
    stay: np.ndarray
    moves: np.ndarray
    start: np.ndarray
    horizon: int

    def values(self, click: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the target where click rates are `click`: Q [T, S, A] and V [T, S]."""
        q, v = np.zeros((self.horizon, *click.shape)), np.zeros((self.horizon + 1, len(click)))
        for step in reversed(range(self.horizon)):
            ahead = self.stay * (self.moves @ v[step + 1])
            q[step] = click * (1 + ahead[:, 1:]) + (1 - click) * ahead[:, :1]
            v[step] = (self.target * q[step]).sum(1)
        return q, v[:-1]

    def truth(self) -> float:
        return float(self.start @ self.values(self.click)[1][0])

    def model(self) -> tuple[np.ndarray, np.ndarray]:
        return self.values((self.click + self.click.mean()) / 2)


@dataclass(frozen=True)
class Setting:
    """gap: of the policies' logits; unseen: items that the logging policy never shows; spread: of log click rates."""

    name: str
    gap: float
    horizon: int
    click: float
    sessions: int
    items: int = 10
    moods: int = 4
    unseen: int = 0
    spread: float = 0.5

    def world(self) -> World:
        draw = Streams(7).numpy(f"world {self.items} {self.moods} {self.gap} {self.horizon}")
        logits = 0.7 * draw.standard_normal((self.moods, self.items))
        target = logits + self.gap * draw.standard_normal(logits.shape)
        logits[:, : self.unseen] = -np.inf
        click = np.exp(self.spread * draw.standard_normal(logits.shape))
        logging, target = _softmax(logits), _softmax(target)
        click *= self.click / (logging * click).sum(1).mean()
        stay = np.clip(1 - draw.uniform(0.2, 1.0, (self.moods, 2)) / self.horizon, 0, 1)
        moves, start = draw.dirichlet(np.ones(self.moods), (self.moods, 2)), np.full(self.moods, 1 / self.moods)
        return World(np.minimum(click, 0.95), logging, target, stay, moves, start, self.horizon)


def _softmax(logits: np.ndarray) -> np.ndarray:
    weight = np.exp(logits - logits.max(1, keepdims=True))
    return weight / weight.sum(1, keepdims=True)


SETTINGS = (
    Setting("one step, good overlap", 0.3, 1, 0.3, 500),
    Setting("one step, good overlap, some clicks", 0.3, 1, 0.1, 2_000),
    Setting("one step, good overlap, few clicks", 0.3, 1, 0.02, 5_000),
    Setting("one step, good overlap, hardly any clicks", 0.3, 1, 0.002, 5_000),
    Setting("one step, good overlap, rare clicks", 0.3, 1, 0.002, 30_000),
    Setting("one step, good overlap, rare clicks, large", 0.3, 1, 0.002, 100_000),
    Setting("one step, fair overlap", 0.7, 1, 0.1, 500),
    Setting("one step, fair overlap, more", 0.7, 1, 0.1, 5_000),
    Setting("one step, fair overlap, few clicks, large", 0.7, 1, 0.02, 100_000),
    Setting("one step, fair overlap, uneven clicks", 0.7, 1, 0.02, 10_000, spread=1.5),
    Setting("one step, poor overlap", 1.2, 1, 0.1, 2_000),
    Setting("one step, poor overlap, large", 1.2, 1, 0.1, 100_000),
    Setting("one step, poor overlap, many items", 1.2, 1, 0.05, 20_000, items=40),
    Setting("one step, terrible overlap", 2.5, 1, 0.1, 10_000),
    Setting("one step, terrible overlap, large", 2.5, 1, 0.02, 100_000, items=40),
    Setting("one step, a fifth of items never shown", 0.5, 1, 0.1, 10_000, unseen=2),
    Setting("3 steps, good overlap", 0.3, 3, 0.1, 1_000),
    Setting("3 steps, fair overlap", 0.5, 3, 0.1, 2_000),
    Setting("5 steps, good overlap, few clicks", 0.2, 5, 0.02, 2_000),
    Setting("5 steps, fair overlap", 0.5, 5, 0.1, 5_000),
    Setting("5 steps, poor overlap", 1.0, 5, 0.1, 5_000),
    Setting("10 steps, good overlap", 0.2, 10, 0.05, 1_000),
    Setting("10 steps, fair overlap", 0.4, 10, 0.05, 5_000),
    Setting("20 steps, good overlap", 0.1, 20, 0.05, 1_000),
    Setting("20 steps, terrible overlap", 1.0, 20, 0.1, 1_000),
    Setting("50 steps, good overlap", 0.07, 50, 0.05, 1_000),
    Setting("50 steps, fair overlap", 0.15, 50, 0.05, 1_000),
    Setting("50 steps, poor overlap", 0.5, 50, 0.02, 500),
)


def replications(setting: Setting, logs: int, replicates: int, seed: int = 0) -> Iterator[tuple[Passed, LogFacts]]:
    """What a pass over one log after another would leave."""
    world, draw = setting.world(), Streams(seed).numpy("coverage", sum(setting.name.encode()))
    if setting.horizon == 1:
        yield from _counted_logs(world, setting.sessions, logs, replicates, draw)
        return
    counts = poisson_counts(Streams(seed).child("evaluate"), torch.arange(setting.sessions), replicates)
    at_once = max(1, _AT_ONCE // (setting.sessions * setting.horizon))
    for start in range(0, logs, at_once):
        few = min(at_once, logs - start)
        sessions = _Sessions.drawn(world, few * setting.sessions, draw)
        for place in range(few):
            part = sessions.take(slice(place * setting.sessions, (place + 1) * setting.sessions))
            rewards = part.rewards()
            sums = SessionSums.of(part.arrays(world), counts, mean=rewards.mean)
            yield Passed(sums, part.support(world)), LogFacts(setting.sessions, setting.sessions, rewards=rewards)


def _counted_logs(
    world: World, sessions: int, logs: int, replicates: int, draw: np.random.Generator
) -> Iterator[tuple[Passed, LogFacts]]:
    """Logs of one-step sessions by the number of each kind of session."""
    mood, item, clicked = (part.ravel() for part in np.indices((*world.click.shape, 2)))
    rate = world.click[mood, item]
    chance = world.start[mood] * world.logging[mood, item] * np.where(clicked, rate, 1 - rate)
    kinds = _Sessions(*(part[:, None] for part in (mood, item, clicked)), happened=np.ones((len(mood), 1), dtype=bool))
    for _ in range(logs):
        number = draw.multinomial(sessions, chance / chance.sum())
        there = np.flatnonzero(number)
        some = kinds.take(there)
        counts = np.concatenate([number[None, there], draw.poisson(number[there], (replicates, len(there)))])
        rewards = some.rewards(number[there])
        sums = counted_sums(some.arrays(world), torch.from_numpy(counts).double(), rewards.mean)
        yield Passed(sums, some.support(world, number[there])), LogFacts(sessions, sessions, rewards=rewards)


def counted_sums(arrays: SessionArrays, counts: Tensor, mean: Tensor) -> SessionSums:
    """Sums where row 0 of counts [R+1, B] says how many sessions there are of each kind."""
    number = counts[0]
    return replace(
        SessionSums.of(arrays, counts, mean=mean),
        influence=_counted_influence(arrays, number, mean),
        weights=_counted_spread(arrays.log_weight, number),
        contributions=_counted_spread(log_contributions(arrays), number),
        alive=number @ arrays.happened.double(),
        rewarded=int(number @ (arrays.reward != 0).any(1).double()),
    )


def _counted_spread(logs: Tensor, number: Tensor) -> Spread:
    scale = logs.amax(0)
    scaled = relative(logs, scale)
    return Spread(scale, number @ scaled, number @ scaled.square())


def _counted_influence(arrays: SessionArrays, number: Tensor, mean: Tensor) -> Influence:
    values, scale = influences(arrays, mean)
    largest = values.abs().amax(0)
    sizes = values.abs() / largest.clamp(min=1e-300)
    return Influence(scale + largest.log(), number @ sizes.square(), number @ sizes**3)


@dataclass(frozen=True)
class _Sessions:
    """mood, item, clicked int [B, T] and happened bool [B, T]."""

    mood: np.ndarray
    item: np.ndarray
    clicked: np.ndarray
    happened: np.ndarray

    @staticmethod
    def drawn(world: World, sessions: int, draw: np.random.Generator) -> _Sessions:
        shape = (sessions, world.horizon)
        mood, item, clicked = (
            np.zeros(shape, dtype=np.int8 if world.click.shape[1] < 128 else np.int16) for _ in "123"
        )
        happened = np.zeros(shape, dtype=bool)
        now, there = draw.integers(0, len(world.start), sessions), np.ones(sessions, dtype=bool)
        edges, turns = world.logging.cumsum(1)[:, :-1], world.moves.cumsum(2)[:, :, :-1]
        for step in range(world.horizon):
            chance = draw.random((4, sessions), dtype=np.float32)
            shown = (chance[0][:, None] > edges[now]).sum(1)
            click = (chance[1] < world.click[now, shown]).astype(np.int64)
            mood[:, step], item[:, step], clicked[:, step], happened[:, step] = now, shown, click & there, there
            there = there & (chance[2] < world.stay[now, click])
            now = (chance[3][:, None] > turns[now, click]).sum(1)
        return _Sessions(mood, item, clicked, happened)

    def take(self, chosen: slice | np.ndarray) -> _Sessions:
        return _Sessions(self.mood[chosen], self.item[chosen], self.clicked[chosen], self.happened[chosen])

    def arrays(self, world: World) -> SessionArrays:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.log(world.target) - np.log(world.logging)
        q, v = world.model()
        step, happened = np.arange(self.mood.shape[1]), torch.from_numpy(self.happened)
        log_ratio = np.where(self.happened, ratio[self.mood, self.item], 0.0)
        return SessionArrays(
            log_weight=torch.from_numpy(log_ratio.cumsum(1)),
            reward=torch.from_numpy(np.where(self.happened, self.clicked, 0).astype(np.float64)),
            happened=happened,
            capped=torch.zeros_like(happened),
            predicted=torch.from_numpy(np.where(self.happened, q[step, self.mood, self.item], 0.0)),
            expected=torch.from_numpy(np.where(self.happened, v[step, self.mood], 0.0)),
        )

    def rewards(self, number: np.ndarray | None = None) -> Rewards:
        """number [B]: how many sessions there are of each kind, one when None."""
        number = np.ones(len(self.clicked)) if number is None else number
        clicked = np.where(self.happened, self.clicked, 0)
        return Rewards(
            high=float(clicked.max()),
            session_high=float(clicked.sum(1).max()),
            mean=torch.from_numpy(number @ clicked / number.sum()),
            longest=clicked.shape[1],
        )

    def support(self, world: World, number: np.ndarray | None = None) -> Support:
        """By the target's probabilities where the sessions went, in millionths."""
        number = np.ones(len(self.item)) if number is None else number
        often = np.broadcast_to(number[:, None], self.item.shape)[self.happened]
        mood, item = self.mood[self.happened], self.item[self.happened]
        size = world.target.shape[1]
        count = np.bincount(item, often, minlength=size)
        inverse = np.bincount(item, often / world.logging[mood, item], minlength=size)
        expected = np.where(count > 0, often.sum() * count / np.maximum(inverse, 1e-300), 0.0)
        drawn = np.bincount(mood, often, minlength=len(world.target)) @ world.target
        hidden = Showings(count, expected, int(often.sum())).unseen(drawn)
        return Support(1_000_000, round(1_000_000 * float(drawn[hidden].sum() / drawn.sum())))
