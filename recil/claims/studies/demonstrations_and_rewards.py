"""Demonstrations and rewards: five ways to use either or both, with demonstrators of four kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from recil.claims.claim import Chart, Claim, Column, Measured, Panel, Point
from recil.claims.found import Found, Mean, above, all_of, below, near
from recil.exact.draw import Moves, ladder, pick
from recil.exact.episodes import Episodes, sample_episodes
from recil.exact.mdp import TabularMDP
from recil.exact.solve import greedy_policy, start_value
from recil.exact.worlds import sparse_click_bandit
from recil.exact.worlds.demonstrated import erring
from recil.ops.values import epsilon_greedy, moved, q_learning_target
from recil.random import Streams, stable_hash
from recil.train.tabular import TabularConfig, tabular_q_learning
from recil.train.tabular_policy import TabularReinforceConfig, tabular_clone, tabular_reinforce

REINFORCE, Q_LEARNING = "reward only", "reward only, Q-learning"
CLONE, FAVOURITE, SEQUENTIAL, HYBRID = "clone", "clone's favourites", "sequential", "hybrid"
HELD, REPLAY = "hybrid, constant weight", "replay"
METHODS = (CLONE, FAVOURITE, SEQUENTIAL, HYBRID, HELD, REPLAY)
GOOD, MEDIOCRE, MIXED, CERTAIN = "good", "mediocre", "mixed", "certain"
DEMONSTRATORS = (GOOD, MEDIOCRE, MIXED, CERTAIN)
_BY_CHANCE = 0.02  # what does not fit is clicked, as a share of the rate of what does
_UNSEEN = 0.02  # times that everything counts as shown in a clone
_AT_ONCE = 64  # sessions whose draws are made together


@dataclass(frozen=True)
class Settings:
    """rate: of clicks on the item that fits; demonstrations: sessions shown; sessions: in the world, of every method;
    runs: whose mean is a seed's figure; step, explore: of Q-learning; scale, decay: of the hybrid loss's weight."""

    contexts: int = 10
    items: int = 50
    rate: float = 0.1
    demonstrations: int = 2000
    sessions: int = 3000
    runs: int = 20
    batch: int = 50
    step: float = 0.05
    explore: float = 0.1
    scale: float = 0.1
    decay: float = 0.95


def _parts(settings: Settings) -> tuple[str, ...]:
    return ("reward", *DEMONSTRATORS)


def _measure(settings: Settings, part: str, seed: int) -> Mapping[str, Measured]:
    mdp = _world(settings, seed)
    if part == "reward":
        return _reward_only(settings, mdp, seed)
    demonstrator = _demonstrators(mdp)[part]
    shown = sample_episodes(mdp, demonstrator, settings.runs, settings.demonstrations, stable_hash("demo", seed))
    clone = tabular_clone(shown, _UNSEEN)
    policies = {CLONE: clone.softmax(-1), FAVOURITE: greedy_policy(clone)}
    for method, decay in ((SEQUENTIAL, None), (HYBRID, settings.decay), (HELD, 1.0)):
        policies[method] = _reinforced(settings, mdp, clone, shown, decay, seed)
    policies[REPLAY] = epsilon_greedy(_replayed(settings, mdp, shown, seed), 0.0)
    worth = float(start_value(mdp, demonstrator)) / settings.rate
    arms = {}
    for method, policy in policies.items():
        value = _share(settings, mdp, policy)
        factors = {"method": method, "demonstrator": part}
        arms[f"{method}: {part}"] = Measured({"value": value, "gain": value - worth}, factors=factors)
    return arms


def _world(settings: Settings, seed: int) -> TabularMDP:
    """One item fits in each context."""
    rates = (_BY_CHANCE * settings.rate, settings.rate)
    return sparse_click_bandit(settings.contexts, settings.items, 1 / settings.items, rates, 0.5, seed).mdp


def _demonstrators(mdp: TabularMDP) -> dict[str, Tensor]:
    """Policies [S, A]. Mixed: half of its sessions are by the good one, half by one that shows anything but what"
    " fits."""
    fits = greedy_policy(mdp.mean_reward)
    # Every fourth context is one that the certain demonstrator knows; elsewhere it shows the item beside what fits.
    knows = (torch.arange(len(fits)) % 4 == 0)[:, None]
    return {
        GOOD: erring(fits, 0.1),
        MEDIOCRE: erring(fits, 0.9),
        MIXED: (erring(fits, 0.1) + erring(fits, 1.0)) / 2,
        CERTAIN: torch.where(knows, fits, fits.roll(1, 1)),
    }


def _share(settings: Settings, mdp: TabularMDP, policy: Tensor) -> float:
    """Value as a share of the best one, mean over runs. policy: [R, S, A]."""
    return float(((policy * mdp.mean_reward).sum(-1) @ mdp.start).mean()) / settings.rate


