"""Rollouts: addressed by session, cut or left, honest about propensities, and drawn from what is scored."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from known_users import SMALL, altered, log_with_columns, sessions_of, users_with_columns
from scipy import stats
from statistics_helper import assert_mean
from torch import Tensor

from recil.errors import InputError
from recil.logs.history import History
from recil.policies.protocol import Policy, Slates, log_prob_of_sessions
from recil.random import Streams
from recil.sim.generate import Truth
from recil.sim.predict import predict
from recil.sim.users import Starts, ends_of
from recil.sim.world import World

TRUTH = Truth(SMALL)
SESSIONS = torch.arange(64)


def rollout(world: World | None = None, sessions: Tensor = SESSIONS, policy: Policy | None = None) -> History:
    return (world or TRUTH.world).rollout(policy or TRUTH.logging_policy, sessions, Streams(3))


def world_with(horizon: int = SMALL.horizon, **parameters: float | Tensor) -> World:
    return World(altered(TRUTH.world.users, **parameters), horizon)


@dataclass
class Spy:
    """Passes a policy's slates on, and keeps what the policy was given to look at."""

    policy: Policy
    seen: list[History] = field(default_factory=list)

    @property
    def catalogue(self) -> int:
        return self.policy.catalogue

    def sample(self, history: History, k: int, streams: Streams) -> Slates:
        self.seen.append(history)
        return self.policy.sample(history, k, streams)

    def log_prob(self, history: History, slate: Tensor) -> Tensor:
        return self.policy.log_prob(history, slate)


@dataclass(frozen=True)
class Always:
    """Shows the same slate at every step."""

    slate: tuple[int, ...]
    catalogue: int = SMALL.items

    def sample(self, history: History, k: int, streams: Streams) -> Slates:
        items = torch.tensor(self.slate[:k]).expand(history.batch, k)
        return Slates(items, torch.zeros(items.shape))

    def log_prob(self, history: History, slate: Tensor) -> Tensor:
        return torch.zeros(slate.shape)


def test_a_session_evolves_the_same_in_any_batch() -> None:
    whole = rollout()
    order = torch.tensor([40, 3, 17, 63, 0])
    for sessions in (order, order[:1], SESSIONS.flip(0)):
        part = rollout(sessions=sessions)
        assert part.session.tolist() == sessions.tolist()
        steps = part.steps
        assert torch.equal(part.items, whole.items[sessions, :steps])
        assert torch.equal(part.reward, whole.reward[sessions, :steps])
        assert torch.equal(part.length, whole.length[sessions])
        assert torch.equal(part.terminated, whole.terminated[sessions])
        torch.testing.assert_close(part.propensity, whole.propensity[sessions, :steps])
        assert bool((whole.items[sessions, steps:] == -1).all())


def test_another_seed_is_another_set_of_sessions() -> None:
    other = TRUTH.world.rollout(TRUTH.logging_policy, SESSIONS, Streams(4))
    assert not torch.equal(other.items[:, 0], rollout().items[:, 0])


def test_the_horizon_cuts_and_leavers_end() -> None:
    done = rollout(sessions=torch.arange(500))
    assert done.steps == SMALL.horizon and int(done.length.max()) == SMALL.horizon
    early = done.length < SMALL.horizon
    assert bool(done.terminated[early].all()) and 0 < int(early.sum()) < 500
    assert 0 < int((~done.terminated).sum()) < int((~early).sum())  # some leave at the very last step
    assert bool((done.length >= 1).all())


def test_users_who_never_leave_are_all_cut() -> None:
    done = rollout(world_with(hazard=-200.0))
    assert not bool(done.terminated.any()) and bool((done.length == SMALL.horizon).all())


def test_users_who_leave_at_once_see_one_slate() -> None:
    done = rollout(world_with(hazard=200.0))
    assert bool(done.terminated.all()) and done.steps == 1 and bool((done.length == 1).all())


def test_nothing_is_shown_to_those_who_have_left() -> None:
    done = rollout()
    assert bool((done.shown.any(-1) == done.happened).all())
    assert bool((done.items[~done.happened] == -1).all()) and bool((done.reward[~done.happened] == 0).all())
    assert bool((done.propensity[~done.happened] == 1).all())


