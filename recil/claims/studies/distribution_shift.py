"""A clone in its own sessions: loss by step, in worlds with a way back and without, beside DAgger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from recil.claims.claim import Claim, Column, Measured
from recil.claims.studies.distribution_shift_page import NOT_SHOWN, charts, points
from recil.exact.mdp import TabularMDP
from recil.exact.policy import STATE, TabularPolicy
from recil.exact.solve import finite_values
from recil.exact.world import TabularWorld
from recil.exact.worlds import Demonstrated, cliff_chain, erring, recoverable_chain, three_states
from recil.logs.history import History
from recil.logs.read import read_log
from recil.logs.session_log import SessionLog
from recil.policies.encoders import EncoderConfig
from recil.policies.environment import Environment
from recil.policies.inputs import Feature
from recil.policies.mixture import Mixture
from recil.policies.protocol import Policy
from recil.policies.softmax import SoftmaxConfig, SoftmaxPolicy
from recil.random import Streams
from recil.sim.fit import fit_users
from recil.sim.user_config import UserConfig
from recil.sim.world import World
from recil.train.dagger import dagger, score_labels
from recil.train.dagger_config import DaggerConfig
from recil.train.dagger_data import Recorded
from recil.train.dagger_expert import best_response

_HORIZONS = (10, 20, 40, 80, 160)
# The share of rounds after the first that the expert acts: cloning throughout, or the learner alone.
_TEACHING = {"clone": 1.0, "DAgger": 0.0}


@dataclass(frozen=True)
class Settings:
    """rate: of errors in the exact chains; path: wanted items, and steps of a session.

    labelled         sessions with fitted users in each of three rounds: few, and many
    log, log_sessions, user_types, user_epochs  users are fitted to the first sessions of this log
    horizon          of sessions with fitted users
    judged           sessions that a policy is judged by in fitted users; in the path, where they are cheap, 2,000
    """

    rate: float = 0.001
    path: int = 5
    path_steps: int = 20
    labelled: tuple[int, ...] = (40, 150)
    log: str = field(default="data/demo/log", metadata={"path": True})
    log_sessions: int = 1000
    user_types: int = 3
    user_epochs: int = 8
    horizon: int = 8
    judged: int = 500


def _parts(settings: Settings) -> tuple[str, ...]:
    return ("exact", "path", "fitted")


def _measure(settings: Settings, part: str, seed: int) -> Mapping[str, Measured]:
    if part == "exact":
        return _exact(settings)
    return (_path if part == "path" else _fitted)(settings, seed)


def _exact(settings: Settings) -> Mapping[str, Measured]:
    """Gaps to the expert over T steps."""
    rate, lost = settings.rate, torch.tensor([settings.rate, 1.0], dtype=torch.float64)
    three, cliff, chain = three_states(), cliff_chain(), recoverable_chain()
    learners = {
        "no way back": (cliff, erring(cliff.demonstrator, rate)),
        "way back, clone": (chain, erring(chain.demonstrator, lost)),
        "way back, known": (chain, erring(chain.demonstrator, rate)),
    }
    arms = {}
    for arm, (world, learner) in learners.items():
        gaps = [(steps, _gap(world, learner, steps)) for steps in _HORIZONS]
        by_step = [_gap(world, learner, steps) for steps in range(settings.path_steps + 1)]
        loss = [(step, after - before) for step, (before, after) in enumerate(pairwise(by_step))]
        slope = float(np.log2(gaps[-1][1] / gaps[-2][1]))
        arms[arm] = Measured({"slope": slope}, {"gap_by_horizon": gaps, "chance_by_step": loss})
    rates = {steps: torch.tensor([0.01 * steps, 0.0, 1.0], dtype=torch.float64) for steps in (10, 20, 50)}
    gaps = [(steps, _gap(three, erring(three.demonstrator, by), steps)) for steps, by in rates.items()]
    return arms | {"three states": Measured({}, {"cost_by_horizon": gaps})}


def _gap(world: Demonstrated, learner: Tensor, steps: int) -> float:
    expert, own = (finite_values(world.mdp, policy, steps) for policy in (world.demonstrator, learner))
    return float(world.mdp.start @ (expert - own))


def _round_path(items: int, way_back: bool) -> Demonstrated:
    """Users want item after item, round and round; a wrong item loses them. The last item leads back, if anything."""
    lost = items
    moves = [[(want + 1) % items if item == want else lost for item in range(items + 1)] for want in range(items)]
    moves.append([lost] * items + [0 if way_back else lost])
    paid = [[float(item == want) for item in range(items + 1)] for want in range(items)]
    mdp = TabularMDP.from_moves(moves, [*paid, [0.0] * (items + 1)], 0)
    return Demonstrated(mdp, torch.eye(items + 1, dtype=torch.float64))


def _path(settings: Settings, seed: int) -> Mapping[str, Measured]:
    """Weights shrink so much that a learner errs now and then, however many labels it has: the question is where."""
    arms = {}
    for name, way_back in (("path, way back", True), ("path, no way back", False)):
        mdp, table = _round_path(settings.path, way_back)
        world, expert = TabularWorld(mdp, settings.path_steps), TabularPolicy(table)
        encoder = EncoderConfig("bag", 16, context=(Feature(STATE, settings.path + 1),))
        for teaching, decay in _TEACHING.items():
            start = SoftmaxPolicy(SoftmaxConfig(settings.path + 1, encoder), world.item_ids, seed=seed).eval()
            config = DaggerConfig(3, 24, decay, epochs=8, batch=10, weight_decay=2.0)
            found = dagger(start, world, expert, config, seed)
            acted, _ = _sessions(found.policy, world, expert, 0.0, 2000, seed)
            clicks = acted.reward.sum(-1).double().mean(0)
            curve = [(step, 1 - float(paid)) for step, paid in enumerate(clicks)]
            values = {"clicks": float(clicks.sum()), "labels": float(len(found.data.items))}
            arms[f"{name}, {teaching}"] = Measured(values, {"lost_by_step": curve})
    return arms


@cache
def _users(settings: Settings) -> tuple[SessionLog, World]:
    """Fitted once: seeds differ in what is learned in their world."""
    log = read_log(settings.log)
    log = log.select(np.arange(min(settings.log_sessions, log.sessions)))
    config = UserConfig(types=settings.user_types, dimension=4, choice="multinomial", epochs=settings.user_epochs)
    return log, World(fit_users(log, config), settings.horizon)


def _fitted(settings: Settings, seed: int) -> Mapping[str, Measured]:
    log, world = _users(settings)
    expert = best_response(world)
    arms: dict[str, Measured] = {}
    for sessions in settings.labelled:
        for teaching, decay in _TEACHING.items():
            start = SoftmaxPolicy.for_log(log, EncoderConfig("gru", 16), seed=seed)
            found = dagger(start, world, expert, DaggerConfig(3, sessions, decay, epochs=15, batch=10), seed)
            labels = {"labels": float(len(found.data.items))}
            whose = {"own sessions": 0.0} | ({"expert's sessions": 1.0} if teaching == "clone" else {})
            for where, share in whose.items():
                acted, slates = _sessions(found.policy, world, expert, share, settings.judged, seed)
                loss = _loss(found.policy, acted, slates)
                values = {"loss": float(loss.nanmean()), "clicks": float(acted.reward.sum((1, 2)).mean())} | labels
                curve = [(step, float(value)) for step, value in enumerate(loss.nanmean(0)) if not value.isnan()]
                factors = {"labelled": sessions, "whose": where}
                arms[f"fitted {sessions}, {teaching}, {where}"] = Measured(values, {"loss_by_step": curve}, factors)
    return arms


@torch.no_grad()
def _sessions(
    policy: SoftmaxPolicy, world: Environment, expert: Policy, share: float, sessions: int, seed: int
) -> tuple[History, Tensor]:
    """Sessions acted by the expert with probability `share` at each step, and its slates [B, T, K] in all of them."""
    teacher, first = Recorded(expert), 1 << 20
    mixture = Mixture(teacher, policy, share)
    acted = world.rollout(mixture, torch.arange(first, first + sessions), Streams(seed))
    acted = replace(acted, memo={})
    return acted, teacher.slates_of(acted)


@torch.no_grad()
def _loss(policy: SoftmaxPolicy, acted: History, slates: Tensor) -> Tensor:
    """-log pi of the expert's slate by item, [B, T]; nan where a session has ended."""
    loss = torch.full(acted.happened.shape, torch.nan, dtype=torch.float64)
    loss[acted.happened] = -score_labels(policy, acted, slates, acted.happened).double().mean(-1)
    return loss


