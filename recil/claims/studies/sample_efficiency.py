"""Sample efficiency: the sessions of the world that it takes to be worth what the demonstrator is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

import recil
from recil.claims.claim import Chart, Claim, Column, Measured, Panel, Point
from recil.claims.found import Found, Mean, all_of, below, mean_of
from recil.exact.policy import STATE, TabularPolicy
from recil.exact.solve import start_value
from recil.exact.worlds import sparse_click_bandit
from recil.exact.worlds.demonstrated import Demonstrated
from recil.logs.history import History
from recil.logs.session_log import SessionLog
from recil.policies.protocol import Policy
from recil.policies.softmax import SoftmaxPolicy
from recil.random import Streams

SCRATCH, CLONE, BOTH = "scratch", "clone", "clone and demonstrations"
_BY_CHANCE = 0.02  # what does not fit is clicked, as a share of the rate of what does
_ENOUGH = 100  # demonstrated sessions in each context


@dataclass(frozen=True)
class Settings:
    """demonstrations: sessions of the demonstrator; rate: of clicks on the item that fits; skill: the demonstrator's
    chance of showing it; budget: sessions in the world after which a run is censored; iteration: sessions that one
    policy acts in, two batches."""

    demonstrations: tuple[int, ...] = (100, 300, 1000, 3000, 10_000)
    rate: float = 0.1
    contexts: int = 10
    items: int = 50
    skill: float = 0.2
    budget: int = 30_000
    iteration: int = 200


def _parts(settings: Settings) -> tuple[str, ...]:
    return (SCRATCH, *(f"demonstrations {count}" for count in settings.demonstrations))


def _measure(settings: Settings, part: str, seed: int) -> Mapping[str, Measured]:
    mdp, demonstrator = _world(settings, seed)
    world, wanted = recil.TabularWorld(mdp, 1), float(start_value(mdp, demonstrator))
    count = settings.demonstrations[0] if part == SCRATCH else int(part.split()[1])
    log = recil.simulate(TabularPolicy(demonstrator), world, count, seed)
    clone = recil.clone(log, seed=seed)
    if part == SCRATCH:  # of the clone it takes the architecture alone
        return {SCRATCH: _reached(settings, world, wanted, clone, None, False, seed)}
    # A log without a click has nothing to add to a batch.
    rewarded = log if log.reward.any() else None
    return {
        f"{CLONE} {count}": _reached(settings, world, wanted, clone, None, True, seed, count),
        f"{BOTH} {count}": _reached(settings, world, wanted, clone, rewarded, True, seed, count),
    }


def _world(settings: Settings, seed: int) -> Demonstrated:
    """One item fits in each context."""
    rates = (_BY_CHANCE * settings.rate, settings.rate)
    return sparse_click_bandit(settings.contexts, settings.items, 1 / settings.items, rates, settings.skill, seed)


class _GotThereError(Exception):
    """What was asked for is reached: the run need not go on."""


@dataclass
class _Watched:
    """A world of one step that notes the exact value of whoever is about to act, and stops those who are good enough.

    values: session -> the value of the policy that acts from there on
    """

    world: recil.TabularWorld
    enough: float
    values: dict[int, float] = field(default_factory=dict)
    slate_size: int = 1
    horizon: int = 1

    @property
    def catalogue(self) -> int:
        return self.world.catalogue

    def rollout(self, policy: Policy, sessions: Tensor, streams: Streams) -> History:
        assert isinstance(policy, (SoftmaxPolicy, TabularPolicy))
        self.note(int(sessions[0]), policy)
        return self.world.rollout(policy, sessions, streams)

    def note(self, session: int, policy: SoftmaxPolicy | TabularPolicy) -> None:
        self.values[session] = _value(self.world, policy)
        if self.values[session] >= self.enough:
            raise _GotThereError


def _value(world: recil.TabularWorld, policy: SoftmaxPolicy | TabularPolicy) -> float:
    """Its click rate, exactly."""
    live = (~world.mdp.terminal).nonzero()
    history = History.start(torch.zeros(len(live), dtype=torch.int64), 1, context={STATE: live})
    with torch.no_grad():
        shown = policy.next_logits(history).double().softmax(-1)
    paid = (shown * world.mdp.mean_reward[live[:, 0]]).sum(1)
    return float(world.mdp.start[live[:, 0]] @ paid)


def _reached(
    settings: Settings,
    world: recil.TabularWorld,
    wanted: float,
    start: SoftmaxPolicy,
    log: SessionLog | None,
    cloned: bool,
    seed: int,
    count: int = 0,
) -> Measured:
    """From `start` (or from a policy built like it that knows nothing) until twice the wanted value, or the budget."""
    watched = _Watched(world, 2 * wanted)
    total, each, batch = settings.budget, settings.iteration, settings.iteration // 2
    try:
        if cloned:
            config = recil.FinetuneConfig(sessions=total, sessions_per_iteration=each, batch=batch)
            learned = recil.finetune(start, watched, config, seed, log=log)
        else:
            alone = recil.ReinforceConfig(sessions=total, sessions_per_iteration=each, batch=batch)
            learned = recil.reinforce(start, watched, alone, seed)
        watched.note(total, learned)
    except _GotThereError:
        pass
    values = {
        "sessions": _until(watched.values, wanted, settings.budget),
        "sessions_twice": _until(watched.values, 2 * wanted, settings.budget),
        "start": watched.values[0] / wanted,
    }
    values["with_demonstrations"] = values["sessions"] + count
    words = {True: "clone", False: "scratch"}[cloned] if log is None else BOTH
    return Measured(values, factors={"start": words, "demonstrations": count})


def _until(values: Mapping[int, float], wanted: float, budget: int) -> float:
    """Sessions before a value is reached, in proportion between two policies, 1 at least; the budget if never."""
    before, then = np.inf, 0
    for session, value in sorted(values.items()):
        if value >= wanted:
            part = (wanted - before) / (value - before) if before < wanted else 0.0
            return float(max(then + part * (session - then), 1.0))
        before, then = value, session
    return float(budget)


def _points(settings: Settings, found: Found) -> tuple[Point, ...]:
    counts = settings.demonstrations
    many = [count for count in counts if count >= _ENOUGH * settings.contexts]
    half = {count: _less(found, f"{CLONE} {count}", SCRATCH, "sessions", 0.5) for count in many}
    total = {count: _less(found, f"{CLONE} {count}", SCRATCH, "with_demonstrations") for count in counts}
    beside = {count: _less(found, f"{BOTH} {count}", f"{CLONE} {count}", "sessions_twice") for count in counts}
    needed = ", ".join(f"{_shown(found, f'{CLONE} {count}')} after {count:,}" for count in counts)
    return (
        Point.of(
            f"From the clone of {_ENOUGH} sessions a context or more, the demonstrator's value takes less than half of"
            " the sessions that it takes from scratch",
            all_of(*(below(mean, 0) for mean in half.values())),
            f"from scratch {_shown(found, SCRATCH)}, from the clone {needed}",
        ),
        Point.of(
            f"It takes fewer even if {many[0]:,} demonstrations are counted as sessions in the world",
            below(total[many[0]], 0),
            f"more than from scratch, paired: {_listed(total)}",
        ),
        Point.of(
            "Demonstrations that stay in the batch, with what was clicked in them, help beyond the start as well: to"
            " twice the demonstrator's value they save sessions",
            all_of(*(below(mean, 0) for mean in beside.values())),
            f"more than with the clone alone, paired: {_listed(beside)}",
        ),
    )


def _listed(means: Mapping[int, Mean]) -> str:
    return ", ".join(f"{mean} after {count:,}" for count, mean in means.items())


def _less(found: Found, first: str, second: str, measure: str, share: float = 1.0) -> Mean:
    """first - share * second, paired by seed."""
    return mean_of(found.values(first, measure) - share * found.values(second, measure), found.confidence)


def _shown(found: Found, arm: str) -> str:
    return f"{found.mean(arm, 'sessions').value:,.0f}"


def _charts(settings: Settings, found: Found) -> tuple[Chart, ...]:
    arms = tuple(f"{name} {count}" for name in (CLONE, BOTH) for count in settings.demonstrations)
    panels = {
        title: Panel(
            measure,
            "demonstrations",
            "sessions in the world",
            arms,
            "demonstrations",
            "start",
            {"from scratch": found.mean(SCRATCH, measure).value},
            "xy",
        )
        for measure, title in (
            ("sessions", "To the demonstrator's value"),
            ("sessions_twice", "To twice the demonstrator's value"),
        )
    }
    return (
        Chart(
            "Sessions in the world by the number of demonstrated ones: means with 95% bands over seeds. At 1 the"
            f" value is there before the first; what is never reached counts with {settings.budget:,}.",
            panels,
        ),
    )


CLAIM = Claim(
    name="sample_efficiency",
    title="A clone saves most of the interactions, and demonstrations in the batch save more",
    says="Learning by interaction is dear. A policy that begins as the clone of a demonstrator needs far fewer sessions"
    " in the world to be worth what the demonstrator is, and fewer still to exceed it if demonstrations stay in its"
    " batches.",
    set_up="Contexts in each of which one item is clicked at the rate given and all others at a fiftieth of it. The"
    " demonstrator shows the one that fits with a probability of .2, and others alike. recil.clone imitates its"
    " sessions (a bag encoder); recil.reinforce learns from scratch with the clone's architecture; recil.finetune"
    " begins with the clone. Defaults, but for policies that act in 200 sessions each and batches of 100. With"
    " finetune(log=) every step adds as many demonstrated sessions and what was clicked in them, corrected for who"
    " acted. The exact value of every policy that acts is noted; a run ends at twice the demonstrator's value. One"
    " that does not get there is censored: it counts with the budget, and differences from it are lower bounds.",
    not_shown=(
        "That sessions of the demonstrator are cheap. The second point counts them as if they were not.",
        "Demonstrations that are worse than what chance does: see demonstrations_and_rewards.",
        "Long sessions, in which a clone meets states that its demonstrator avoids: see distribution_shift.",
    ),
    settings=Settings,
    parts=_parts,
    measure=_measure,
    points=_points,
    columns=(
        Column("sessions", "sessions to the demonstrator's value", 0),
        Column("with_demonstrations", "demonstrations included", 0),
        Column("sessions_twice", "sessions to twice its value", 0),
        Column("start", "value at the start, demonstrator 1", 2),
    ),
    charts=_charts,
)
