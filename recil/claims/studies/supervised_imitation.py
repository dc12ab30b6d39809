"""Imitation as supervised learning: classify the demonstrator's choices, be tested where one's own choices lead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from recil.claims.claim import Chart, Claim, Column, Measured, Panel, Point
from recil.claims.found import Found, above, all_of, below
from recil.evaluate.simulate import simulate
from recil.exact.episodes import sample_episodes
from recil.exact.mdp import TabularMDP
from recil.exact.policy import STATE, TabularPolicy
from recil.exact.solve import finite_values
from recil.exact.world import TabularWorld
from recil.exact.worlds import Demonstrated
from recil.logs.session_log import SessionLog
from recil.policies.softmax import SoftmaxPolicy
from recil.random import Streams
from recil.train.clone import CloneConfig, clone

_CLASSIFIERS = ("clone", "table")
_GREEDY = 1e-4  # a temperature at which the most probable item is shown
_HELD_OUT = 1 << 20  # what is added to a seed for demonstrations that nobody learns from
_TESTED = 2 << 20  # and for sessions in which the classifier acts
_AS_GOOD = 0.05  # of all choices: with the most demonstrations, a clone may err so much more often than a table


@dataclass(frozen=True)
class Settings:
    """demonstrations: sessions N that are learned from, two arms each; steps: T of a session.

    situations  that the demonstrator meets, the r-th in a share proportional to 1 / r; off: those that it never meets
    items       of the catalogue, one of which is right in a situation
    tested      sessions of each test; runs: sets of demonstrations whose mean is one seed's figure for the table
    updates     of the clone's optimiser at most, on batches of so many sessions
    """

    demonstrations: tuple[int, ...] = (8, 16, 32, 64)
    steps: int = 20
    situations: int = 100
    off: int = 20
    items: int = 10
    tested: int = 1000
    runs: int = 50
    width: int = 32
    updates: int = 400
    batch: int = 4


def demonstrated(settings: Settings) -> Demonstrated:
    """The right item is clicked and leads on to another situation; any other, off to where no demonstration has been.

    Off, the right item leads back, any other stays off. Which item is right where is drawn once, whatever the seed.
    """
    size, met = settings.situations + settings.off, _met(settings)
    right = torch.randint(settings.items, (size,), generator=Streams(0).generator("right item"))
    expert = torch.nn.functional.one_hot(right, settings.items).double()
    lost = torch.zeros(size, dtype=torch.float64)
    lost[settings.situations :] = 1 / settings.off
    transition = expert[..., None] * met + (1 - expert)[..., None] * lost
    ends = torch.zeros(size, dtype=torch.bool)
    names = (
        *(f"situation {number}" for number in range(settings.situations)),
        *(f"off {n}" for n in range(settings.off)),
    )
    return Demonstrated(TabularMDP(transition, expert, met, ends, 1.0, names), expert)


def _met(settings: Settings) -> Tensor:
    """Shares of situations in what the demonstrator meets, [S]."""
    share = torch.zeros(settings.situations + settings.off, dtype=torch.float64)
    share[: settings.situations] = 1 / torch.arange(1, settings.situations + 1)
    return share / share.sum()


def _measure(settings: Settings, part: str, seed: int) -> Mapping[str, Measured]:
    sessions = int(part.removesuffix(" demonstrations"))
    return {
        f"clone, {sessions}": _clone(settings, sessions, seed),
        f"table, {sessions}": _table(settings, sessions, seed),
    }


def _clone(settings: Settings, sessions: int, seed: int) -> Measured:
    """SupervisedImitationTrain and SupervisedImitationTest, with `recil.clone` as the classifier's learner."""
    mdp, expert = demonstrated(settings)
    world, expert_policy = TabularWorld(mdp, settings.steps), TabularPolicy(expert)
    named = {STATE: mdp.states}  # or a clone would not know of situations that its log lacks
    log = simulate(expert_policy, world, sessions, seed, categories=named)
    epochs = -(-settings.updates * settings.batch // sessions)
    config = CloneConfig(width=settings.width, epochs=epochs, batch=settings.batch, patience=epochs)
    classifier = clone(log, config, seed).at_temperature(_GREEDY)
    held_out = simulate(expert_policy, world, settings.tested, seed + _HELD_OUT, categories=named)
    acted = simulate(classifier, world, settings.tested, seed + _TESTED, categories=named)
    loss = 1 - acted.batch().reward[..., 0].double().mean(0)
    return _measured("clone", sessions, settings, _classification_loss(classifier, held_out), loss)


@torch.no_grad()
def _classification_loss(classifier: SoftmaxPolicy, log: SessionLog) -> float:
    """Share of the log's choices that the classifier would not have made."""
    sessions = log.batch()
    chosen = [classifier.greedy(sessions.prefix(step), 1)[:, 0] for step in range(sessions.steps)]
    return float((torch.stack(chosen, 1) != sessions.items[..., 0]).double().mean())


def _table(settings: Settings, sessions: int, seed: int) -> Measured:
    """A classifier that counts: the demonstrated item where one was seen, else any item. Its losses are exact."""
    mdp, expert = demonstrated(settings)
    episodes = sample_episodes(mdp, expert, settings.runs, sessions, seed, settings.steps)
    met = episodes.state[..., :-1].flatten(1)
    seen = torch.zeros(settings.runs, mdp.size[0], dtype=torch.bool).scatter_(1, met, True)
    tables = torch.where(seen[..., None], expert, 1 / settings.items)
    held_out = 1 - (tables * expert).sum(-1) @ mdp.start
    won = torch.stack([_clicks_by_step(mdp, table, settings.steps) for table in tables]).mean(0)
    measured = _measured("table", sessions, settings, float(held_out.mean()), 1 - won)
    error = float(held_out.std()) / settings.runs**0.5
    off = (float(held_out.mean()) - expected_loss(settings, sessions)) / error
    return replace(measured, values=dict(measured.values) | {"errors_off": off})


def _clicks_by_step(mdp: TabularMDP, policy: Tensor, steps: int) -> Tensor:
    """Expected clicks of each step under the policy, [T]."""
    until = [mdp.start @ finite_values(mdp, policy, count) for count in range(steps + 1)]
    return torch.stack(until).diff()


def _measured(classifier: str, sessions: int, settings: Settings, held_out: float, loss: Tensor) -> Measured:
    """held_out: classification loss of a choice; loss: of each step when it acts itself, [T]."""
    steps, summed = settings.steps, float(loss.sum())
    values = {
        "held_out": held_out,
        "summed": summed,
        "beyond": summed - steps * held_out,
        "below_bound": steps**2 * held_out - summed,
        "expected": expected_loss(settings, sessions),
    }
    curve = [(step + 1, float(one)) for step, one in enumerate(loss)]
    return Measured(values, {"loss_by_step": curve}, {"classifier": classifier, "demonstrations": sessions})


def expected_loss(settings: Settings, sessions: int) -> float:
    """The table's, in closed form: a situation was in none of N T choices, and the item is not guessed."""
    met = _met(settings)
    return float((1 - 1 / settings.items) * (met * (1 - met) ** (sessions * settings.steps)).sum())


def _points(settings: Settings, found: Found) -> tuple[Point, ...]:
    return (*_generalisation(settings, found), *_rolled_out(settings, found))


def _arms(settings: Settings, *classifiers: str) -> list[str]:
    return [f"{name}, {sessions}" for name in classifiers for sessions in sorted(settings.demonstrations)]


def _generalisation(settings: Settings, found: Found) -> tuple[Point, ...]:
    clones, tables = _arms(settings, "clone"), _arms(settings, "table")
    falls = [found.difference(*pair, "held_out") for pair in pairwise(clones)]
    # By the spread of its runs, seed by seed: over a few seeds the spread itself is hardly known.
    off = {arm: float(abs(found.values(arm, "errors_off")).max()) for arm in tables}
    behind = found.difference(clones[-1], tables[-1], "held_out")
    return (
        Point.of(
            "The more demonstrations, the fewer of the demonstrator's choices on new sessions are classified wrongly",
            all_of(*(above(fall, 0) for fall in falls)),
            "share wrong: " + ", ".join(f"{arm} {found.mean(arm, 'held_out')}" for arm in clones),
        ),
        Point.of(
            "What a table gets wrong is what no demonstration has shown, as in closed form",
            max(off.values()) < 4,
            f"at most {max(off.values()):.3g} standard errors apart for any seed; share wrong: "
            + ", ".join(
                f"{arm} {found.mean(arm, 'held_out')} ({found.mean(arm, 'expected').value:.4g})" for arm in tables
            ),
        ),
        Point.of(
            "With the most of them the clone, which has only vectors to learn, classifies about as well as the table",
            below(behind, _AS_GOOD),
            f"share wrong, {clones[-1]} - {tables[-1]}, paired: {behind}",
        ),
    )


def _rolled_out(settings: Settings, found: Found) -> tuple[Point, ...]:
    arms, clones = _arms(settings, *_CLASSIFIERS), _arms(settings, "clone")
    beyond = {arm: found.mean(arm, "beyond") for arm in arms}
    times = {
        arm: found.mean(arm, "summed").value / (settings.steps * found.mean(arm, "held_out").value) for arm in arms
    }
    fall = found.difference(clones[0], clones[-1], "summed")
    return (
        Point.of(
            "Where it acts itself, its summed loss is more than T times the held-out loss: its sessions are not the"
            " demonstrator's",
            all_of(*(above(one, 0) for one in beyond.values())),
            "summed loss, times T held-out losses: "
            + ", ".join(f"{arm} {factor:.3g}" for arm, factor in times.items()),
        ),
        Point.of(
            "It is at most T^2 times the held-out loss, as theory has it",
            all_of(*(above(found.mean(arm, "below_bound"), 0) for arm in arms)),
            f"the largest factor is {max(times.values()):.3g} T, T is {settings.steps}",
        ),
        Point.of(
            "More demonstrations mend this too",
            above(fall, 0),
            f"summed loss over {settings.steps} steps: {clones[0]} {found.mean(clones[0], 'summed')}, {clones[-1]}"
            f" {found.mean(clones[-1], 'summed')}",
        ),
    )


def _charts(settings: Settings, found: Found) -> tuple[Chart, ...]:
    expected = [(sessions, expected_loss(settings, sessions)) for sessions in settings.demonstrations]
    by_count = partial(Panel, across="demonstrations", over="demonstrations", by="classifier", log="y")
    summed = f"loss over {settings.steps} steps"
    return (
        Chart(
            "Loss by number of demonstrations: of a choice on new sessions of the demonstrator; summed over sessions in"
            " which the classifier acts; and of each step of these, for clones.",
            {
                "The demonstrator's sessions": by_count(
                    "held_out", up="share wrong", truths={"table, in closed form": expected}
                ),
                "Its own sessions": by_count("summed", up=summed),
                "Its own sessions, by step": Panel(
                    "loss_by_step", "step", "share wrong", tuple(_arms(settings, "clone"))
                ),
            },
        ),
    )


CLAIM = Claim(
    name="supervised_imitation",
    title="Imitation is supervised learning, tested where its own choices lead",
    says="Collect the observations and actions of N demonstrations, train a classifier on them, and let it act: what it"
    " loses is the sum over T steps in situations that it led to itself. It generalises as demonstrations grow in"
    " number.",
    set_up="A world of situations (the r-th of them is met in a share proportional to 1 / r) and items, one of which is"
    " right in each; the demonstrator shows it, the user clicks, and another situation follows. A wrong item leads to"
    " situations in which no demonstration has been, until the right one is found there. Training: recil.clone on N"
    " sessions of T steps, and a table that counts (any item in an unseen situation). Testing: T steps with the"
    " classifier's most probable item, losing 1 for each that is not the demonstrator's; beside it the share of wrong"
    " choices on new sessions of the demonstrator. The table's figures are exact given its demonstrations, and averaged"
    " over sets of them.",
    not_shown=(
        "How errors grow with T, and what an expert who can be asked would mend: see the claim of distribution shift.",
        "Generalisation between situations that resemble each other. Each here is a code, and the unseen are unknown.",
        "Better policies than the demonstrator's: the loss is measured by its choices.",
    ),
    settings=Settings,
    parts=lambda settings: tuple(f"{sessions} demonstrations" for sessions in settings.demonstrations),
    measure=_measure,
    points=_points,
    columns=(
        Column("held_out", "share wrong, demonstrator's sessions", 4),
        Column("summed", "loss over T steps, own sessions", 3),
    ),
    charts=_charts,
)
