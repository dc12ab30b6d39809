"""Sparse rewards: the sessions that learning takes as clicks get rare, from scratch and from demonstrations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recil.claims.claim import Chart, Claim, Column, Measured, Panel, Point
from recil.claims.found import Found, Mean, above, all_of, below, mean_of, near
from recil.exact.episodes import sample_episodes
from recil.exact.mdp import TabularMDP
from recil.exact.solve import start_value
from recil.exact.worlds import deep_sea, erring, sparse_click_bandit
from recil.exact.worlds.demonstrated import Demonstrated
from recil.random import stable_hash
from recil.train.tabular_policy import Reinforced, TabularReinforceConfig, tabular_clone, tabular_reinforce

SCRATCH, CLONE = "scratch", "clone"
_WORDS = {SCRATCH: "from scratch", CLONE: "from a clone"}
_BY_CHANCE = 0.02  # what does not fit is clicked, as a share of the rate of what does
_ERRS, _SOLVED, _SOON = 0.1, 0.8, 500


@dataclass(frozen=True)
class Settings:
    """rates: of clicks on the one item that fits; share: of the best value that is to be reached; skill: the
    demonstrator's chance of showing what fits; demonstrations: its sessions; runs: whose median is a seed's figure;
    budget, sea_budget: sessions after which a run is censored; depths: of the seas."""

    rates: tuple[float, ...] = (0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
    contexts: int = 10
    items: int = 50
    share: float = 0.5
    skill: float = 0.2
    demonstrations: int = 2000
    runs: int = 10
    budget: int = 2_000_000
    batch: int = 50
    depths: tuple[int, ...] = (4, 6, 8, 10, 12, 14)
    sea_runs: int = 20
    sea_budget: int = 5000
    sea_demonstrations: int = 200


def _parts(settings: Settings) -> tuple[str, ...]:
    return (*(f"rate {rate:g}" for rate in settings.rates), *(f"depth {depth}" for depth in settings.depths))


def _measure(settings: Settings, part: str, seed: int) -> Mapping[str, Measured]:
    kind, number = part.split()
    return _clicks(settings, float(number), seed) if kind == "rate" else _sea(settings, int(number), seed)


def _world(settings: Settings, rate: float, seed: int = 0) -> Demonstrated:
    """One item fits in each context."""
    rates = (_BY_CHANCE * rate, rate)
    return sparse_click_bandit(settings.contexts, settings.items, 1 / settings.items, rates, settings.skill, seed)


def _clicks(settings: Settings, rate: float, seed: int) -> Mapping[str, Measured]:
    mdp, demonstrator = _world(settings, rate, seed)
    shown = sample_episodes(mdp, demonstrator, settings.runs, settings.demonstrations, stable_hash("demo", seed))
    starts = {SCRATCH: _nothing(mdp, settings.runs), CLONE: tabular_clone(shown)}
    config = TabularReinforceConfig(settings.budget, settings.batch)

    def share(logits: Tensor) -> Tensor:
        return (logits.softmax(-1) * mdp.mean_reward).sum(-1) @ mdp.start / rate

    arms = {}
    for name, start in starts.items():
        times = _sessions_until(tabular_reinforce(mdp, start, config, seed), share, settings.share)
        values = _timed(times, settings.budget) | {"start_share": float(share(start).mean())}
        arms[f"{name} {rate:g}"] = Measured(values, factors={"start": _WORDS[name], "rate": rate})
    return arms


def _nothing(mdp: TabularMDP, runs: int) -> Tensor:
    return torch.zeros(runs, *mdp.size, dtype=torch.float64)


def _sessions_until(steps: Iterable[Reinforced], share: Callable[[Tensor], Tensor], wanted: float) -> Tensor:
    """Sessions until a run's share is what is wanted, between two steps in proportion; inf where it never is. [R]"""
    reached, before, then = torch.empty(0), torch.empty(0), 0
    for sessions, logits in steps:
        now = share(logits)
        if not sessions:
            reached, before = torch.full_like(now, torch.inf), now
        part = ((wanted - before) / (now - before)).nan_to_num(0.0, 0.0, 0.0).clamp(0.0, 1.0)
        first = (now >= wanted) & reached.isinf()
        reached = torch.where(first, then + part * (sessions - then), reached)
        if bool(reached.isfinite().all()):
            break
        before, then = now, sessions
    return reached


def _timed(times: Tensor, budget: int) -> dict[str, float]:
    """What was never reached counts with the budget, which leaves a median right while it is less than half of all."""
    counted = times.clamp(min=1.0, max=budget).numpy()
    return {"sessions": float(np.median(counted)), "reached": float(times.isfinite().double().mean())}


