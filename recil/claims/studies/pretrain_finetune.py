"""Pretrain and finetune: the four steps in a known world and on published logs, and what a bad first batch does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import recil
from recil.claims.claim import Claim, Column, Measured
from recil.claims.studies import pretrain_finetune_page as page
from recil.claims.studies.pretrain_finetune_page import AS_IT_CAME, EMPTY, FRAUD, LOGS, NOISE
from recil.exact.policy import STATE, TabularPolicy
from recil.exact.worlds import sparse_click_bandit
from recil.sim.generate import Settings as DemoSettings
from recil.sim.generate import Truth, load_settings

_FIRST_BATCH = 500
# Small batches and large steps, and no guard: under these a clone is known to lose what it was given.
_ROUGH: dict[str, Any] = {"batch": 25, "learning_rate": 3e-2}
_UNGUARDED: dict[str, Any] = {
    "kl": 0.0,
    "cap": 1e9,
    "entropy_floor": 0.0,
    "critic_warmup": 0,
    "iteration_kl": 1e9,
    "gradient_norm": 1e9,
}
_GUARDS = {name: getattr(recil.FinetuneConfig(), name) for name in _UNGUARDED}


@dataclass(frozen=True)
class Settings:
    """Of the known world, of what is learned in it and in users, of the bandit, and of published logs.

    demo, items, click_rate, logged  the known world: a settings file, and what is changed in it
    batch, learning_rate             of finetuning outside the bandit
    epochs                           passes over a log at most, of finetuning and of fitting users
    sessions, valued                 acted in when learning in a world, and simulated for a value
    choice                           of fitted users, who remember no slates where it is not "auto"
    brief                            whether fitted users, and the longer run from scratch, are left out of the demo
    bandit_log, first, spoilt, alone the bandit: sessions of its log and of finetuning, first batches, single guards
    kuairand, entree, horizon        the published folders, and the longest session simulated of them
    published, published_epochs      sessions acted in and simulated there, and passes over those logs
    published_seeds                  seeds below this run there: they take longest
    """

    demo: str = field(default="../../data/demo/settings.toml", metadata={"path": True})
    items: int = 300
    click_rate: float = 0.0075
    logged: int = 20_000
    batch: int = 250
    learning_rate: float = 3e-3
    epochs: int = 30
    sessions: int = 8000
    valued: int = 10_000
    brief: bool = False
    choice: str = "auto"
    bandit_log: int = 20_000
    first: int = 2000
    spoilt: tuple[str, ...] = (NOISE, FRAUD)
    alone: tuple[str, ...] = tuple(_UNGUARDED)
    kuairand: str = field(default="", metadata={"path": True})
    entree: str = field(default="", metadata={"path": True})
    horizon: int = 12
    published: int = 6000
    published_epochs: int = 5
    published_seeds: int = 3

    @property
    def gradient(self) -> dict[str, Any]:
        """Of finetuning outside the bandit."""
        return {"batch": self.batch, "learning_rate": self.learning_rate}


def _parts(settings: Settings) -> tuple[str, ...]:
    return ("demo", "first_batch", *(name for name in LOGS if _is_there(getattr(settings, name))))


def _dear(settings: Settings) -> Mapping[str, int]:
    return dict.fromkeys(LOGS, settings.published_seeds)


def _is_there(folder: str) -> bool:
    return bool(folder) and Path(folder).is_dir() and any(Path(folder).iterdir())


def _measure(settings: Settings, part: str, seed: int) -> Mapping[str, Measured]:
    if part in LOGS:
        return _published(settings, part, seed)
    return {"demo": _demo, "first_batch": _first_batch}[part](settings, seed)


@dataclass(frozen=True)
class _Taught:
    """Policies out of one log, and what they are worth.

    arms    name -> policy, `clone` among them
    worlds  measure -> the world that it is a value in
    cards   verdicts on fitted users: factors of all arms
    """

    arms: dict[str, Any]
    worlds: dict[str, Any]
    cards: dict[str, str] = field(default_factory=dict)

    def values(self, settings: Settings, seed: int) -> dict[str, dict[str, float]]:
        """Of every arm in every world, at the same addresses, and beside it its ratio to the clone's."""
        found: dict[str, dict[str, float]] = {arm: {} for arm in self.arms}
        for where, world in self.worlds.items():
            for arm, policy in self.arms.items():
                found[arm][where] = recil.simulated_value(policy, world, settings.valued, seed).value
            clone = found["clone"][where]
            for values in found.values():
                if clone > 0:
                    values[f"{where}_of_clone"] = values[where] / clone
        return found


