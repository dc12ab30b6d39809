"""Logs as they come in practice, whose values are known: what makes an interval wrong, one kind after another.

One-step logs of ten items, or Upworthy's headlines; sessions of the demo's world and of two others. What they have in
common: taken at their word they give an interval that does not hold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from recil.logs.session_log import SessionLog
from recil.policies.frequencies import Frequencies
from recil.policies.protocol import Policy
from recil.policies.scored import ScoredPolicy

ITEMS = 10
LOGGED = np.array([0.2, 0.15, 0.12, 0.1, 0.1, 0.09, 0.08, 0.06, 0.05, 0.05])
TARGET = np.array([0.08, 0.1, 0.1, 0.12, 0.12, 0.1, 0.1, 0.1, 0.09, 0.09])
CLICKS = np.linspace(0.05, 0.2, ITEMS)
VALUE = float(TARGET @ CLICKS)


@dataclass(frozen=True)
class Case:
    """A log, a policy, what the policy and the logging policy are worth, and options of `evaluate`."""

    log: SessionLog
    policy: Policy
    truth: float
    logged: float
    options: Mapping[str, Any] = field(default_factory=dict)


Make = Callable[[np.random.Generator], Case]


@dataclass(frozen=True)
class Kind:
    """sight: False where nothing in the log can show what is wrong: a range that was not declared."""

    name: str
    make: Make
    sight: bool = True


def policy_of(probabilities: np.ndarray) -> Policy:
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities)
    return ScoredPolicy(Frequencies(torch.tensor(logits, dtype=torch.float32)), np.arange(len(probabilities)))


def log_of(
    items: np.ndarray, rewards: np.ndarray, propensities: np.ndarray | None, catalogue: int = ITEMS, **more: Any
) -> SessionLog:
    count = len(items)
    return SessionLog(
        item_ids=np.arange(catalogue),
        items=items[:, None].astype(np.int32),
        reward=rewards[:, None].astype(np.float32),
        offsets=np.arange(count + 1),
        session_ids=np.arange(count),
        propensity=None if propensities is None else propensities[:, None].astype(np.float32),
        **more,
    )


def shown(g: np.random.Generator, count: int, probabilities: np.ndarray = LOGGED) -> np.ndarray:
    return g.choice(len(probabilities), count, p=probabilities / probabilities.sum())


def clicks(g: np.random.Generator, items: np.ndarray, rates: np.ndarray = CLICKS) -> np.ndarray:
    return (g.random(len(items)) < rates[items]) * 1.0


def plain(count: int, rate: float = 1.0) -> Make:
    def make(g: np.random.Generator) -> Case:
        items = shown(g, count)
        log = log_of(items, clicks(g, items, CLICKS * rate), LOGGED[items])
        return Case(log, policy_of(TARGET), VALUE * rate, float(LOGGED @ CLICKS) * rate)

    return make


def users(count: int, per: float, zipf: bool = False) -> Make:
    """Users with click rates of their own; `per` sessions each, or by Zipf's law so many on average."""
    factor = 0.5 + np.arange(ITEMS) / ITEMS
    many = np.random.default_rng(1).beta(0.5, 2.0, 400_000)
    mean = np.array([np.clip(many * f, 0, 1).mean() for f in factor])

    def make(g: np.random.Generator) -> Case:
        people = int(count / per)
        weight = 1.0 / np.arange(1, people + 1) if zipf else np.ones(people)
        user = np.sort(g.choice(people, count, p=weight / weight.sum())) if zipf else np.repeat(range(people), int(per))
        rate = g.beta(0.5, 2.0, people)
        items = shown(g, len(user))
        reward = (g.random(len(user)) < np.clip(rate[user] * factor[items], 0, 1)) * 1.0
        log = log_of(items, reward, LOGGED[items], user_ids=user)
        return Case(log, policy_of(TARGET), float(TARGET @ mean), float(LOGGED @ mean))

    return make


def sizes(count: int, sigma: float) -> Make:
    """Purchases of log-normal worth."""

    def make(g: np.random.Generator) -> Case:
        items = shown(g, count)
        reward = clicks(g, items) * np.exp(sigma * g.standard_normal(count))
        worth = math.exp(sigma**2 / 2)
        return Case(log_of(items, reward, LOGGED[items]), policy_of(TARGET), VALUE * worth, LOGGED @ CLICKS * worth)

    return make


def rare(count: int, size: float, chance: float, declared: bool) -> Make:
    """Beside clicks a gain or loss of this size, once in 1/chance sessions."""

    def make(g: np.random.Generator) -> Case:
        items = shown(g, count)
        reward = clicks(g, items) + (g.random(count) < chance) * size
        options = {"reward_range": (min(0.0, size), 1.0 + max(0.0, size))} if declared else {}
        extra = size * chance
        log = log_of(items, reward, LOGGED[items])
        return Case(log, policy_of(TARGET), VALUE + extra, float(LOGGED @ CLICKS) + extra, options)

    return make


