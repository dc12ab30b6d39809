"""Whether the policy that a generator is trained to can be had by imitation, without an adversary."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from recil.claims.claim import Claim, Column, Measured
from recil.claims.studies.gan_question_page import NOT_SHOWN, charts, points
from recil.evaluate.simulate import simulate
from recil.exact.policy import STATE, TabularPolicy
from recil.exact.solve import start_value
from recil.exact.world import TabularWorld
from recil.exact.worlds import Demonstrated, sparse_click_bandit
from recil.logs.history import History
from recil.logs.session_log import SessionLog
from recil.ops.adversarial import log_d, log_odds, minus_log_one_minus_d
from recil.policies.encoders import EncoderConfig
from recil.policies.softmax import SoftmaxPolicy
from recil.random import Streams
from recil.train.adversarial import adversarial
from recil.train.adversarial_config import AdversarialConfig
from recil.train.clone import CloneConfig, clone

# Items on a line, and starts (mean; deviation e^1.5) of the Gaussian that is to imitate two groups among them.
_LINE = torch.arange(-60, 61, dtype=torch.float64)
_STARTS = (-6, -3, 3, 6)
Way = Callable[[Tensor], Tensor] | None  # a reward from the discriminator's logit; None: likelihood
_REWARDS: dict[str, Callable[[Tensor], Tensor]] = {"log odds": log_odds, "-log(1 - D)": minus_log_one_minus_d}
_WAYS: dict[str, Way] = {"likelihood": None, **_REWARDS}


@dataclass(frozen=True)
class Settings:
    """The world's sizes; entries of a state of either policy; what is learned from and for how long.

    steps                 along expected gradients, with the best discriminator or by likelihood, step size `rate`
    demonstrations        sessions of the log
    adversarial_sessions  that an adversarial run simulates
    starts                of each exact ascent, averaged
    foils                 also the adversary by -log(1 - D), and a narrow one
    """

    contexts: int = 8
    items: int = 40
    skill: float = 0.6
    wide: int = 8
    narrow: int = 2
    steps: int = 400
    rate: float = 0.05
    demonstrations: int = 2000
    adversarial_sessions: int = 10_000
    starts: int = 8
    foils: bool = True


def _parts(settings: Settings) -> tuple[str, ...]:
    return ("identity", "two groups", "best discriminator", "learned")


def _measure(settings: Settings, part: str, seed: int) -> Mapping[str, Measured]:
    if part == "identity":
        return _identity()
    if part == "two groups":
        return _two_groups()
    return (_best if part == "best discriminator" else _learned)(settings, seed)


def _reverse(p: Tensor, q: Tensor) -> Tensor:
    return torch.special.xlogy(q, q / p).sum(-1)


def _shannon(p: Tensor, q: Tensor) -> Tensor:
    middle = (p + q) / 2
    return (torch.special.xlogy(p, p / middle) + torch.special.xlogy(q, q / middle)).sum(-1) / 2


def _surrogate(reward: Way, p: Tensor, log_q: Tensor) -> Tensor:
    """What ascends: the expected policy gradient's, with the best discriminator of p and q; None: likelihood."""
    if reward is None:
        return (p * log_q).sum(-1)
    own = log_q.detach()
    return (own.exp() * reward(p.log() - own) * log_q).sum(-1)


def _identity() -> Mapping[str, Measured]:
    """Policy gradients against gradients of divergences: a catalogue of 50 items, pairs of random policies."""
    draw = Streams(0).generator("identity")
    p, logits = (torch.randn(20, 50, generator=draw, dtype=torch.float64) * scale for scale in (2.0, 1.5))
    p = p.softmax(-1)

    def slope(what: Callable[[Tensor], Tensor]) -> Tensor:
        leaf = logits.detach().requires_grad_()
        return torch.autograd.grad(what(leaf.log_softmax(-1)).sum(), leaf)[0]

    reverse, shannon = (slope(lambda log_q, of=of: of(p, log_q.exp())) for of in (_reverse, _shannon))  # type: ignore[misc]
    wanted = {"log odds": (log_odds, -reverse), "-log(1 - D)": (minus_log_one_minus_d, -2 * shannon)}
    wanted |= {"log D": (log_d, 2 * shannon - reverse)}
    arms = {}
    for name, (reward, gradient) in wanted.items():
        found = slope(lambda log_q, reward=reward: _surrogate(reward, p, log_q))  # type: ignore[misc]
        error = float((found - gradient).norm() / gradient.norm())
        arms[f"identity, {name}"] = Measured({"identity_error": error})
    return arms