def _from_log(learned: recil.SessionLog, settings: Settings, seed: int) -> dict[str, Any]:
    clone = recil.clone(learned, recil.CloneConfig(width=32), seed)
    config = recil.FinetuneConfig(epochs=settings.epochs, **settings.gradient)
    return {"clone": clone, "finetuned on the log": recil.finetune(clone, learned, config, seed)}


def _in_users(
    taught: _Taught, halves: tuple[recil.SessionLog, ...], test: recil.SessionLog, settings: Settings, seed: int
) -> None:
    """Adds what is finetuned in users fitted to the first half, and values there and in users fitted to the other."""
    horizon = int(taught.worlds["true"].horizon) if "true" in taught.worlds else settings.horizon
    chosen: Any = {} if settings.choice == "auto" else {"choice": settings.choice, "window": 0}
    config = recil.UserConfig(epochs=settings.epochs, **chosen)
    for where, half in zip(("own", "other"), halves, strict=True):
        users = recil.fit_users(half, config, seed)
        taught.worlds[where] = recil.World(users, horizon, card=recil.validate(users, test, seed=seed))
        taught.cards[f"{where}_card"] = taught.worlds[where].warrant.verdict
    for name, given in {"finetuned in users": {}, "unguarded in users": _UNGUARDED}.items():
        acting = recil.FinetuneConfig(sessions=settings.sessions, **(settings.gradient | given))
        taught.arms[name] = recil.finetune(taught.arms["clone"], taught.worlds["own"], acting, seed)


def _demo(settings: Settings, seed: int) -> Mapping[str, Measured]:
    given = load_settings(settings.demo)
    assert isinstance(given, DemoSettings)
    changed = {"items": settings.items, "click_rate": settings.click_rate, "sessions": settings.logged}
    truth = Truth(given.model_copy(update={"seed": given.seed + seed, **changed}))
    train, test = truth.log().split(by="session")
    # By another hash than the one that divided train from test.
    halves = train.split(by="session", test=0.5, seed=seed + 1)
    taught = _Taught({"logged": truth.logging_policy} | _from_log(halves[0], settings, seed), {"true": truth.world})
    if not settings.brief:
        _in_users(taught, halves, test, settings, seed)
    clone = taught.arms["clone"]
    online = recil.FinetuneConfig(sessions=settings.sessions, **settings.gradient)
    taught.arms["finetuned online"] = recil.finetune(clone, truth.world, online, seed)
    # With as many sessions of its own, and with those of the log on top.
    for name, more in {"scratch online": 0, "longer scratch online": halves[0].sessions}.items():
        if more == 0 or not settings.brief:
            config = recil.ReinforceConfig(sessions=settings.sessions + more, **settings.gradient)
            taught.arms[name] = recil.reinforce(clone, truth.world, config, seed)
    arms = {}
    for name, values in taught.values(settings, seed).items():
        estimated, verdict = _estimated(taught.arms[name], test, values["true"], name == "logged")
        arms[f"demo, {name}"] = Measured(values | estimated, factors={"estimate": verdict, **taught.cards})
    return arms


def _estimated(policy: Any, test: recil.SessionLog, true: float, logged: bool) -> tuple[dict[str, float], str]:
    """The offline estimate unless it is refused, whether its interval holds the true value, and its verdict."""
    estimator = "logged" if logged else "pdwis"
    row = recil.evaluate(recil.uniform(test) if logged else policy, test, estimators=(estimator,))[estimator]
    if row.refused:
        return {}, row.verdict
    return {"estimate": row.value, "held": float(row.low <= true <= row.high)}, row.verdict


def _published(settings: Settings, name: str, seed: int) -> Mapping[str, Measured]:
    own = replace(
        settings,
        sessions=settings.published,
        valued=settings.published,
        epochs=settings.published_epochs,
        choice="auto",
    )
    reward = "is_like" if name == "kuairand" else "click"
    train, test = recil.read_log(getattr(settings, name), name, reward).split(by="time")
    halves = train.split(by="session", test=0.5, seed=seed + 1)
    taught = _Taught(_from_log(halves[0], own, seed), {})
    _in_users(taught, halves, test, own, seed)
    values = taught.values(own, seed)
    return {f"{name}, {arm}": Measured(found, factors=taught.cards) for arm, found in values.items()}