CLAIM = Claim(
    name="distribution_shift",
    title="A clone drifts into situations that the demonstrator never was in",
    says="A clone's states are not the demonstrator's. Where an error cannot be undone, or the clone does not know how,"
    " an error rate of eps a step costs about eps T^2 / 2 over T steps; where the way back is known it costs eps T."
    " DAgger, which has the expert label the learner's own states, teaches the way back, and is worth its labels only"
    " where there is one.",
    set_up="Exact: chains in which the right item pays 1 and another one loses the user, for good or until the right"
    " one is shown; clones err at the same rate on the expert's states and always where it never was; gaps are"
    " sums over T steps. Three states: the lower bound of Ross & Bagnell (2010). Path: users want item after"
    " item, round and round, a wrong one loses them, and one more item leads back, or nothing does; the learner"
    " is recil.dagger with decay 1, which is cloning, or 0, after which the learner acts alone from the second"
    " of three rounds on, with as many labels; weights decay so strongly that it errs now and then. Fitted:"
    " users fitted to the demo log once, the expert is recil.best_response in their world, the learner a small"
    " GRU; loss is -log pi of the expert's slate, per item, in new sessions of the learner's own and of the"
    " expert's. Sessions there end when users leave.",
    not_shown=NOT_SHOWN,
    settings=Settings,
    parts=_parts,
    measure=_measure,
    points=points,
    columns=(
        Column("slope", "power of T"),
        Column("clicks", "clicks a session"),
        Column("loss", "loss, nats"),
        Column("labels", "labels", 0),
    ),
    charts=charts,
    exact=lambda settings: ("exact",),
)