def _two_groups() -> Mapping[str, Measured]:
    """One Gaussian over items that come in two groups, .4 and .6, by the natural gradient from several starts."""
    groups = [(-((_LINE - centre) ** 2) / 8).softmax(-1) for centre in (-8.0, 8.0)]
    p = 0.4 * groups[0] + 0.6 * groups[1]
    arms = {}
    for name, reward in _WAYS.items():
        theta = torch.tensor([[start, 1.5] for start in _STARTS], dtype=torch.float64)
        for _ in range(400):
            leaf = theta.requires_grad_()
            log_q = (-0.5 * ((_LINE - leaf[:, :1]) / leaf[:, 1:].exp()) ** 2).log_softmax(-1)
            gradient = torch.autograd.grad(_surrogate(reward, p, log_q).sum(), leaf)[0]
            scale = torch.stack([(2 * theta[:, 1]).exp(), torch.full((len(theta),), 0.5)], 1)
            theta = (theta + 0.1 * scale * gradient).detach()
        q = (-0.5 * ((_LINE - theta[:, :1]) / theta[:, 1:].exp()) ** 2).softmax(-1)
        mean = (q * _LINE).sum(-1)
        deviation = ((q * _LINE**2).sum(-1) - mean**2).sqrt()
        curves = {
            "mean_by_start": list(zip(_STARTS, mean.tolist(), strict=True)),
            "deviation_by_start": list(zip(_STARTS, deviation.tolist(), strict=True)),
        }
        arms[f"Gaussian, {name}"] = Measured({"dropped": float(_dropped(p, q).mean())}, curves)
    return arms


def _dropped(p: Tensor, q: Tensor) -> Tensor:
    """Share of what is demonstrated that the policy shows less than a tenth as often."""
    return (p * (q < p / 10)).sum(-1)


def _world(settings: Settings) -> Demonstrated:
    """Two good items in each context, shown by the demonstrator with probability `skill`."""
    share = 2 / settings.items
    return sparse_click_bandit(settings.contexts, settings.items, clickable=share, skill=settings.skill)


def _contexts(settings: Settings) -> History:
    every = torch.arange(settings.contexts)
    return History.start(every, 1, context={STATE: every[:, None]})


def _found(settings: Settings, q: Tensor) -> dict[str, float]:
    """How far q [contexts, A] is from the demonstrator, what it is worth and what it covers; means over contexts."""
    mdp, demonstrator = _world(settings)
    p = demonstrator[: settings.contexts]
    rest = torch.full((mdp.size[0] - settings.contexts, settings.items), 1 / settings.items, dtype=torch.float64)
    shown = q.mean(0)
    return {
        "value": float(start_value(mdp, torch.cat([q, rest]))),
        "forward_kl": float(_reverse(q, p).mean()),
        "reverse_kl": float(_reverse(p, q).mean()),
        "jsd": float(_shannon(p, q).mean()),
        "dropped": float(_dropped(p, q).mean()),
        "effective_items": math.exp(-float(torch.special.xlogy(shown, shown).sum())),
    }


@torch.no_grad()
def _table(settings: Settings, policy: SoftmaxPolicy) -> Tensor:
    """[contexts, A]"""
    return policy.next_logits(_contexts(settings)).double().softmax(-1)


def _log(settings: Settings, seed: int) -> tuple[TabularWorld, SessionLog]:
    mdp, demonstrator = _world(settings)
    world = TabularWorld(mdp, 1)
    return world, simulate(TabularPolicy(demonstrator), world, settings.demonstrations, seed)


def _ascend(settings: Settings, ways: Sequence[Way], p: Tensor, width: int, seed: int) -> list[dict[str, float]]:
    """By expected gradients towards p [contexts, A], each way from the same starts; what it comes to, mean over starts.

    A policy is the softmax of a state of `width` entries for each context times a vector for each item, and a bias.
    """
    draw, (contexts, items) = Streams(seed).generator("start", width), p.shape
    shapes = ((contexts, width), (items, width), (items, 1))
    parts = [0.3 * torch.randn(settings.starts, *shape, generator=draw, dtype=torch.float64) for shape in shapes]
    state, vector, bias = leaves = [part.repeat(len(ways), 1, 1, 1).requires_grad_() for part in parts]
    optimiser = torch.optim.Adam(leaves, settings.rate)
    for _ in range(settings.steps):
        log_q = (state @ vector.mT + bias.mT).log_softmax(-1)
        gains = [_surrogate(reward, p, one).sum() for reward, one in zip(ways, log_q, strict=True)]
        optimiser.zero_grad()
        (-torch.stack(gains).sum()).backward()
        optimiser.step()
    tables = (state @ vector.mT + bias.mT).softmax(-1).detach()
    each = [[_found(settings, table) for table in way] for way in tables]
    return [{name: sum(one[name] for one in way) / len(way) for name in way[0]} for way in each]


def _best(settings: Settings, seed: int) -> Mapping[str, Measured]:
    p = _world(settings).demonstrator[: settings.contexts]
    arms: dict[str, Measured] = {}
    for size, width in (("wide", settings.wide), ("narrow", settings.narrow)):
        values = _ascend(settings, list(_WAYS.values()), p, width, seed)
        arms |= {f"{size}, exact, {way}": Measured(one) for way, one in zip(_WAYS, values, strict=True)}
    return arms