def _sea(settings: Settings, depth: int, seed: int) -> Mapping[str, Measured]:
    mdp = deep_sea(depth, cost=0.0)
    straight = torch.tensor([mdp.state(f"{row},{row}") for row in range(depth)])
    right = torch.zeros(mdp.size, dtype=torch.float64)
    right[:, 1] = 1.0
    demonstrator = erring(right, _ERRS)
    count = settings.sea_demonstrations
    shown = sample_episodes(mdp, demonstrator, settings.sea_runs, count, stable_hash("demo", seed))
    config = TabularReinforceConfig(settings.sea_budget, 10)
    starts = {SCRATCH: _nothing(mdp, settings.sea_runs), CLONE: tabular_clone(shown)}

    def hits(logits: Tensor) -> Tensor:
        return logits.log_softmax(-1)[:, straight, 1].sum(-1).exp()

    arms = {}
    for name, start in starts.items():
        # Without reward nothing moves: a run that has moved has found the treasure.
        found = torch.zeros(len(start), dtype=torch.bool)

        def watched(start: Tensor = start, found: Tensor = found) -> Iterable[Reinforced]:
            for step in tabular_reinforce(mdp, start, config, seed):
                found |= (step.logits != start).flatten(1).any(1)
                yield step

        times = _sessions_until(watched(), hits, _SOLVED)
        values = _timed(times, settings.sea_budget) | {
            "found": float(found.double().mean()),
            "start_hits": float(hits(start).mean()),
            "soon": float((times <= _SOON).double().mean()),
        }
        arms[f"{name} depth {depth}"] = Measured(values, factors={"start": _WORDS[name], "depth": depth})
    return arms


def _points(settings: Settings, found: Found) -> tuple[Point, ...]:
    slopes = {name: _slope(settings, found, name) for name in (SCRATCH, CLONE)}
    inverse = {name: all_of(above(mean, -1.25), below(mean, -0.75)) for name, (mean, _) in slopes.items()}
    shown = {name: f"slope {mean}, {told}" for name, (mean, told) in slopes.items()}
    begun = {rate: found.mean(f"{CLONE} {rate:g}", "start_share") for rate in settings.rates}
    does = float(start_value(*_world(settings, 1.0)))
    sooner = {rate: _sooner(found, rate) for rate in settings.rates}
    return (
        Point.of(
            "From scratch, sessions grow in inverse proportion to the click rate: slope of logarithms nearer to -1"
            " than to -1/2 or -3/2",
            inverse[SCRATCH],
            shown[SCRATCH],
        ),
        Point.of(
            "What the demonstrator does, its clone does at every rate before the first click",
            all(near(mean, does, 4.0, len(found.seeds), 0.01) for mean in begun.values()),
            f"share of the best value: the demonstrator {does:.3f}, the clone"
            f" {min(mean.value for mean in begun.values()):.3f} to {max(mean.value for mean in begun.values()):.3f}",
        ),
        Point.of(
            f"From the clone, {settings.share:.0%} of the best value takes less than a fifth of the sessions at every"
            " rate",
            all_of(*(above(mean, math.log(5)) for mean in sooner.values())),
            "times as many from scratch: "
            + ", ".join(f"{math.exp(mean.value):.1f} at {rate:g}" for rate, mean in sooner.items())
            + f"; the mean dynamics say {_sessions(settings, 1.0, SCRATCH) / _sessions(settings, 1.0, CLONE):.1f}",
        ),
        Point.of(
            "Beyond the demonstrator clicks are needed as before: from the clone the slope is -1 as well",
            inverse[CLONE],
            shown[CLONE],
        ),
        *_sea_points(settings, found),
    )


def _sea_points(settings: Settings, found: Found) -> tuple[Point, ...]:
    if not settings.depths:
        return ()
    runs = settings.sea_runs * len(found.seeds)
    met = {depth: found.mean(f"{SCRATCH} depth {depth}", "found").value for depth in settings.depths}
    wanted = {depth: 1 - (1 - 2.0**-depth) ** settings.sea_budget for depth in settings.depths}
    close = [
        abs(met[depth] - share) <= 4 * math.sqrt(share * (1 - share) / runs) + 1 / runs
        for depth, share in wanted.items()
    ]
    soon = {depth: found.mean(f"{CLONE} depth {depth}", "soon").value for depth in settings.depths}
    return (
        Point.of(
            "Where a reward needs a whole session of right steps, each step more doubles the sessions until the first"
            " one: 1 - (1 - 2^-N)^sessions of the runs from scratch ever meet it",
            all(close),
            "; ".join(f"N = {depth}: {met[depth]:.3f} of {share:.3f}" for depth, share in wanted.items()),
        ),
        Point.of(
            f"From the clone of a demonstrator that errs one time in ten, 19 of 20 runs are solved within {_SOON}"
            " sessions at every depth",
            all(share >= 0.95 for share in soon.values()),
            "; ".join(f"N = {depth}: {share:.3f}" for depth, share in soon.items()),
        ),
    )


