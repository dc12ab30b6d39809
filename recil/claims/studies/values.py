"""Values from experience: Monte Carlo and temporal differences against exact values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from recil.claims.claim import Chart, Claim, Column, Measured, Panel, Point
from recil.claims.found import Found, above, all_of, below, near
from recil.exact.episodes import Episodes, sample_episodes
from recil.exact.mdp import TabularMDP
from recil.exact.solve import state_values, uniform_policy
from recil.exact.worlds import random_walk, small_recommender
from recil.train.values import (
    ValueConfig,
    batch_monte_carlo_values,
    batch_td_values,
    monte_carlo_values,
    td_values,
)

# Mean error after 10, 25, 50, 75 and 100 sessions of the walk, from V0 = .5: the textbook's figure, as numbers.
_SESSIONS = (10, 25, 50, 75, 100)
_KNOWN = {
    "TD 0.05": (0.1745, 0.1098, 0.0531, 0.0359, 0.0351),
    "TD 0.1": (0.1281, 0.0565, 0.0499, 0.0545, 0.0554),
    "TD 0.15": (0.0945, 0.0574, 0.0681, 0.0705, 0.0704),
    "MC 0.01": (0.2128, 0.1834, 0.1450, 0.1168, 0.0973),
    "MC 0.02": (0.1974, 0.1548, 0.1113, 0.0902, 0.0829),
    "MC 0.03": (0.1871, 0.1403, 0.1046, 0.0953, 0.0956),
    "MC 0.04": (0.1804, 0.1350, 0.1099, 0.1072, 0.1097),
}
_BATCH = {"batch TD": (0.1228, 0.0772, 0.0535, 0.0377), "batch MC": (0.1760, 0.1144, 0.0812, 0.0569)}
_BATCH_SESSIONS = (10, 25, 50, 100)


@dataclass(frozen=True)
class Settings:
    """runs: independent runs whose mean error is one seed's figure; sessions: that each learns from; steps: alpha."""

    runs: int = 100
    sessions: int = 100
    td_steps: tuple[float, ...] = (0.05, 0.1, 0.15)
    mc_steps: tuple[float, ...] = (0.01, 0.02, 0.03, 0.04)
    recommender_sessions: int = 1000
    recommender_steps: tuple[float, ...] = (0.01, 0.03)


def _parts(settings: Settings) -> tuple[str, ...]:
    return ("walk", "batch", "recommender")


def _measure(settings: Settings, part: str, seed: int) -> Mapping[str, Measured]:
    return {"walk": _walk, "batch": _batch, "recommender": _recommender}[part](settings, seed)


def _walk(settings: Settings, seed: int) -> Mapping[str, Measured]:
    mdp = random_walk()
    episodes = sample_episodes(mdp, uniform_policy(mdp), settings.runs, settings.sessions, seed)
    return _online(mdp, episodes, settings.td_steps, settings.mc_steps, "", 0.5)


def _arms(method: str, steps: tuple[float, ...]) -> tuple[str, ...]:
    return tuple(f"{method} {step:g}" for step in steps)


def _online(
    mdp: TabularMDP,
    episodes: Episodes,
    td_steps: tuple[float, ...],
    mc_steps: tuple[float, ...],
    where: str,
    initial: float,
) -> dict[str, Measured]:
    arms = {}
    for name, learn, steps in (("TD", td_values, td_steps), ("MC", monte_carlo_values, mc_steps)):
        for step in steps:
            error = _error(learn(episodes, ValueConfig(step, mdp.gamma, initial)).by_episode, mdp)
            factors = {"method": name, "alpha": step}
            curve = [(session, float(error[session])) for session in _kept(len(error))]
            arms[where + f"{name} {step:g}"] = Measured({"rms": float(error[-1])}, {"rms_by_session": curve}, factors)
    return arms


def _error(by_episode: Tensor, mdp: TabularMDP) -> Tensor:
    """Mean over runs of the root mean squared error over states that are not terminal, [E + 1]."""
    truth = state_values(mdp, uniform_policy(mdp))
    live = ~mdp.terminal
    return (by_episode - truth)[..., live].square().mean(-1).sqrt().mean(0)