def _learned(settings: Settings, seed: int) -> Mapping[str, Measured]:
    """From one log. `apart`: total variation between two policies that differ in the learner's seed alone."""
    world, log = _log(settings, seed)
    one, other = 2 * seed, 2 * seed + 1

    def cloned(width: int, number: int = one) -> SoftmaxPolicy:
        return clone(log, CloneConfig(width=width), number)

    def played(start: int | SoftmaxPolicy, number: int = one, by: str = "log odds") -> SoftmaxPolicy:
        """start: a policy, or the width of one that is yet to learn."""
        policy = _untrained(log, start, number) if isinstance(start, int) else start
        return adversarial(policy, world, log, _config(settings), number, reward=_REWARDS[by]).policy

    wide, narrow, game = settings.wide, settings.narrow, {"sessions": float(settings.adversarial_sessions)}
    first = cloned(wide)
    pairs = {
        "wide, clone": (first, cloned(wide, other)),
        "wide, adversary, log odds": (played(wide), played(wide, other)),
    }
    alone = {"wide, clone, then adversary": played(first)}
    if settings.foils:
        alone |= {"wide, adversary, -log(1 - D)": played(wide, by="-log(1 - D)")}
        alone |= {"narrow, adversary, log odds": played(narrow)}
    alone |= {"narrow, clone": cloned(narrow)}
    arms: dict[str, Measured] = {}
    for arm, policy in ({arm: pair[0] for arm, pair in pairs.items()} | alone).items():
        cost = game if "adversary" in arm else {"sessions": 0.0}
        arms[arm] = Measured(_found(settings, _table(settings, policy)) | cost | _apart(settings, pairs.get(arm)))
    judged = _ascend(settings, [log_odds], _table(settings, first), narrow, seed)[0]
    return arms | {"narrow, clone as D": Measured(judged | {"sessions": 0.0})}


def _untrained(log: SessionLog, width: int, seed: int) -> SoftmaxPolicy:
    return SoftmaxPolicy.for_log(log, EncoderConfig("bag", width), seed=seed)


def _apart(settings: Settings, pair: tuple[SoftmaxPolicy, SoftmaxPolicy] | None) -> dict[str, float]:
    if pair is None:
        return {}
    one, other = (_table(settings, policy) for policy in pair)
    return {"apart": float((one - other).abs().sum(-1).mean() / 2)}


def _config(settings: Settings) -> AdversarialConfig:
    """Larger steps and a better discriminator than by default: the adversary learns faster here so."""
    return AdversarialConfig(
        sessions=settings.adversarial_sessions,
        sessions_per_iteration=min(400, settings.adversarial_sessions // 2),
        batch=200,
        learning_rate=1e-2,
        iteration_kl=0.2,
        critic_warmup=20,
        discriminator_steps=15,
    )


CLAIM = Claim(
    name="gan_question",
    title="A generator's best policy can be had by imitation, without an adversary",
    says="The lecture asks: can the optimal policy of the generator in a GAN be reached by imitation learning, doing"
    " away with the adversarial optimisation? Yes. A policy that can be the demonstrator: cloning and the game"
    " have that one optimum, and from the same log cloning comes nearer to it. A policy that cannot: likelihood"
    " covers, the generator drops what it cannot fit; but that compromise, too, is had without a game, since a"
    " capable clone's probability is all that the best discriminator knows.",
    set_up="Identity: gradients by the logits of 20 pairs of random policies over 50 items. Two groups: items on a"
    " line, 4 in 10 around -8 and 6 in 10 around 8 (deviation 2), and a policy that is one Gaussian, by natural"
    " gradients. Else: sessions of one slate of one item; in each context two items are clicked at .102 and the"
    " rest at .002; the demonstrator shows one of the two with probability `skill`. Wide policies can be the"
    " demonstrator, narrow ones cannot (a softmax of a state of few entries). Exact: expected gradients of such"
    " a softmax, by likelihood or with the best discriminator, log D - log(1 - D) = log p - log q, means over"
    " starts. Learned: recil.clone and recil.adversarial from one log. Clone as D: the wide clone's log-"
    " probability less the policy's own is the reward; no discriminator, no simulated session. Dropped: share of"
    " what is demonstrated that is shown less than a tenth as often. Apart: total variation between two policies"
    " of one log and two seeds of the learner.",
    not_shown=NOT_SHOWN,
    settings=Settings,
    parts=_parts,
    measure=_measure,
    points=points,
    columns=(
        Column("jsd", "JSD"),
        Column("forward_kl", "KL(demo, policy)"),
        Column("reverse_kl", "KL(policy, demo)"),
        Column("value", "value", 4),
        Column("dropped", "dropped"),
        Column("effective_items", "effective items", 1),
        Column("apart", "apart"),
        Column("sessions", "sessions simulated", 0),
    ),
    charts=charts,
    exact=lambda settings: ("identity", "two groups"),
)
