"""Logs drawn with known propensities: of policies that look at nothing, a context, the slate so far, or the clock."""

from __future__ import annotations

import numpy as np

from recil.logs.session_log import Column, SessionLog

TEN = np.array([0.2, 0.15, 0.12, 0.1, 0.1, 0.09, 0.08, 0.06, 0.05, 0.05])


def log_of(items, propensity, catalogue, steps=1, users=None, **context):
    """items, propensity: [N] or [N, K]; sessions of `steps` steps each."""
    items = np.asarray(items, dtype=np.int32).reshape(len(items), -1)
    propensity = np.asarray(propensity, dtype=np.float32).reshape(items.shape)
    offsets = np.arange(0, len(items) + 1, steps)
    return SessionLog(
        item_ids=np.arange(catalogue),
        items=items,
        reward=np.zeros(items.shape, dtype=np.float32),
        offsets=offsets,
        session_ids=np.arange(len(offsets) - 1),
        propensity=propensity,
        user_ids=users,
        context=context,
    )


def picked(draw, chances):
    """One column of each row of chances [N, A]."""
    return (chances.cumsum(1) < draw.random((len(chances), 1)) * chances.sum(1, keepdims=True)).sum(1)


def plain(seed, sessions, chances=TEN, steps=1, users=None):
    """A policy that looks at nothing."""
    items = np.random.default_rng(seed).choice(len(chances), sessions * steps, p=chances)
    return log_of(items, chances[items], len(chances), steps, users)


def moods(seed, sessions, steps=1, spread=0.7):
    """A policy that looks at one of four moods, which change at random."""
    draw = np.random.default_rng(seed)
    weight = np.exp(spread * np.random.default_rng(3).standard_normal((4, 10)))
    chances = (weight / weight.sum(1, keepdims=True))[draw.integers(0, 4, sessions * steps)]
    items = picked(draw, chances)
    return log_of(items, chances[np.arange(len(items)), items], 10, steps)


def slates(seed, sessions, chances=TEN, places=3):
    """Slates without repetition, and the propensities each item would have had in the first place."""
    draw = np.random.default_rng(seed)
    left = np.tile(chances, (sessions, 1))
    items, propensity, row = np.zeros((sessions, places), int), np.zeros((sessions, places)), np.arange(sessions)
    for place in range(places):
        share = left / left.sum(1, keepdims=True)
        items[:, place] = picked(draw, share)
        propensity[:, place] = share[row, items[:, place]]
        left[row, items[:, place]] = 0.0
    return log_of(items, propensity, len(chances)), chances[items]


def annealed(seed, sessions):
    """From nearly certain to uniform: how much weights vary changes tenfold in time."""
    draw = np.random.default_rng(seed)
    favourite = np.where(np.arange(10) == 0, 1.0, 0.0)
    share = np.linspace(0.1, 1.0, sessions)[:, None]
    chances = (1 - share) * favourite + share / 10
    items = picked(draw, chances)
    return log_of(items, chances[np.arange(sessions), items], 10)


def drifting(seed, sessions, size=1.0, policies=2):
    """Policies one after the other under the average of their propensities, `size` of the way to their own."""
    draw = np.random.default_rng(seed)
    each = (TEN, TEN[::-1]) if policies == 2 else (TEN, np.roll(TEN, 3), TEN[::-1])
    average = np.mean(each, 0)
    parts = np.array_split(np.arange(sessions), policies)
    items = np.concatenate(
        [draw.choice(10, len(part), p=average + size * (own - average)) for part, own in zip(parts, each, strict=True)]
    )
    return log_of(items, average[items], 10)


def of_candidates(seed, sessions, places=1, told=True):
    """From 4 to 11 of 20 items could be shown; with the column that says how many, or without."""
    draw = np.random.default_rng(seed)
    number = draw.integers(4, 12, sessions)
    # The candidates are those with the smallest keys; weights fall with the item.
    keys = draw.random((sessions, 20))
    could = keys.argsort(1).argsort(1) < number[:, None]
    left = np.where(could, np.linspace(2.0, 1.0, 20), 0.0)
    items, propensity, row = np.zeros((sessions, places), int), np.zeros((sessions, places)), np.arange(sessions)
    for place in range(places):
        share = left / left.sum(1, keepdims=True)
        items[:, place] = picked(draw, share)
        propensity[:, place] = share[row, items[:, place]]
        left[row, items[:, place]] = 0.0
    column = {"candidates": Column(number.astype(np.float32))} if told else {}
    return log_of(items, propensity, 20, **column)