def _kept(count: int) -> list[int]:
    """Sessions whose error is kept: about a hundred of them, and those that are known."""
    every = max(1, count // 100)
    return sorted({*range(0, count, every), *(known for known in _SESSIONS if known < count), count - 1})


def _batch(settings: Settings, seed: int) -> Mapping[str, Measured]:
    mdp = random_walk()
    counts = [count for count in _BATCH_SESSIONS if count <= settings.sessions]
    episodes = sample_episodes(mdp, uniform_policy(mdp), settings.runs, counts[-1], seed)
    arms = {}
    for name, learn in (("batch TD", batch_td_values), ("batch MC", batch_monte_carlo_values)):
        errors = [_error(learn(episodes.first(count), ValueConfig(initial=0.5)).by_episode, mdp) for count in counts]
        curve = [(count, float(error[-1])) for count, error in zip(counts, errors, strict=True)]
        arms[name] = Measured({"rms": curve[-1][1]}, {"batch_rms_by_session": curve}, {"method": name})
    return arms


def _recommender(settings: Settings, seed: int) -> Mapping[str, Measured]:
    mdp = small_recommender()
    episodes = sample_episodes(mdp, uniform_policy(mdp), settings.runs, settings.recommender_sessions, seed)
    steps = settings.recommender_steps
    found = _online(mdp, episodes, steps, steps, "recommender, ", 0.0)
    return {
        arm: Measured(one.values, {"recommender_rms_by_session": one.curves["rms_by_session"]}, one.factors)
        for arm, one in found.items()
    }


def _points(settings: Settings, found: Found) -> tuple[Point, ...]:
    td, mc = (
        [f"{name} {step:g}" for step in steps] for name, steps in (("TD", settings.td_steps), ("MC", settings.mc_steps))
    )
    best_td, best_mc = (min(arms, key=lambda arm: found.mean(arm, "rms").value) for arms in (td, mc))
    ahead = found.difference(best_mc, best_td, "rms")
    batch = found.difference("batch MC", "batch TD", "rms")
    known = _against_known(found)
    small = [arm for arm in found.arms if arm.startswith("recommender")]
    fall = {arm: _fall(found, arm) for arm in small}
    return (
        Point.of(
            "Both come near the exact values of a random walk",
            all_of(*(below(found.mean(arm, "rms"), 0.2357 / 2) for arm in (best_td, best_mc))),
            f"error .2357 at the start; {best_td}: {found.mean(best_td, 'rms')};"
            f" {best_mc}: {found.mean(best_mc, 'rms')}",
        ),
        Point.of(
            "Bootstrapping is worth it: the best TD step ends nearer than the best Monte Carlo step",
            above(ahead, 0),
            f"error {best_mc} - {best_td}, paired: {ahead}",
        ),
        Point.of(
            "The curves are the textbook's",
            all(holds for holds, _ in known),
            f"{sum(holds for holds, _ in known)} of {len(known)} known errors within 4 standard errors of this run's",
        ),
        Point.of(
            "On the same finite log, batch TD (certainty equivalence) errs less than the mean return",
            above(batch, 0),
            f"error batch MC - batch TD, paired: {batch}",
        ),
        Point.of(
            "It is the same in a recommender's world: with the better of two steps both lose two thirds of their error",
            all(_best(fall, method) < 1 / 3 for method in ("TD", "MC")),
            "; ".join(f"{arm}: {before:.3f} to {after:.3f}" for arm, (before, after) in fall.items()),
        ),
    )


def _best(fall: Mapping[str, tuple[float, float]], method: str) -> float:
    """The share of its first error that is left to the best arm of a method."""
    return min(after / before for arm, (before, after) in fall.items() if f", {method} " in arm)


def _fall(found: Found, arm: str) -> tuple[float, float]:
    _, values = found.curve(arm, "recommender_rms_by_session")
    return float(values[:, 0].mean()), float(values[:, -1].mean())


def _against_known(found: Found) -> list[tuple[bool, str]]:
    checks = []
    for known, sessions, measure in (
        (_KNOWN, _SESSIONS, "rms_by_session"),
        (_BATCH, _BATCH_SESSIONS, "batch_rms_by_session"),
    ):
        for arm, errors in known.items():
            if not found.has(arm):
                continue
            steps, _ = found.curve(arm, measure)
            for session, error in zip(sessions, errors, strict=True):
                if session in steps:
                    mean = found.at(arm, measure, session)
                    # The known numbers are themselves means of a finite run, given to four digits.
                    checks.append((near(mean, error, 4.0, len(found.of(arm)), 0.004), f"{arm} {session}"))
    return checks


def _charts(settings: Settings, found: Found) -> tuple[Chart, ...]:
    td, mc = (
        tuple(f"{name} {step:g}" for step in steps)
        for name, steps in (("TD", settings.td_steps), ("MC", settings.mc_steps))
    )
    crosses = [point for arm in _KNOWN for point in zip(_SESSIONS, _KNOWN[arm], strict=True)]
    batch = [point for arm in _BATCH for point in zip(_BATCH_SESSIONS, _BATCH[arm], strict=True)]
    small = tuple(arm for arm in found.arms if arm.startswith("recommender"))
    return (
        Chart(
            "Error of state values against the exact ones, by sessions learned from. Crosses: known errors.",
            {
                "Random walk, step by step": Panel(
                    "rms_by_session", "sessions", "root mean squared error", (*td, *mc), truths={"known": crosses}
                ),
                "Random walk, all sessions again and again": Panel(
                    "batch_rms_by_session", "sessions", "root mean squared error", truths={"known": batch}
                ),
                "Small recommender, step by step": Panel(
                    "recommender_rms_by_session", "sessions", "root mean squared error", small
                ),
            },
        ),
    )


CLAIM = Claim(
    name="values",
    title="Values can be learned from experience",
    says="A policy's values are learned from sessions alone, by Monte Carlo, V(s) <- V(s) + alpha (G - V(s)), or by"
    " temporal differences, V(s) <- V(s) + alpha (r + gamma V(s') - V(s)).",
    set_up="The random walk of five states with a reward of 1 on the right, from values of one half, and a small"
    " recommender's world (three topics, bored users who leave) from zero, both under the uniform policy. The exact"
    " values are a linear solve. Each seed's figure is the mean error over independent runs; Monte Carlo and TD read"
    " the same sessions.",
    not_shown=(
        "Which step size to take elsewhere: the best one depends on the world and on the number of sessions.",
        "Anything of states that are described by features. These are tables, in which every state is met many times.",
    ),
    settings=Settings,
    parts=_parts,
    measure=_measure,
    points=_points,
    columns=(Column("rms", "error at the end", 4),),
    charts=_charts,
)