def _slope(settings: Settings, found: Found, start: str) -> tuple[Mean, str]:
    """Of log sessions over log rate, seed by seed, over rates at which no median is the budget; and which are."""
    times = {rate: found.values(f"{start} {rate:g}", "sessions") for rate in settings.rates}
    kept = [rate for rate, values in times.items() if values.max() < settings.budget]
    left = [f"{rate:g}" for rate in settings.rates if rate not in kept]
    told = f"without {', '.join(left)}, where medians are censored" if left else "no median is censored"
    if len(kept) < 2:
        return Mean(math.nan, -math.inf, math.inf), told
    return mean_of(np.polyfit(np.log(kept), np.log([times[rate] for rate in kept]), 1)[0], found.confidence), told


def _sooner(found: Found, rate: float) -> Mean:
    """log of (sessions from scratch / from the clone), by seed. Of censored times: at least that."""
    scratch, clone = (found.values(f"{start} {rate:g}", "sessions") for start in (SCRATCH, CLONE))
    return mean_of(np.log(scratch / clone), found.confidence)


def _sessions(settings: Settings, rate: float, start: str) -> float:
    """Of the mean dynamics dp/dt = alpha rate p^2 (1 - p)^2 / contexts, p the chance of showing what fits."""

    def gone(p: float) -> float:
        return 2 * math.log(p / (1 - p)) - 1 / p + 1 / (1 - p)

    first = 1 / settings.items if start == SCRATCH else settings.skill
    return settings.contexts * (gone(settings.share) - gone(first)) / rate


def _charts(settings: Settings, found: Found) -> tuple[Chart, ...]:
    dynamics = [(rate, _sessions(settings, rate, start)) for rate in settings.rates for start in (SCRATCH, CLONE)]
    first = [(depth, math.log(2) * 2.0**depth) for depth in settings.depths if 2**depth < settings.sea_budget]
    return (
        Chart(
            f"Sessions in the world, median over runs: until {settings.share:.0%} of the best value (left), until the"
            f" treasure is found {_SOLVED:.0%} of the time (right). What never gets there counts with the budget,"
            f" {settings.budget:,} and {settings.sea_budget:,}. Crosses: the mean dynamics"
            " (left), the session of the first reward in half of the runs, ln 2 times 2^N (right).",
            {
                "Clicks get rare": Panel(
                    "sessions",
                    "click rate of the item that fits",
                    "sessions",
                    tuple(f"{start} {rate:g}" for start in (SCRATCH, CLONE) for rate in settings.rates),
                    "rate",
                    "start",
                    {"theory": dynamics},
                    "xy",
                ),
                "Deep Sea": Panel(
                    "sessions",
                    "steps until the reward",
                    "sessions",
                    tuple(f"{start} depth {depth}" for start in (SCRATCH, CLONE) for depth in settings.depths),
                    "depth",
                    "start",
                    {"theory": first},
                    "y",
                ),
            },
        ),
    )


CLAIM = Claim(
    name="sparse_rewards",
    title="Sparse rewards make learning from scratch slow, and demonstrations cure what is slow about its start",
    says="Where clicks are rare, learning from reward alone takes sessions in inverse proportion to their rate; where a"
    " reward needs many right steps, exponentially many. Demonstrations need no click: they put the learner where"
    " rewards are met. They do not make clicks more frequent.",
    set_up="One step: contexts in each of which one item is clicked at the rate given, and all others at a fiftieth of"
    " it. REINFORCE on a table of logits (steps of 1 per session, batches of 50, a running mean as baseline), the"
    " same at all rates, from uniform or from the clone (counts) of a demonstrator's sessions, which are not looked"
    " at again. Sessions of the world are counted until the policy's exact value is the given share of the best. Many"
    " steps: Deep Sea without cost, where right N times in a row is the only reward and a policy from scratch tosses"
    " coins; batches of 10, the clone of sessions that err one time in ten. A run that does not get there within the"
    " budget is censored: it counts with the budget. A median over runs is right while fewer than half of them are"
    " censored; a rate where it is censored itself is left out of the slope, and its ratio is a lower bound.",
    not_shown=(
        "Learners that explore on purpose, by optimism or posterior sampling: to them a deep sea is not exponential.",
        "Step sizes tuned to each rate, critics, or models that share what they learn among contexts: all of these"
        " change the constant.",
        "What demonstrations cost. They are there before learning begins, and only the world's sessions count.",
    ),
    settings=Settings,
    parts=_parts,
    measure=_measure,
    points=_points,
    columns=(
        Column("sessions", "sessions, median", 0),
        Column("reached", "share of runs that got there", 2),
        Column("start_share", "share of the best value at the start"),
        Column("start_hits", "treasure at the start"),
        Column("found", "share of runs that met a reward"),
    ),
    charts=_charts,
)