@dataclass(frozen=True)
class _Bandit:
    """A world of many contexts whose first batch of clicks is spoilt, and which notes what each policy is worth.

    spoil  rewards of the first batch [B, 1, 1], and the click rates of what was shown there -> rewards instead
    noted  (sessions met, exact value) of every policy that acted
    """

    world: recil.TabularWorld
    spoil: Callable[[Tensor, Tensor], Tensor]
    noted: list[tuple[int, float]] = field(default_factory=list)
    slate_size = 1
    horizon = 1

    @property
    def catalogue(self) -> int:
        return self.world.catalogue

    @property
    def rates(self) -> Tensor:
        """float64 [contexts, items]; the last two states are ends."""
        return self.world.mdp.mean_reward[:-2]

    def value(self, policy: Any) -> float:
        contexts = torch.arange(len(self.rates))
        history = recil.History.start(contexts, 1, context={STATE: contexts[:, None]})
        with torch.no_grad():
            shown = policy.next_logits(history).double().softmax(-1)
        return float((shown * self.rates).sum(1).mean())

    def rollout(self, policy: Any, sessions: Tensor, streams: recil.Streams) -> recil.History:
        """See Environment."""
        history = self.world.rollout(policy, sessions, streams)
        self.noted.append((int(sessions[0]), self.value(policy)))
        if int(sessions[0]) > 0:
            return history
        rate = self.rates[history.context[STATE][:, 0], history.items[:, 0, 0]]
        return replace(history, reward=self.spoil(history.reward, rate[:, None, None]).to(history.reward.dtype))


def _spoils(rates: Tensor, seed: int) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    order = recil.Streams(seed).generator("spoilt")
    return {
        AS_IT_CAME: lambda reward, rate: reward,
        EMPTY: lambda reward, rate: torch.zeros_like(reward),
        # As many clicks as came, in other sessions: they say nothing of what was shown.
        NOISE: lambda reward, rate: reward[torch.randperm(len(reward), generator=order)],
        # Whatever is not worth showing is clicked, and nothing else.
        FRAUD: lambda reward, rate: (rate < rates.max()).to(reward.dtype),
    }


def _first_batch(settings: Settings, seed: int) -> Mapping[str, Measured]:
    mdp, demonstrator = sparse_click_bandit(skill=0.9, rates=(0.0002, 0.0102), seed=seed)
    world = recil.TabularWorld(mdp, 1)
    log = recil.simulate(TabularPolicy(demonstrator), world, settings.bandit_log, seed)
    clone = recil.clone(log, seed=seed)

    def finetuned(spoilt: str, demonstrations: recil.SessionLog | None = None, **given: Any) -> Measured:
        bandit = _Bandit(world, _spoils(mdp.mean_reward, seed)[spoilt])
        # What comes after a batch that changed nothing is what came without it.
        met = _FIRST_BATCH if spoilt == EMPTY else settings.first
        config = recil.FinetuneConfig(sessions=met, sessions_per_iteration=_FIRST_BATCH, **given)
        policy = recil.finetune(clone, bandit, config, seed, log=demonstrations)
        worth = bandit.value(clone)
        curve = [(step, value / worth) for step, value in (*bandit.noted, (met, bandit.value(policy)))]
        factors = {"first_batch": spoilt}
        return Measured({"true": curve[-1][1] * worth, "true_of_clone": curve[-1][1]}, {"kept": curve}, factors)

    arms = {"gentle, as it came": finetuned(AS_IT_CAME)}
    for batch in (AS_IT_CAME, EMPTY, *settings.spoilt):
        arms[f"guarded, {batch}"] = finetuned(batch, **_ROUGH)
        arms[f"unguarded, {batch}"] = finetuned(batch, **_ROUGH, **_UNGUARDED)
    for guard in settings.alone:
        alone = _UNGUARDED | {guard: _GUARDS[guard]}
        arms[f"{guard} alone, as it came"] = finetuned(AS_IT_CAME, **_ROUGH, **alone)
    if settings.alone:
        arms["logged sessions alone, as it came"] = finetuned(AS_IT_CAME, log, **_ROUGH, **_UNGUARDED)
    return arms


CLAIM = Claim(
    name="pretrain_finetune",
    title="Pretrain on demonstrations, finetune by reinforcement learning",
    says=page.SAYS,
    set_up=page.SET_UP,
    not_shown=page.NOT_SHOWN,
    settings=Settings,
    parts=_parts,
    dear=_dear,
    measure=_measure,
    points=page.points,
    columns=(
        Column("true_of_clone", "true value / clone's"),
        Column("true", "true value", 4),
        Column("estimate", "on held-out sessions", 4),
        Column("held", "interval holds it", 2),
        Column("own_of_clone", "in own users / clone's"),
        Column("other_of_clone", "in other users / clone's"),
        Column("other", "in other users", 4),
    ),
    charts=page.charts,
)
