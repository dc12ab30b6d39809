"""Users whose every parameter is set, worlds made of them, and a likelihood written a second time, in plain Python."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from recil.logs.history import History
from recil.logs.session_log import Column, SessionLog
from recil.policies.inputs import Feature
from recil.policies.protocol import Policy
from recil.random import Streams
from recil.sim.behaviour import Behaviour, ChoiceName, UserLayout
from recil.sim.generate import Recommender, Settings, Truth
from recil.sim.rates import baselines_of
from recil.sim.record import log_of
from recil.sim.users import Starts, UserModel, ends_of
from recil.sim.world import World

# Few items, frequent clicks, tastes that differ: what can be learned is learned from little.
SMALL = Settings(
    seed=0,
    sessions=1500,
    horizon=6,
    items=8,
    slate_size=2,
    dimension=2,
    types=3,
    click_rate=0.15,
    interest_spread=1.5,
    impatience=0.6,
    leaving_rate=0.1,
)
ITEM_COLUMNS = {
    "item_price": torch.tensor([2.0, float("nan"), 0.5]),
    "item_tags": torch.tensor([[0, 2], [1, -1], [-1, -1]]),
}


def rich_behaviour(choice: ChoiceName = "multinomial", types: int = 2) -> Behaviour:
    """Three items, slates of two, columns of every kind, no parameter at zero. float64."""
    layout = UserLayout(
        catalogue=3,
        slate_size=2,
        types=types,
        dimension=2,
        choice=choice,
        leaves=True,
        hazard_steps=2,
        window=2,
        items=(Feature("item_price", None, 1.0, 2.0), Feature("item_tags", 3)),
        users=(Feature("user_age", None, 30.0, 10.0), Feature("user_region", 2)),
        contexts=(Feature("context_tab", 2),),
    )
    behaviour = Behaviour(layout).double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in behaviour.parameters():
            parameter.copy_(0.6 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
        behaviour.hazard.fill_(-0.7)
    return behaviour


@dataclass(frozen=True)
class Story:
    """One session: slates, clicks and whether the user left, with the columns it has."""

    slates: Sequence[Sequence[int]]
    clicks: Sequence[Sequence[float]]
    left: bool
    tabs: Sequence[int]
    age: float
    region: int


def batch_of(stories: Sequence[Story]) -> History:
    """The stories as a padded batch, rewards in float64."""
    steps = max(len(story.slates) for story in stories)

    def padded(rows: Sequence, fill) -> list:
        return list(rows) + [fill] * (steps - len(rows))

    return History(
        items=torch.tensor([padded(story.slates, [-1, -1]) for story in stories]),
        reward=torch.tensor([padded(story.clicks, [0.0, 0.0]) for story in stories], dtype=torch.float64),
        length=torch.tensor([len(story.slates) for story in stories]),
        session=torch.arange(len(stories)),
        context={"context_tab": torch.tensor([padded(story.tabs, -1) for story in stories])},
        user={
            "user_age": torch.tensor([story.age for story in stories], dtype=torch.float64),
            "user_region": torch.tensor([story.region for story in stories]),
        },
        terminated=torch.tensor([story.left for story in stories]),
    )


def all_outcomes(slates: Sequence[Sequence[int]], several: bool, **columns) -> list[Story]:
    """Every way in which users can answer these slates: each click pattern, leaving after any step or never."""
    patterns = [
        [
            clicks
            for clicks in itertools.product((0.0, 1.0), repeat=2)
            if not any(click and item < 0 for click, item in zip(clicks, slate, strict=True))
            and (several or sum(clicks) <= 1)
        ]
        for slate in slates
    ]
    stories = []
    for length in range(1, len(slates) + 1):
        for clicks in itertools.product(*patterns[:length]):
            ends = (True, False) if length == len(slates) else (True,)
            cut = {**columns, "tabs": columns["tabs"][:length]}
            stories += [Story(slates[:length], clicks, left, **cut) for left in ends]
    return stories


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _item(weights: dict[str, np.ndarray], index: int) -> tuple[np.ndarray, float]:
    """An item's vector and own appeal: what is its own, its price (missing says nothing), the mean of its tags."""
    price, tags = float(ITEM_COLUMNS["item_price"][index]), ITEM_COLUMNS["item_tags"][index].tolist()
    effect = np.zeros(3) if math.isnan(price) else (price - 1) / 2 * weights["item_effects.tables.0"][0]
    known = [tag for tag in tags if tag >= 0]
    if known:
        effect = effect + np.mean([weights["item_effects.tables.1"][tag] for tag in known], axis=0)
    return weights["item_vector"][index] + effect[1:], float(weights["item_appeal"][index] + effect[0])