def unseen(count: int, mass: float, pays: float = 0.9) -> Make:
    """So much of the target is on two items that the log never shows."""

    def make(g: np.random.Generator) -> Case:
        target, rates = np.r_[TARGET * (1 - mass), mass / 2, mass / 2], np.r_[CLICKS, pays, pays]
        items = shown(g, count)
        log = log_of(items, clicks(g, items, rates), LOGGED[items], ITEMS + 2)
        return Case(log, policy_of(target), float(target @ rates), float(LOGGED @ CLICKS))

    return make


def hardly_seen(count: int, mass: float, showings: float, pays: float = 0.9) -> Make:
    """So much of the target is on two items that the log is expected to show so many times each."""

    def make(g: np.random.Generator) -> Case:
        share = showings / count
        logging = np.r_[LOGGED * (1 - 2 * share), share, share]
        target, rates = np.r_[TARGET * (1 - mass), mass / 2, mass / 2], np.r_[CLICKS, pays, pays]
        items = shown(g, count, logging)
        log = log_of(items, clicks(g, items, rates), logging[items], ITEMS + 2)
        return Case(log, policy_of(target), float(target @ rates), float(logging @ rates))

    return make


def twice(count: int, way: str) -> Make:
    """Sessions that stand in the log twice, under two ids."""

    def make(g: np.random.Generator) -> Case:
        items = shown(g, count)
        reward = clicks(g, items)
        place = {
            "side by side": np.repeat(np.arange(count), 2),
            "one log after the other": np.tile(np.arange(count), 2),
            "a third, with times": np.sort(np.r_[np.arange(count), g.choice(count, count // 3, replace=False)]),
        }[way]
        time = np.sort(g.integers(0, 10**9, count))[place] if "times" in way else None
        log = log_of(items[place], reward[place], LOGGED[items[place]], timestamp=time)
        return Case(log, policy_of(TARGET), VALUE, float(LOGGED @ CLICKS))

    return make


def drifting(count: int, parts: int = 2, size: float = 1.0, rise: float = 1.0) -> Make:
    """Logging policies one after the other, their average in the propensity column, and rewards that rise."""

    def make(g: np.random.Generator) -> Case:
        place = np.linspace(-1.0, 1.0, parts)
        ends = LOGGED, LOGGED[::-1]
        middle = (ends[0] + ends[1]) / 2
        loggers = [middle + size * at * (ends[1] - ends[0]) / 2 for at in place]
        each = count // parts
        items = np.concatenate([shown(g, each, one) for one in loggers])
        level = np.repeat(1.0 + 0.5 * rise * place, each)
        reward = (g.random(len(items)) < CLICKS[items] * level) * 1.0
        log = log_of(items, reward, np.mean(loggers, 0)[items])
        logged = float(np.mean([one @ CLICKS * (1 + 0.5 * rise * at) for one, at in zip(loggers, place, strict=True)]))
        return Case(log, policy_of(TARGET), VALUE, logged)

    return make


def misreported(count: int, change: Callable[[np.ndarray], np.ndarray], uneven: float = 1.0) -> Make:
    """The log's propensities are changed before they are written down."""

    def make(g: np.random.Generator) -> Case:
        logging = LOGGED**uneven / (LOGGED**uneven).sum()
        items = shown(g, count, logging)
        log = log_of(items, clicks(g, items), np.clip(change(logging), 1e-6, 1.0)[items])
        return Case(log, policy_of(TARGET), VALUE, float(logging @ CLICKS))

    return make


def fitted(count: int, learned: int, clones: int = 1) -> Make:
    """No propensities: frequencies in other sessions stand for the logging policy."""

    def make(g: np.random.Generator) -> Case:
        items, before = shown(g, count), shown(g, learned)
        draws = [before] if clones == 1 else [g.choice(before, learned) for _ in range(clones)]
        estimates = [policy_of((np.bincount(one, minlength=ITEMS) + 0.5) / (learned + 0.5 * ITEMS)) for one in draws]
        options = {"behaviour": estimates[0] if clones == 1 else estimates}
        return Case(log_of(items, clicks(g, items), None), policy_of(TARGET), VALUE, float(LOGGED @ CLICKS), options)

    return make


def headlines(count: int, arms: int, rate: float) -> Make:
    """Upworthy-like: arms drawn uniformly, few clicks, 90% of the target on one arm."""

    def make(g: np.random.Generator) -> Case:
        rates = rate * np.exp(0.25 * g.standard_normal(arms))
        logging, target = np.full(arms, 1 / arms), np.full(arms, 0.1 / (arms - 1))
        target[g.integers(arms)] = 0.9
        items = g.integers(0, arms, count)
        log = log_of(items, clicks(g, items, rates), logging[items], arms)
        return Case(log, policy_of(target), float(target @ rates), float(logging @ rates))

    return make


def halved(p: np.ndarray) -> np.ndarray:
    return p / 2


KINDS: tuple[Kind, ...] = (
    Kind("plain, 1,000", plain(1000)),
    Kind("plain, 300", plain(300)),
    Kind("plain, few clicks", plain(2000, 0.1)),
    Kind("users, 5 sessions each, 200 users", users(1000, 5)),
    Kind("users, 5 sessions each, 1,000 users", users(5000, 5)),
    Kind("users, 20 sessions each, 100 users", users(2000, 20)),
    Kind("users, 20 sessions each, 500 users", users(10_000, 20)),
    Kind("users, Zipf, 200", users(2000, 10, zipf=True)),
    Kind("users, Zipf, 2,000", users(20_000, 10, zipf=True)),
    Kind("log-normal 1, 5,000", sizes(5000, 1.0)),
    Kind("log-normal 1, 20,000", sizes(20_000, 1.0)),
    Kind("log-normal 1.5, 5,000", sizes(5000, 1.5)),
    Kind("log-normal 1.5, 20,000", sizes(20_000, 1.5)),
    Kind("log-normal 2, 5,000", sizes(5000, 2.0)),
    Kind("a gain of 50 in 1,000, range declared", rare(1000, 50.0, 0.001, True)),
    Kind("a gain of 50 in 1,000", rare(1000, 50.0, 0.001, False), sight=False),
    Kind("a gain of 50 in 1,000, 5,000 sessions", rare(5000, 50.0, 0.001, False)),
    Kind("a gain of 50 in 1,000, 50,000 sessions", rare(50_000, 50.0, 0.001, True)),
    Kind("a loss of 30 in 500, range declared", rare(1000, -30.0, 0.002, True)),
    Kind("a loss of 30 in 500", rare(1000, -30.0, 0.002, False), sight=False),
    Kind("a loss of 30 in 500, 5,000 sessions", rare(5000, -30.0, 0.002, False)),
    Kind("1% never shown", unseen(1000, 0.01)),
    Kind("4% never shown", unseen(1000, 0.04)),
    Kind("4% never shown, 300 sessions", unseen(300, 0.04)),
    Kind("15% never shown", unseen(5000, 0.15)),
    Kind("4% on items shown once", hardly_seen(1000, 0.04, 1.0)),
    Kind("4% on items shown 3 times", hardly_seen(1000, 0.04, 3.0)),
    Kind("4% on items shown 8 times", hardly_seen(1000, 0.04, 8.0)),
    Kind("10% on items shown twice, 5,000", hardly_seen(5000, 0.1, 2.0)),
    Kind("twice, side by side", twice(500, "side by side")),
    Kind("twice, one log after the other", twice(500, "one log after the other")),
    Kind("a third twice, with times", twice(1000, "a third, with times")),
    Kind("two loggers in time, 1,000", drifting(1000)),
    Kind("two loggers in time, 2,000", drifting(2000)),
    Kind("two loggers in time, a third as far apart, 2,000", drifting(2000, size=1 / 3)),
    Kind("two loggers in time, a third as far apart, 20,000", drifting(20_000, size=1 / 3)),
    Kind("three loggers in time, 3,000", drifting(3000, parts=3)),
    Kind("halved", misreported(1000, halved)),
    Kind("one decimal", misreported(2000, lambda p: np.round(p, 1).clip(0.1))),
    Kind("two decimals, uneven logger", misreported(5000, lambda p: np.round(p, 2).clip(0.01), 2.0)),
    Kind("clipped at .05, uneven logger", misreported(5000, lambda p: p.clip(0.05), 2.0)),
    Kind("clipped at .01, uneven logger", misreported(5000, lambda p: p.clip(0.01), 2.0)),
    Kind("clipped at .1", misreported(2000, lambda p: p.clip(0.1))),
    Kind("fitted propensities, 1,000 for 1,000", fitted(1000, 1000)),
    Kind("fitted propensities, 5 clones", fitted(1000, 1000, 5)),
    Kind("fitted propensities, 200 for 2,000", fitted(2000, 200)),
    Kind("headlines, 10 arms, 2%", headlines(3000, 10, 0.02)),
    Kind("headlines, 50 arms, 1.5%", headlines(5000, 50, 0.015)),
    Kind("headlines, 100 arms, 1%", headlines(10_000, 100, 0.01)),
    Kind("headlines, 5 arms, 1%", headlines(20_000, 5, 0.01)),
)
