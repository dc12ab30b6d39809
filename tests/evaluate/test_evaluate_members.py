"""A world with an ensemble's members: every value and difference in it covers what differs between members."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_worlds import RecallPolicy

from recil.errors import InputError
from recil.evaluate.compare import compare, rank
from recil.evaluate.components import EnsembleDifference, EnsembleValue
from recil.evaluate.simulate import simulated_value
from recil.sim.card import validate
from recil.sim.ensemble import UserEnsemble, fit_ensemble
from recil.sim.generate import Settings, Truth
from recil.sim.user_config import UserConfig
from recil.sim.world import NO_CARD, World

SETTINGS = Settings(seed=0, horizon=4, items=6, slate_size=2, dimension=2, types=2, click_rate=0.2, sessions=300)
POLICY, OTHER = RecallPolicy.make(6, 1), RecallPolicy.make(6, 2)


@pytest.fixture(scope="module")
def ensemble() -> UserEnsemble:
    return fit_ensemble(Truth(SETTINGS).log(), UserConfig(types=2, dimension=2, epochs=2), members=3)


@pytest.fixture(scope="module")
def world(ensemble) -> World:
    return World(ensemble.central, 4, known=True, members=ensemble.members)


def test_a_value_has_both_parts_and_an_interval_over_both(world, ensemble) -> None:
    found = simulated_value(POLICY, world, 200)
    alone = simulated_value(POLICY, World(ensemble.central, 4, known=True), 200)
    each = [simulated_value(POLICY, World(users, 4), 200).returns for users in (ensemble.central, *ensemble.members)]
    assert found.ensemble == EnsembleValue.of(np.stack(each))
    assert (found.value, found.low, found.high) == (alone.value, found.ensemble.low, found.ensemble.high)
    assert alone.ensemble is None and found.meeting.members == 3 and found.meeting.world == alone.meeting.world
    assert "within" in str(found) and "between 3 fits" in str(found) and "within" not in str(alone)
    row = found.to_frame().iloc[0]
    assert (row["within"], row["between"]) == (found.ensemble.within, found.ensemble.between)


def test_differences_are_paired_within_every_member(world) -> None:
    one, other = (simulated_value(policy, world, 200) for policy in (POLICY, OTHER))
    apart = np.stack([one.returns - other.returns, *(one.member_returns - other.member_returns)])
    expected = EnsembleDifference.of(apart)
    found = compare({"one": POLICY, "other": OTHER}, world, sessions=200).difference("one", "other")
    assert (found.value, found.low, found.high) == (expected.value, expected.low, expected.high)


def test_values_with_and_without_members_are_not_ranked_together(world, ensemble) -> None:
    values = {
        "with": simulated_value(POLICY, world, 50),
        "without": simulated_value(OTHER, World(ensemble.central, 4, known=True), 50),
    }
    with pytest.raises(InputError, match="measured otherwise"):
        rank(values)


def test_an_ensemble_goes_by_the_card_of_its_central_users(ensemble) -> None:
    held_out = Truth(SETTINGS.model_copy(update={"seed": 1})).log()
    card = validate(ensemble.central, held_out)
    assert World.of(ensemble, 4, card=card).warrant.verdict == card.verdict
    assert World.of(ensemble, 4).warrant.reasons == (NO_CARD,)
    with pytest.raises(InputError, match="judges other users"):
        World(ensemble.members[0], 4, card=card)
    with pytest.raises(InputError, match="2 or more"):
        World(ensemble.central, 4, members=ensemble.members[:1])
    stranger = Truth(SETTINGS.model_copy(update={"items": 5})).world.users
    with pytest.raises(InputError, match="another catalogue"):
        World(ensemble.central, 4, members=(stranger, stranger))
