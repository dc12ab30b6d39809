"""Logs of many kinds without copies, and ways to copy sessions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from recil.logs.session_log import Column, SessionLog

Draw = np.random.Generator


def one_step(items: np.ndarray, reward: np.ndarray, propensity: np.ndarray | None = None) -> SessionLog:
    """items: int [S] or [S, K]; reward, propensity: the same."""
    sessions = len(items)

    def wide(values: np.ndarray, kind: type) -> np.ndarray:
        return values.reshape(sessions, -1).astype(kind)

    return SessionLog(
        item_ids=np.arange(int(items.max()) + 1),
        items=wide(items, np.int32),
        reward=wide(reward, np.float32),
        offsets=np.arange(sessions + 1),
        session_ids=np.arange(sessions),
        propensity=None if propensity is None else wide(propensity, np.float32),
    )


def ten_items(draw: Draw, sessions: int = 600, rates: tuple[float, float] = (0.05, 0.2)) -> SessionLog:
    chances = draw.dirichlet(np.full(10, 5.0))
    items = draw.choice(10, sessions, p=chances)
    return one_step(items, draw.random(sessions) < np.linspace(*rates, 10)[items], chances[items])


def many_items(draw: Draw, sessions: int = 2000) -> SessionLog:
    """Popularity by Zipf's law: some items often, most of them once, twice or never."""
    chances = 1 / np.arange(1, 3001)
    items = draw.choice(3000, sessions, p=chances / chances.sum())
    return one_step(items, draw.random(sessions) < 0.1)


def sorted_by_item(draw: Draw) -> SessionLog:
    log = ten_items(draw)
    return log.select(np.argsort(log.items[:, 0], kind="stable"))


def sorted_by_all(draw: Draw) -> SessionLog:
    log = ten_items(draw)
    return log.select(np.lexsort((log.reward[:, 0], log.items[:, 0])))


def rotation(draw: Draw, rounds: int = 2, items: int = 400) -> SessionLog:
    """Every item as often as any other."""
    return one_step(np.tile(np.arange(items), rounds), draw.random(rounds * items) < 0.15)


def each_twice_in_a_row(draw: Draw) -> SessionLog:
    return one_step(np.repeat(np.arange(400), 2), draw.random(800) < 0.15)


def exact_shares(draw: Draw) -> SessionLog:
    """Items as often as they are likely, exactly; only clicks are drawn."""
    items = draw.permutation(np.repeat(np.arange(10), [200, 150, 120, 100, 100, 90, 80, 60, 50, 50]))
    return one_step(items, draw.random(1000) < 0.1)


def exact_everything(draw: Draw) -> SessionLog:
    """As a test with a known answer would have it: shares and clicks in round numbers."""
    items = np.repeat(np.arange(10), 100)
    order = draw.permutation(1000)
    return one_step(items[order], (np.arange(1000) % 100 < 20)[order])


def silent_rotation(draw: Draw) -> SessionLog:
    return replace(rotation(draw), reward=np.zeros((800, 1), dtype=np.float32))


def silent_pairs(draw: Draw) -> SessionLog:
    return replace(each_twice_in_a_row(draw), reward=np.zeros((800, 1), dtype=np.float32))


def fixed_rewards(draw: Draw) -> SessionLog:
    items = draw.integers(0, 300, 1000)
    return one_step(items, items / 7)


def hardly_any_click(draw: Draw) -> SessionLog:
    return ten_items(draw, 1000, (0.0, 0.002))


def drifting(draw: Draw) -> SessionLog:
    """What is shown and what is clicked changes from session to session."""
    place = np.arange(2000) / 2000
    items = (300 * place + draw.integers(0, 100, 2000)).astype(int)
    return one_step(items, draw.random(2000) < 0.4 * place)


def worth(draw: Draw, sessions: int = 1500) -> SessionLog:
    """Few buy, and what they buy for is a number of many digits."""
    items = draw.integers(0, 10, sessions)
    return one_step(
        items, (draw.random(sessions) < 0.15) * np.exp(2 * draw.standard_normal(sessions)), np.full(sessions, 0.1)
    )


def stories(draw: Draw, sessions: int = 300, propensities: bool = True) -> SessionLog:
    """Sessions of 1 to 8 steps, slates of 2 out of 20, clicks; many short ones coincide."""
    lengths = draw.integers(1, 9, sessions)
    steps = int(lengths.sum())
    chances = draw.dirichlet(np.full(20, 2.0), size=1)[0]
    first = draw.choice(20, steps, p=chances)
    second = (first + 1 + draw.integers(0, 19, steps)) % 20
    items = np.stack([first, second], 1).astype(np.int32)
    return SessionLog(
        item_ids=np.arange(20),
        items=items,
        reward=(draw.random(items.shape) < 0.15).astype(np.float32),
        offsets=np.append(0, np.cumsum(lengths)),
        session_ids=np.arange(sessions),
        propensity=np.stack([chances[first], np.full(steps, 1 / 19)], 1).astype(np.float32) if propensities else None,
        terminated=draw.random(sessions) < 0.7,
    )


def timed(draw: Draw, sessions: int = 800) -> SessionLog:
    """One item of fifty, a second, features of the user, seconds of attention."""
    log = one_step(draw.integers(0, 50, sessions), draw.random(sessions) < 0.2)
    return replace(
        log,
        timestamp=draw.integers(0, 100_000, sessions),
        feedback={"seconds": Column(draw.exponential(9, (sessions, 1)).astype(np.float32))},
        context={"context_hour": Column(draw.integers(0, 24, sessions).astype(np.float32))},
        user_features={"user_kind": Column(draw.integers(-1, 3, sessions).astype(np.int32), ("a", "b", "c"))},
    )


def of_users(draw: Draw) -> SessionLog:
    log = ten_items(draw, 1500)
    return replace(log, user_ids=np.repeat(np.arange(300), 5))


WITHOUT_COPIES: tuple[Callable[[Draw], SessionLog], ...] = (
    ten_items,
    many_items,
    sorted_by_item,
    sorted_by_all,
    rotation,
    each_twice_in_a_row,
    exact_shares,
    exact_everything,
    silent_rotation,
    silent_pairs,
    fixed_rewards,
    hardly_any_click,
    drifting,
    worth,
    stories,
    lambda draw: stories(draw, 2000, propensities=False),
    timed,
    of_users,
)


def copied(log: SessionLog, sessions: np.ndarray) -> SessionLog:
    """These sessions (int [B], with repeats) under ids of their own; every round of a user is another user."""
    found = log.select(sessions)
    again = np.zeros(len(sessions), dtype=np.int64)
    order = np.argsort(sessions, kind="stable")
    starts = np.append(True, sessions[order][1:] != sessions[order][:-1])
    place = np.arange(len(sessions))
    again[order] = place - np.maximum.accumulate(np.where(starts, place, 0))
    users = None if log.user_ids is None else found.user_ids + 1000 * again
    return replace(found, session_ids=np.arange(len(sessions)), user_ids=users)