def test_propensities_are_the_policys_own() -> None:
    done = rollout()
    scored = log_prob_of_sessions(TRUTH.logging_policy, done).exp()
    torch.testing.assert_close(done.propensity, scored.float(), rtol=1e-5, atol=0)
    assert bool((done.propensity[done.happened] < 1).all())


def test_the_policy_sees_the_past_and_nothing_else() -> None:
    spy = Spy(TRUTH.logging_policy)
    done = rollout(policy=spy)
    assert len(spy.seen) == done.steps
    for step, seen in enumerate(spy.seen):
        past = done.prefix(step)
        assert torch.equal(seen.items, past.items) and torch.equal(seen.reward, past.reward)
        assert torch.equal(seen.length, past.length) and torch.equal(seen.session, SESSIONS)
        assert seen.terminated is None
        if step:
            assert torch.equal(seen.propensity, past.propensity)


def test_the_same_users_are_met_under_every_policy() -> None:
    first, second = (rollout(policy=Always(slate)) for slate in ((0, 1), (5, 2)))
    assert first.items[0, 0].tolist() == [0, 1] and second.items[0, 0].tolist() == [5, 2]
    users = TRUTH.world.users.starts.draw(SESSIONS, 2, 3, Streams(3))[0]
    assert torch.equal(users, TRUTH.world.users.starts.draw(SESSIONS.flip(0), 2, 3, Streams(3))[0].flip(0))


def test_predictions_of_true_users_are_unbiased_for_what_they_do() -> None:
    """Sums of (predicted - observed) over a session have mean 0, also weighed by what was predicted."""
    log = sessions_of(TRUTH, 4000)
    predicted = predict(TRUTH.world.users, log)
    excess = np.add.reduceat((predicted.click - log.reward).sum(1), log.offsets[:-1])
    weighed = np.add.reduceat(((predicted.click - log.reward) * predicted.click).sum(1), log.offsets[:-1])
    leaving = predicted.leave - ends_of(log)
    left = np.add.reduceat(leaving, log.offsets[:-1])
    for values in (excess, weighed, left, np.add.reduceat(leaving * predicted.leave, log.offsets[:-1])):
        assert_mean(values, 0.0)
    assert predicted.click[log.items >= 0].std() > 0.05 and predicted.leave.std() > 0.02


def test_simulated_users_react_to_the_context_of_the_step() -> None:
    """Users' predictions are unbiased under each tab, though tabs differ between the steps of a session."""
    users, log = users_with_columns(), log_with_columns(5000)
    tab, predicted = log.context["context_tab"].values, predict(users, log)
    for code in (0, 1):
        excess = np.where(tab == code, (predicted.click - log.reward).sum(1), 0.0)
        assert_mean(np.add.reduceat(excess, log.offsets[:-1]), 0.0)
    later = np.setdiff1d(np.arange(log.steps), log.offsets[:-1])
    assert predicted.click[later][tab[later] == 1].mean() > 2 * predicted.click[later][tab[later] == 0].mean()


def test_likelihood_ratios_of_simulated_sessions_average_one() -> None:
    """E[q(session) / p(session)] = 1 for sessions drawn from p, whatever q: simulation and score are one definition."""
    log = sessions_of(TRUTH, 6000)
    users = TRUTH.world.users
    true = predict(users, log).log_prob
    for name, value in (("hazard", -2.4), ("click_gain", 0.3), ("fatigue_strength", 0.3), ("hazard_impatience", 0.4)):
        other = predict(altered(users, **{name: value}), log).log_prob
        assert_mean(np.exp(other - true), 1.0)
        assert (true - other).mean() > 0, name  # the truth is the likelier on average


