"""The likelihood of a session through the story: against a second writing of it, and summed over all outcomes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from known_users import ITEM_COLUMNS, Story, all_outcomes, batch_of, log_prob_by_hand, log_with_columns, rich_behaviour

from recil.logs.history import History
from recil.logs.session_log import SessionLog
from recil.sim.behaviour import Behaviour, ChoiceName, UserLayout
from recil.sim.predict import predict
from recil.sim.runtime import TorchRuntime
from recil.sim.stories import CLICKS, LEAVES, logged_story
from recil.sim.users import Starts, UserModel, ends_of, observations, score

SLATES = ((0, 2), (1, -1), (2, 1))
CHOICES: tuple[ChoiceName, ...] = ("multinomial", "cascade", "independent")
COLUMNS = {"tabs": (1, -1, 0), "age": 41.0, "region": 1}


@pytest.mark.parametrize("choice", CHOICES)
def test_the_likelihood_is_the_one_written_by_hand(choice: ChoiceName) -> None:
    behaviour = rich_behaviour(choice)
    stories = all_outcomes(SLATES, choice == "independent", **COLUMNS)
    stories += [Story(((0, 0),), ((0.0, 0.0),), True, (0,), 18.0, -1)]
    by_kind, _ = score(behaviour, ITEM_COLUMNS, batch_of(stories))
    by_hand = [[log_prob_by_hand(behaviour, story, kind) for kind in range(2)] for story in stories]
    np.testing.assert_allclose(by_kind.detach().numpy(), by_hand, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("choice", "ways"), [(one, 45 if one != "independent" else 76) for one in CHOICES])
def test_all_that_users_can_do_sums_to_one(choice: ChoiceName, ways: int) -> None:
    stories = all_outcomes(SLATES, choice == "independent", **COLUMNS)
    assert len(stories) == ways
    by_kind, _ = score(rich_behaviour(choice), ITEM_COLUMNS, batch_of(stories))
    torch.testing.assert_close(by_kind.exp().sum(0), torch.ones(2, dtype=torch.float64), atol=1e-12, rtol=0)


def test_the_same_steps_are_summed_field_by_field() -> None:
    behaviour = rich_behaviour()
    batch = batch_of(all_outcomes(SLATES, False, **COLUMNS)[:5])
    kinds = torch.ones(5, dtype=torch.int64)
    runtime = TorchRuntime(logged_story(behaviour, batch, ITEM_COLUMNS, kinds))
    scored = runtime.log_prob(observations(batch, True, torch.float64), batch.steps)
    assert set(scored.fields) == {CLICKS, LEAVES}
    by_kind, _ = score(behaviour, ITEM_COLUMNS, batch)
    torch.testing.assert_close(scored.fields[CLICKS].sum(0) + scored.fields[LEAVES].sum(0), by_kind[:, 1])


def test_two_clicks_are_impossible_for_users_who_choose() -> None:
    twice = Story(SLATES[:1], ((1.0, 1.0),), True, (1,), 41.0, 1)
    by_kind, _ = score(rich_behaviour("multinomial"), ITEM_COLUMNS, batch_of([twice]))
    assert bool(torch.isneginf(by_kind).all())
    by_kind, _ = score(rich_behaviour("independent"), ITEM_COLUMNS, batch_of([twice]))
    assert bool(torch.isfinite(by_kind).all())


def test_padding_and_company_change_nothing() -> None:
    behaviour = rich_behaviour()
    stories = all_outcomes(SLATES, False, **COLUMNS)
    together, _ = score(behaviour, ITEM_COLUMNS, batch_of(stories))
    for place in (0, 4, len(stories) - 1):
        alone, _ = score(behaviour, ITEM_COLUMNS, batch_of([stories[place]]))
        torch.testing.assert_close(alone[0], together[place], atol=1e-12, rtol=0)


@pytest.mark.parametrize("choice", CHOICES)
def test_gradients_reach_every_parameter_and_are_right(choice: ChoiceName) -> None:
    behaviour = rich_behaviour(choice)
    stories = all_outcomes(SLATES, choice == "independent", **COLUMNS)
    stories += all_outcomes(SLATES, choice == "independent", tabs=(0, 1, 1), age=20.0, region=0)
    batch = batch_of(stories)

    def total() -> torch.Tensor:
        return (torch.logsumexp(score(behaviour, ITEM_COLUMNS, batch)[0] + behaviour.type_log_prior(), -1)).sum()

    total().backward()
    for name, parameter in behaviour.named_parameters():
        assert parameter.grad is not None and bool(torch.isfinite(parameter.grad).all()), name
        place = int(parameter.grad.abs().argmax())
        with torch.no_grad():
            kept = parameter.flatten()[place].item()
            values = []
            for shift in (1e-5, -1e-5):
                parameter.view(-1)[place] = kept + shift
                values.append(float(total()))
            parameter.view(-1)[place] = kept
        assert float(parameter.grad.view(-1)[place]) == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-5), name
        assert float(parameter.grad.view(-1)[place]) != 0, name


def test_a_session_cut_by_the_log_is_not_one_that_was_left() -> None:
    behaviour = rich_behaviour()
    left, cut = (Story(SLATES[:1], ((0.0, 0.0),), end, (1,), 41.0, 1) for end in (True, False))
    by_kind, _ = score(behaviour, ITEM_COLUMNS, batch_of([left, cut]))
    assert bool((by_kind[0] != by_kind[1]).all())
    batch = batch_of([left, cut])
    unsaid, _ = score(behaviour, ITEM_COLUMNS, replace(batch, terminated=None))
    torch.testing.assert_close(unsaid, by_kind[[0, 0]])


def test_observations_say_what_happened_and_when_it_ended() -> None:
    batch = History(
        items=torch.tensor([[[0, 1], [1, 0]], [[1, 0], [-1, -1]], [[1, 0], [0, 1]]]),
        reward=torch.tensor([[[0.0, 1.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]]),
        length=torch.tensor([2, 1, 2]),
        session=torch.arange(3),
        terminated=torch.tensor([True, True, False]),
    )
    seen = observations(batch, leaves=True)
    assert seen[CLICKS].tolist() == batch.reward.transpose(0, 1).tolist()
    assert seen[LEAVES].tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    assert observations(batch, leaves=False)[LEAVES].sum() == 0
    assert observations(replace(batch, terminated=None), leaves=True)[LEAVES].sum(0).tolist() == [1.0, 1.0, 1.0]


def test_the_ends_of_a_log_are_where_users_left() -> None:
    items = np.zeros((4, 1), dtype=np.int32)
    log = SessionLog(
        item_ids=np.arange(2),
        items=items,
        reward=np.zeros((4, 1), dtype=np.float32),
        offsets=np.array([0, 1, 4]),
        session_ids=np.arange(2),
        terminated=np.array([False, True]),
    )
    assert ends_of(log).tolist() == [0, 0, 0, 1]
    assert ends_of(replace(log, terminated=None)).tolist() == [1, 0, 0, 1]


def test_users_fitted_to_single_steps_never_leave() -> None:
    behaviour = Behaviour(UserLayout(2, 1, 1, 2, True, False, 1))
    batch = History(torch.zeros(1, 1, 1, dtype=torch.int64), torch.zeros(1, 1, 1), torch.ones(1), torch.zeros(1))
    by_kind, scored = score(behaviour, {}, batch)
    assert float(scored.fields[LEAVES].detach().sum()) == 0
    assert scored.distributions[LEAVES][0].probs.item() == 0
    assert by_kind.exp().item() == pytest.approx(1 - scored.distributions[CLICKS][0].probs.item())


def test_types_are_judged_by_what_the_session_did() -> None:
    behaviour = rich_behaviour()
    users = UserModel(behaviour, Starts(torch.ones(1, 2) / 2), np.arange(3), ITEM_COLUMNS)
    stories = all_outcomes(SLATES, False, **COLUMNS)
    kinds = users.kinds(batch_of(stories)).numpy()
    prior = behaviour.type_log_prior().exp().detach().numpy()
    likelihood = np.exp([[log_prob_by_hand(behaviour, story, kind) for kind in range(2)] for story in stories])
    np.testing.assert_allclose(kinds, likelihood * prior / (likelihood * prior).sum(1, keepdims=True), atol=1e-10)
    # What a type is judged to be, averaged over all that can happen, is what it was taken to be.
    np.testing.assert_allclose(((likelihood * prior).sum(1)[:, None] * kinds).sum(0), prior, atol=1e-10)


@pytest.mark.parametrize("choice", CHOICES)
def test_predictions_are_what_enumeration_says_of_the_next_step(choice: ChoiceName) -> None:
    """Given the steps before: clicks by summing over the ways to answer the slate, leaving given the answer too."""
    behaviour = rich_behaviour(choice)
    users = UserModel(behaviour.requires_grad_(False), Starts(torch.ones(1, 2) / 2), np.arange(3), ITEM_COLUMNS)
    log = log_with_columns(20)
    predicted = predict(users, log)
    prior = behaviour.type_log_prior().exp().numpy()
    sides = {**log.context, **log.user_features}
    tab, age, region = (sides[name].values for name in ("context_tab", "user_age", "user_region"))

    def chance(rows: np.ndarray, clicks: list, left: bool, session: int) -> float:
        years = 30.0 if np.isnan(age[session]) else float(age[session])  # missing says nothing, and so does the mean
        story = Story(log.items[rows].tolist(), clicks, left, tab[rows].tolist(), years, int(region[session]))
        return float(np.exp([log_prob_by_hand(behaviour, story, kind) for kind in range(2)]) @ prior)

    for session in range(log.sessions):
        for row in range(log.offsets[session], log.offsets[session + 1]):
            rows = np.arange(log.offsets[session], row + 1)
            past, now = log.reward[rows[:-1]].tolist(), log.reward[row].tolist()
            patterns = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]] + ([[1.0, 1.0]] if choice == "independent" else [])
            ways = {
                (tuple(pattern), left): chance(rows, [*past, pattern], left, session)
                for pattern in patterns
                for left in (True, False)
            }
            clicked = [sum(p for (pattern, _), p in ways.items() if pattern[place]) for place in (0, 1)]
            np.testing.assert_allclose(predicted.click[row], np.array(clicked) / sum(ways.values()), rtol=1e-9)
            leaves, stays = ways[tuple(now), True], ways[tuple(now), False]
            assert predicted.leave[row] == pytest.approx(leaves / (leaves + stays), rel=1e-9)
        ended = bool(log.terminated[session])
        assert predicted.log_prob[session] == pytest.approx(np.log(ways[tuple(now), ended]), rel=1e-9)