def _cascade(appeals: dict[int, float], clicks: Sequence[float], on: float) -> float:
    """Probability of these clicks: every item read is clicked or not, and after a skip the user may read on."""
    reading, silent = 1.0, 0.0
    for place, appeal in appeals.items():
        if clicks[place]:
            return reading * _sigmoid(appeal)
        silent += reading * _sigmoid(-appeal) * (1 - on)
        reading *= _sigmoid(-appeal) * on
    return silent + reading


def log_prob_by_hand(behaviour: Behaviour, story: Story, kind: int) -> float:
    """Log-probability of a story for a user of this type, by the words of the behaviour's documentation."""
    weights = {name: value.detach().numpy() for name, value in behaviour.state_dict().items()}
    user = (story.age - 30) / 10 * weights["user_effects.tables.0"][0]
    if story.region >= 0:
        user = user + weights["user_effects.tables.1"][story.region]
    home = weights["type_home"][kind] + user[2:]
    readiness = weights["appeal"] + weights["type_appeal"][kind] + user[0]
    hazard = weights["hazard"] + weights["type_hazard"][kind] + user[1]
    interest, fatigue, impatience, total = home, np.zeros(2), 0.0, 0.0
    before: list[tuple[Sequence[int], Sequence[float]]] = []
    for step, (slate, clicks, tab) in enumerate(zip(story.slates, story.clicks, story.tabs, strict=True)):
        there = [(place, item, *_item(weights, item)) for place, item in enumerate(slate) if item >= 0]
        appeals = {}
        for place, item, vector, own in there:
            tired = vector @ fatigue / np.linalg.norm(vector)
            context = weights["context_effects.tables.0"][tab][0] if tab >= 0 else 0.0
            appeals[place] = readiness + context + own + vector @ interest + weights["position"][place]
            appeals[place] -= math.log1p(math.exp(weights["fatigue_strength"])) * tired
            for age, (shown, taken) in enumerate(before[:-3:-1]):
                fading = _sigmoid(weights["repeat_decay"])
                weight = fading**age / (1 + fading)  # of two slates
                for other, click in zip(shown, taken, strict=True):
                    if other == item:
                        appeals[place] += weight * (weights["repeat_seen"] + weights["repeat_taken"] * click)
        before.append((slate, clicks))
        if behaviour.layout.choice == "cascade":
            total += math.log(_cascade(appeals, clicks, _sigmoid(weights["continuation"])))
        elif behaviour.layout.choice == "multinomial":
            total -= math.log(1 + sum(math.exp(appeal) for appeal in appeals.values()))
            total += sum(appeals[place] for place in appeals if clicks[place])
        else:
            total += sum(math.log(_sigmoid(a if clicks[place] else -a)) for place, a in appeals.items())
        clicked = sum((vector for place, _, vector, _ in there if clicks[place]), np.zeros(2))
        skipped = sum((vector for place, _, vector, _ in there if not clicks[place]), np.zeros(2)) / len(there)
        interest = interest + _sigmoid(weights["reversion"]) * (home - interest)
        interest = interest + weights["click_gain"] * clicked - weights["skip_gain"] * skipped
        seen = sum(vector / np.linalg.norm(vector) for _, _, vector, _ in there) / len(there)
        fatigue = _sigmoid(weights["fatigue_decay"]) * (fatigue + seen)
        impatience = 0.0 if any(clicks) else _sigmoid(weights["patience_decay"]) * (impatience + 1)
        logit = hazard + weights["hazard_step"][min(step, 1)] + weights["hazard_impatience"] * impatience
        logit += weights["hazard_click"] * any(clicks)
        leaves = story.left and step == len(story.slates) - 1
        total += math.log(_sigmoid(logit if leaves else -logit))
    return float(total)