@pytest.mark.parametrize("impatience", [0.0, 1.2])
def test_sessions_survive_as_the_hazard_says(impatience: float) -> None:
    """Users who never click: the chance to see step t is a product over the hazards of the steps before."""
    world = world_with(appeal=-60.0, type_hazard=torch.zeros(3), hazard_impatience=impatience)
    sessions = 4000
    lengths = rollout(world, torch.arange(sessions)).length.numpy()
    behaviour = world.users.behaviour
    fade = 1 / (1 + math.exp(-float(behaviour.patience_decay)))
    survival, waited = 1.0, 0.0
    for step in range(1, SMALL.horizon):
        waited = fade * (waited + 1)
        survival *= 1 / (1 + math.exp(float(behaviour.hazard) + impatience * waited))
        seen = int((lengths > step).sum())
        assert stats.binomtest(seen, sessions, survival).pvalue > 1e-6  # false alarm 1e-6 per step


def test_session_length_reacts_to_the_policy_only_where_the_world_says_so() -> None:
    behaviour = TRUTH.world.users.behaviour
    liking = (behaviour.item_appeal + behaviour.type_home @ behaviour.item_vector.T).mean(0)
    best, worst = liking.topk(2).indices.tolist(), (-liking).topk(2).indices.tolist()
    sessions = torch.arange(3000)

    def lengths(impatience: float) -> list[np.ndarray]:
        world = world_with(hazard_impatience=impatience)
        return [rollout(world, sessions, Always(tuple(slate))).length.numpy() for slate in (best, worst)]

    patient, impatient = lengths(0.0), lengths(1.2)
    assert np.array_equal(*patient)  # common random numbers: not one session differs
    gained = (impatient[0] - impatient[1]).astype(float)
    assert gained.mean() > 4.9 * gained.std() / math.sqrt(len(gained))  # false alarm 1e-6


def test_clicks_change_what_users_want_next() -> None:
    """After a click, the same item is clicked more often where clicks raise interest than where they do not."""
    rates = {}
    for gain in (0.0, 2.0):
        world = world_with(click_gain=gain, skip_gain=0.0, fatigue_strength=-30.0, hazard=-200.0)
        done = rollout(replace(world, slate_size=1), torch.arange(6000), Always((2,)))
        after = done.reward[:, 0, 0] > 0
        rates[gain] = done.reward[after, 1, 0].numpy()
    error = math.sqrt(sum(values.var() / len(values) for values in rates.values()))
    assert rates[2.0].mean() - rates[0.0].mean() > 4.9 * error  # false alarm 1e-6


def test_starts_are_those_of_the_log() -> None:
    kinds = torch.tensor([[1.0, 0.0], [0.25, 0.75], [0.0, 1.0], [0.5, 0.5]], dtype=torch.float64)
    starts = Starts(
        kinds,
        user={"user_age": torch.tensor([10.0, 20.0, 30.0, 40.0])},
        context={"context_tab": torch.tensor([[1, 0, 0], [2, 3, 0], [4, 5, 6], [7, 0, 0]])},
        lengths=torch.tensor([1, 2, 3, 1]),
    )
    sessions = torch.arange(20_000)
    kind, history = starts.draw(sessions, 1, 5, Streams(0))
    pattern = {10.0: [1] * 5, 20.0: [2, 3, 2, 3, 2], 30.0: [4, 5, 6, 4, 5], 40.0: [7] * 5}
    ages = history.user["user_age"]
    for place, (age, tabs) in enumerate(pattern.items()):
        drawn = ages == age
        assert bool((history.context["context_tab"][drawn] == torch.tensor(tabs)).all())
        assert_mean(drawn.double().numpy(), 0.25)
        chance = float(kinds[place, 1])
        chosen = kind[drawn].double().numpy()
        assert bool((chosen == chance).all()) if chance in (0.0, 1.0) else assert_mean(chosen, chance) is None
    assert history.steps == 0 and history.slate_size == 1 and torch.equal(history.session, sessions)


@pytest.mark.parametrize(
    ("settings", "place"),
    [({"horizon": 0}, "world.horizon"), ({"horizon": 3, "slate_size": 3}, "world.slate_size")],
)
def test_worlds_that_cannot_be_are_refused(settings: dict[str, int], place: str) -> None:
    with pytest.raises(InputError, match=place):
        World(TRUTH.world.users, **settings)


def test_a_policy_of_another_catalogue_is_refused() -> None:
    with pytest.raises(InputError, match="policy: 9 items, the world has 8"):
        rollout(policy=Always((0, 1), catalogue=9))
