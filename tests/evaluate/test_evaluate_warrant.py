"""What a world says of policies comes with its warrant, and values of different worlds are not ranked together."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from tiny_worlds import MoodyWorld, RecallPolicy

from recil.errors import InputError
from recil.evaluate.compare import compare, rank
from recil.evaluate.intervals import student_interval
from recil.evaluate.simulate import Meeting, SimulatedValue, simulate, simulated_value
from recil.logs.history import History
from recil.policies.environment import Warrant, identity_of, warrant_of
from recil.sim.behaviour import Behaviour
from recil.sim.generate import Settings, Truth
from recil.sim.storage import load_users, save_users
from recil.sim.users import UserModel
from recil.sim.world import NO_CARD, World
from recil.sim.worlds.interest_evolution import InterestEvolutionSettings, interest_evolution

SETTINGS = Settings(seed=0, horizon=4, items=6, slate_size=2, dimension=2, types=2, click_rate=0.2)
POLICY, OTHER = RecallPolicy.make(6, 1), RecallPolicy.make(6, 2)


@dataclass(frozen=True)
class Judgement:
    """What a world looks at in a card."""

    verdict: str
    reasons: tuple[str, ...] = ()
    users: str = ""


@pytest.fixture(scope="module")
def users() -> UserModel:
    return Truth(SETTINGS).world.users


def world(users: UserModel, verdict: str, *reasons: str) -> World:
    return World(users, 4, card=Judgement(verdict, reasons, users.digest))  # type: ignore[arg-type]


def test_worlds_bring_their_warrant(users) -> None:
    assert warrant_of(MoodyWorld.make(3, 1, 3)) == Warrant("trust")
    assert warrant_of(interest_evolution()) == Warrant("trust")
    assert warrant_of(Truth(SETTINGS).world) == Warrant("trust")
    assert warrant_of(World(users, 4)) == Warrant("refuse", (NO_CARD,))
    assert warrant_of(world(users, "trust")) == Warrant("trust")
    assert warrant_of(world(users, "caution", "off by a little")) == Warrant("caution", ("off by a little",))
    assert warrant_of(world(users, "refuse", "off by far")) == Warrant("refuse", ("off by far",))


@pytest.mark.parametrize(("verdict", "reasons"), [("perhaps", ("a reason",)), ("refuse", ()), ("caution", ())])
def test_a_warrant_is_one_of_three_words_and_says_why(verdict, reasons) -> None:
    with pytest.raises(InputError, match="warrant"):
        Warrant(verdict, reasons)


def test_a_refused_value_is_not_printed_and_had_by_asking(users) -> None:
    trusted, careful, refused = (
        simulated_value(POLICY, place, 100)
        for place in (world(users, "trust"), world(users, "caution", "off by a little"), World(users, 4))
    )
    assert trusted.value == careful.value == refused.value > 0  # the users are the same, and what they do
    assert (trusted.verdict, careful.verdict, refused.verdict) == ("trust", "caution", "refuse")
    assert str(refused) == f"refuse: {NO_CARD} (100 simulated sessions)"
    assert str(careful) == f"{trusted}; caution: off by a little"
    row = refused.to_frame().iloc[0]
    assert np.isnan(row[["value", "low", "high"]].astype(float)).all() and row["reasons"] == NO_CARD
    assert careful.to_frame().iloc[0]["value"] == careful.value
    with pytest.raises(InputError, match="perhaps"):
        SimulatedValue(1.0, 0.0, 2.0, 5, verdict="perhaps")  # type: ignore[arg-type]


def test_logs_are_simulated_whatever_the_card_says(users) -> None:
    assert simulate(POLICY, World(users, 4), 20) == simulate(POLICY, world(users, "trust"), 20)


def test_a_comparison_in_a_refused_world_is_refused(users) -> None:
    policies = {"one": POLICY, "other": OTHER}
    refused = compare(policies, World(users, 4), sessions=100)
    assert [row.rank for row in refused.rows] == [None, None] and refused.differences == ()
    assert all(row.reasons == (NO_CARD,) and np.isnan(row.value) for row in refused.rows)
    assert NO_CARD in str(refused).replace("\n  ", " ")
    assert not any(f"{row.raw.value:.5g}" in str(refused) for row in refused.rows)
    with pytest.raises(InputError, match="refused"):
        refused.difference("one", "other")
    careful = compare(policies, world(users, "caution", "off by a little"), sessions=100)
    assert {row.verdict for row in careful.rows} == {"caution"} and len(careful.differences) == 1
    assert "one, other: caution: off by a little" in str(careful)


def test_equal_worlds_are_one_and_all_that_values_depend_on_tells_worlds_apart(users, tmp_path) -> None:
    save_users(users, tmp_path / "users")
    here = World(users, 4)
    assert here.identity == World(load_users(tmp_path / "users"), 4, card=Judgement("trust", (), users.digest)).identity  # type: ignore[arg-type]
    assert here.identity == Truth(SETTINGS).world.identity
    behaviour = Behaviour(users.behaviour.layout).double()
    behaviour.load_state_dict(users.behaviour.state_dict())
    with torch.no_grad():
        behaviour.hazard += 0.1
    others = [
        World(users, 5),
        World(users, 4, slate_size=1),
        World(replace(users, behaviour=behaviour), 4),
        World(replace(users, starts=replace(users.starts, kinds=torch.tensor([[0.9, 0.1]]))), 4),
        World(replace(users, item_ids=users.item_ids + 1), 4),
    ]
    assert len({other.identity for other in [here, *others]}) == 6


def test_built_worlds_are_known_by_name_and_settings() -> None:
    one, same = interest_evolution(), interest_evolution()
    other = interest_evolution(InterestEvolutionSettings(slate_size=3))
    assert identity_of(one) == identity_of(same) != identity_of(other)
    assert identity_of(MoodyWorld.make(3, 1, 3)) is None


def test_values_simulated_one_by_one_rank_as_compared_together(users) -> None:
    place = world(users, "trust")
    together = compare({"one": POLICY, "other": OTHER}, place, sessions=200, seed=3)
    apart = rank({name: simulated_value(policy, place, 200, 3) for name, policy in (("one", POLICY), ("other", OTHER))})
    assert apart == together and len(apart.differences) == 1


def test_values_of_different_worlds_are_not_ranked(users) -> None:
    near, far = world(users, "trust"), replace(world(users, "trust"), horizon=3)
    values = {"here": simulated_value(POLICY, near, 50), "there": simulated_value(OTHER, far, 50)}
    with pytest.raises(InputError) as refused:
        rank(values)
    assert near.identity in str(refused.value) and far.identity in str(refused.value)
    assert "here" in str(refused.value) and "there" in str(refused.value)


@pytest.mark.parametrize("other", [{"seed": 1}, {"gamma": 0.5}, {"sessions": 60}, {"confidence": 0.9}])
def test_values_of_other_users_are_not_ranked(users, other) -> None:
    place, usual = world(users, "trust"), {"sessions": 50}
    with pytest.raises(InputError, match="met other users"):
        rank({"one": simulated_value(POLICY, place, **usual), "other": simulated_value(OTHER, place, **usual | other)})


def test_values_of_no_known_world_are_not_ranked() -> None:
    nameless = simulated_value(RecallPolicy.make(3, 4), MoodyWorld.make(3, 1, 3), 20)
    for value in (nameless, SimulatedValue(1.0, 0.0, 2.0, 5)):
        with pytest.raises(InputError, match="nothing tells its world"):
            rank({"one": value, "other": value})
    with pytest.raises(InputError, match="no values"):
        rank({})


class Crowds:
    """Sessions 4 i to 4 i + 3 meet and fare alike: a world of populations of four, in which shown items pay."""

    catalogue, slate_size, horizon, population = 6, 1, 1, 4

    def rollout(self, policy, sessions, streams):
        start = History.start(sessions, 1)
        luck = streams.uniform("luck", sessions // 4) + policy.table[0, 0, 0].float()
        return start.append(torch.zeros_like(sessions)[:, None], luck, torch.ones_like(luck))


def test_populations_count_as_one_in_comparisons() -> None:
    """Paired, the luck of a crowd cancels where policies fare alike; where they do not, crowds are the units."""

    class Fickle(Crowds):
        def rollout(self, policy, sessions, streams):
            return super().rollout(policy, sessions, streams.child(float(policy.table.sum())))

    found = compare({"one": POLICY, "other": OTHER}, Fickle(), sessions=400, seed=3)
    values = [simulated_value(policy, Fickle(), 400, 3).returns for policy in (POLICY, OTHER)]
    crowds = (values[0] - values[1]).reshape(-1, 4)
    np.testing.assert_array_equal(crowds, crowds[:, :1].repeat(4, 1))
    pair = found.difference("one", "other")
    assert (pair.value, pair.low, pair.high) == pytest.approx(student_interval(crowds[:, 0]))
    assert simulated_value(POLICY, Fickle(), 400, 3).meeting == Meeting(None, 3, 1.0, 4)