def sessions_of(truth: Truth, count: int, seed: int = 1, policy: Policy | None = None) -> SessionLog:
    """A log of `count` sessions of a known world, by its own recommender unless told."""
    history = truth.world.rollout(policy or truth.logging_policy, torch.arange(count), Streams(seed))
    return log_of([history], truth.world.users.item_ids)


def with_baselines(users: UserModel, log: SessionLog) -> UserModel:
    """These users, held against the rates of this log."""
    return replace(users, baselines=baselines_of(log), leaving_rate=float(ends_of(log).mean()))


def altered(users: UserModel, **values: float | Tensor) -> UserModel:
    """These users with other parameters (by name); the ones given stay as they are."""
    behaviour = Behaviour(users.behaviour.layout).to(users.behaviour.appeal.dtype)
    behaviour.load_state_dict(users.behaviour.state_dict())
    with torch.no_grad():
        for name, value in values.items():
            getattr(behaviour, name).copy_(torch.as_tensor(value))
    return replace(users, behaviour=behaviour.requires_grad_(False))


def users_with_columns() -> UserModel:
    """Users with columns of every kind; they click more on the second tab, and tabs change from step to step."""
    behaviour = rich_behaviour().float()
    with torch.no_grad():
        behaviour.context_effects.tables[0].copy_(torch.tensor([[-1.5], [1.5]]))
        behaviour.type_logit.zero_()
    starts = Starts(
        kinds=torch.full((3, 2), 0.5),
        user={"user_age": torch.tensor([20.0, 30.0, float("nan")]), "user_region": torch.tensor([0, 1, -1])},
        context={"context_tab": torch.tensor([[0, 1], [1, 0], [-1, 0]])},
        lengths=torch.tensor([2, 2, 1]),
    )
    return UserModel(behaviour.requires_grad_(False), starts, np.array(["a", "b", "c"]), ITEM_COLUMNS)


def log_with_columns(sessions: int = 300) -> SessionLog:
    """A log of users with columns, shown slates at random. Ids are words."""
    users = users_with_columns()
    policy = Recommender(torch.zeros(3), torch.zeros(3, 2), 0.0, 0.0)
    history = World(users, 4).rollout(policy, torch.arange(sessions), Streams(5))
    names = {"context_tab": ("home", "search"), "user_region": ("north", "south")}
    features = {
        "item_price": Column(ITEM_COLUMNS["item_price"].numpy()),
        "item_tags": Column(ITEM_COLUMNS["item_tags"].numpy().astype(np.int32), ("red", "green", "blue")),
    }
    return replace(log_of([history], users.item_ids, names), item_features=features)


def log_of_users(truth: Truth, sizes: Sequence[int], seed: int = 1) -> SessionLog:
    """A log of users who each have so many sessions, all of the user's own type. Users are named 0, 1, ..."""
    users, generator = truth.world.users, np.random.default_rng(seed)
    prior = users.behaviour.type_log_prior().exp().numpy()
    owner = np.repeat(np.arange(len(sizes)), sizes)
    kind = torch.from_numpy(generator.choice(len(prior), len(sizes), p=prior / prior.sum())[owner])
    parts = []
    for number in kind.unique().tolist():
        one = replace(users.starts, kinds=torch.eye(len(prior), dtype=torch.float64)[number][None])
        world = replace(truth.world, users=replace(users, starts=one))
        parts.append(world.rollout(truth.logging_policy, torch.nonzero(kind == number)[:, 0], Streams(seed)))
    log = log_of(parts, users.item_ids)
    return replace(log, user_ids=owner[log.session_ids])