def _reward_only(settings: Settings, mdp: TabularMDP, seed: int) -> Mapping[str, Measured]:
    nothing = torch.zeros(settings.runs, *mdp.size, dtype=torch.float64)
    acted = _reinforced(settings, mdp, nothing, None, None, seed)
    config = TabularConfig(settings.sessions, settings.runs, settings.step, settings.explore)
    valued = epsilon_greedy(tabular_q_learning(mdp, config, seed).values, 0.0)
    return {
        name: Measured({"value": _share(settings, mdp, policy)}, factors={"method": name, "demonstrator": "none"})
        for name, policy in ((REINFORCE, acted), (Q_LEARNING, valued))
    }


def _reinforced(
    settings: Settings, mdp: TabularMDP, start: Tensor, shown: Episodes | None, decay: float | None, seed: int
) -> Tensor:
    """The policy after policy gradient in the world, with demonstrations in every step where a decay is given."""
    beside = 0 if decay is None else settings.batch
    config = TabularReinforceConfig(
        settings.sessions, settings.batch, demonstrations=beside, scale=settings.scale, decay=decay or 0.0
    )
    *_, last = tabular_reinforce(mdp, start, config, seed, shown)
    return last.logits.softmax(-1)


@torch.no_grad()
def _replayed(settings: Settings, mdp: TabularMDP, shown: Episodes, seed: int) -> Tensor:
    """Q-learning that learns from one demonstrated session after each of its own, [R, S, A]. Sessions are one step."""
    moves, streams, run = Moves.of(mdp), Streams(seed).child("replay"), torch.arange(settings.runs)
    values, drawn = torch.zeros(settings.runs, *mdp.size, dtype=torch.float64), torch.empty(0)
    for session in range(settings.sessions):
        block, place = divmod(session, _AT_ONCE)
        if not place:
            drawn = streams.uniform("sessions", run, block, 4 * _AT_ONCE, torch.float64).view(-1, _AT_ONCE, 4)
        start, choice, chance, which = drawn[:, place].unbind(1)
        state = moves.start(start)
        action = pick(ladder(epsilon_greedy(values[run, state], settings.explore)), choice)
        _, paid = moves.step(state, action, chance)
        again = (which * shown.shape[1]).long()
        demonstrated = shown.state[run, again, 0], shown.action[run, again, 0], shown.reward[run, again, 0]
        for where, item, reward in ((state, action, paid), demonstrated):
            target = q_learning_target(reward, 0.0, values[run, where])
            values[run, where, item] = moved(values[run, where, item], target, settings.step)
    return values


def _points(settings: Settings, found: Found) -> tuple[Point, ...]:
    worth = _worth(settings)
    clones = {kind: found.mean(f"{CLONE}: {kind}", "value") for kind in DEMONSTRATORS}
    return (
        Point.of(
            "A clone, its items drawn, comes to its demonstrator's value, whatever that is, and not beyond it (within"
            " 2% of the best value)",
            all(near(mean, worth[kind], 4.0, len(found.seeds), 0.02) for kind, mean in clones.items()),
            "; ".join(f"{kind} {worth[kind]:.3f}, clone {mean}" for kind, mean in clones.items()),
        ),
        *_beyond(settings, found),
        *_not_beyond(settings, found),
    )


def _beyond(settings: Settings, found: Found) -> tuple[Point, ...]:
    both, broad = (SEQUENTIAL, HYBRID, REPLAY), (MEDIOCRE, MIXED)
    gains = {f"{method}: {kind}": found.mean(f"{method}: {kind}", "gain") for kind in broad for method in both}
    ahead = {kind: found.difference(f"{SEQUENTIAL}: {kind}", REINFORCE, "value") for kind in (GOOD, *broad)}
    replay = {kind: found.difference(f"{REPLAY}: {kind}", Q_LEARNING, "value") for kind in (GOOD, *broad)}
    kept = found.mean(f"{SEQUENTIAL}: {GOOD}", "gain")
    favourite = {kind: found.mean(f"{FAVOURITE}: {kind}", "gain") for kind in broad}
    return (
        Point.of(
            "With rewards as well it exceeds a mediocre demonstrator and one of mixed quality: in sequence, with the"
            " hybrid loss, with demonstrations in the replay",
            all_of(*(above(mean, 0) for mean in gains.values())),
            f"above the demonstrator by {_listed(gains)}",
        ),
        Point.of(
            "In the same sessions it comes further than the same learner on reward only, with a good one, too",
            all_of(*(above(mean, 0) for mean in (*ahead.values(), *replay.values()))),
            f"sequential against REINFORCE: {_listed(ahead)}; replay against Q-learning: {_listed(replay)}",
        ),
        Point.of(
            "Rewards do not spoil a good demonstrator's clone",
            above(kept, -0.02),
            f"sequential, above the good demonstrator: {kept}",
        ),
        Point.of(
            "Who errs at random is exceeded without any reward, by showing what it shows most",
            all_of(*(above(mean, 0) for mean in favourite.values())),
            f"the clone's favourites, above the demonstrator: {_listed(favourite)}",
        ),
    )


def _not_beyond(settings: Settings, found: Found) -> tuple[Point, ...]:
    held = {kind: found.difference(f"{HELD}: {kind}", f"{HYBRID}: {kind}", "value") for kind in (MEDIOCRE, MIXED)}
    stuck = {method: found.mean(f"{method}: {CERTAIN}", "gain") for method in (FAVOURITE, SEQUENTIAL, HYBRID, HELD)}
    explores = found.mean(f"{REPLAY}: {CERTAIN}", "gain")
    return (
        Point.of(
            "A weight of the demonstrations that does not decay holds it near a demonstrator that it could exceed",
            all_of(*(below(mean, 0) for mean in held.values())),
            f"constant weight less decaying weight: {_listed(held)}",
        ),
        Point.of(
            "It does not exceed a demonstrator that always shows the same: its clone shows nothing else, so that no"
            " reward is met that would tell (gains below 5% of the best value)",
            all_of(*(below(mean, 0.05) for mean in stuck.values())),
            f"above the certain demonstrator: {_listed(stuck)}",
        ),
        Point.of(
            "With demonstrations in the replay of a learner that explores it does",
            above(explores, 0.05),
            f"replay, above the certain demonstrator: {explores}",
        ),
    )


def _worth(settings: Settings) -> dict[str, float]:
    """Exact shares of the best value; which item fits where does not change them."""
    mdp = _world(settings, 0)
    return {kind: float(start_value(mdp, table)) / settings.rate for kind, table in _demonstrators(mdp).items()}


def _listed(means: Mapping[str, Mean]) -> str:
    return "; ".join(f"{name} {mean}" for name, mean in means.items())


def _charts(settings: Settings, found: Found) -> tuple[Chart, ...]:
    worth = _worth(settings)
    panels = {
        f"{kind[0].upper()}{kind[1:]} demonstrator": Panel(
            "value",
            "value, share of the best",
            "",
            (REINFORCE, Q_LEARNING, *(f"{method}: {kind}" for method in METHODS)),
            truths={"the demonstrator": worth[kind]},
        )
        for kind in DEMONSTRATORS
    }
    return (
        Chart(
            f"Exact value after {settings.sessions:,} sessions in the world (clones: none), as a share of the best"
            " policy's: means with 95% intervals over seeds. Right of the dashed line a method has exceeded its"
            " demonstrator.",
            panels,
        ),
    )


CLAIM = Claim(
    name="demonstrations_and_rewards",
    title="Demonstrations and rewards together exceed the demonstrator, as long as something else is tried",
    says="Imitation is only as good as its demonstrator, and reward alone must find what is good. Both together begin"
    " where the demonstrator is and go beyond it: if it leaves something to gain, if its weight fades, and if what is"
    " better is shown now and then.",
    set_up="Contexts in each of which one item is clicked at the rate given and all others at a fiftieth of it;"
    " policies are tables. The good demonstrator shows what fits with a probability of .9, the mediocre one of .1,"
    " both with errors spread evenly; the mixed one is in half of its sessions the good one and in the others"
    " anything but what fits; the certain one always shows what fits in every fourth context, and in the others"
    " always one item that does not. Clone: counts, .02 of one for what was not shown, its items drawn, or always the"
    " most frequent (favourites). Reward only: REINFORCE (steps of 1 per session, batches, running mean as baseline)"
    " and epsilon-greedy Q-learning. Sequential: REINFORCE from the clone. Hybrid: the same with as many"
    " demonstrations in every batch, weighted as DAPG does, lambda0 lambda1^k max A, with lambda1 as given or 1"
    " (constant weight). Replay: Q-learning, a demonstrated session after each of its own. Policies by policy"
    " gradient are valued as they are, those by Q-learning without exploration. All have the same number of sessions"
    " in the world.",
    not_shown=(
        "What more sessions would bring. Whoever shows everything now and then gets to the best policy in the end.",
        "Long sessions, where demonstrations also keep a learner on the way to late rewards: see sparse_rewards.",
        "Which method is best. Steps, exploration and weights are plain choices, the same for all demonstrators.",
    ),
    settings=Settings,
    parts=_parts,
    measure=_measure,
    points=_points,
    columns=(Column("value", "share of the best value"), Column("gain", "above the demonstrator")),
    charts=_charts,
)
