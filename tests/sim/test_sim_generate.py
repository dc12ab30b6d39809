"""The known world: the same settings write the same bytes, with exact propensities and about the wanted clicks."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from known_users import SMALL, sessions_of
from statistics_helper import assert_mean

from recil.errors import InputError
from recil.logs.read import read_log
from recil.ops.slates import plackett_luce_log_prob
from recil.policies.protocol import log_prob_of_sessions
from recil.random import Streams
from recil.sim.behaviour import Catalogue
from recil.sim.generate import Recommender, Settings, Truth, load_settings
from recil.sim.users import UserModel

FEW = SMALL.model_copy(update={"sessions": 300})


def test_the_same_settings_give_the_same_log() -> None:
    log = Truth(FEW).log()
    assert Truth(FEW).log().digest == log.digest
    assert Truth(FEW.model_copy(update={"seed": 1})).log().digest != log.digest
    assert Truth(FEW.model_copy(update={"click_rate": 0.16})).log().digest != log.digest


def test_the_seed_reaches_users_recommender_and_draws() -> None:
    parameters = [Truth(FEW.model_copy(update={"seed": seed})) for seed in (0, 1)]
    weights = [truth.world.users.behaviour.item_vector for truth in parameters]
    ideas = [truth.logging_policy.idea for truth in parameters]
    assert not torch.equal(*weights) and not torch.equal(*ideas)
    blind = {"recommender_sharpness": 0.0, "recommender_memory": 0.0, "recommender_variety": 0.0}
    logs = [Truth(FEW.model_copy(update=blind | {"seed": seed})).log() for seed in (0, 1)]
    assert not np.array_equal(*(log.items[log.offsets[:-1]] for log in logs))  # uniform slates: only draws differ


def test_the_recommenders_idea_is_as_right_and_as_sharp_as_set() -> None:
    items = 4000
    settings = Settings(items=items, recommender_knowledge=0.6, recommender_sharpness=0.8)
    truth = Truth(settings)
    idea, appeal = truth.logging_policy.idea.numpy(), truth.world.users.behaviour.item_appeal.numpy()
    # False alarm 1e-6: correlations vary by (1 - .6²) / sqrt(n), standard deviations by .8 / sqrt(2 n).
    assert abs(np.corrcoef(idea, appeal)[0, 1] - 0.6) < 4.9 * 0.64 / np.sqrt(items)
    assert abs(idea.std() - 0.8) < 4.9 * 0.8 / np.sqrt(2 * items)


def test_more_sessions_only_add_sessions() -> None:
    log, longer = Truth(FEW).log(), Truth(FEW.model_copy(update={"sessions": 350})).log()
    assert longer.sessions == 350
    first = longer.select(np.arange(300))
    assert np.array_equal(first.items, log.items) and np.array_equal(first.reward, log.reward)


def test_the_log_has_all_that_a_log_can_say(tmp_path: Path) -> None:
    log = Truth(FEW).log()
    assert log.sessions == 300 and log.catalogue == FEW.items and log.slate_size == FEW.slate_size
    assert log.lengths.max() <= FEW.horizon and log.terminated is not None and 0 < log.terminated.sum() < 300
    assert ((log.propensity > 0) & (log.propensity < 1)).all()
    assert all(len(set(slate)) == FEW.slate_size for slate in log.items.tolist())
    assert read_log(log.save(tmp_path / "log")) == log


def test_propensities_are_exact() -> None:
    """Recomputed from the log alone: every slate given the steps that the log says came before it."""
    truth = Truth(FEW)
    log = truth.log()
    batch = log.batch()
    scored = log_prob_of_sessions(truth.logging_policy, batch).exp()[batch.happened]
    np.testing.assert_allclose(log.propensity, scored, rtol=1e-5)


def test_propensities_are_frequencies() -> None:
    """At the first step all histories are alike: slates come up as often as their propensities say."""
    truth = Truth(FEW)
    log = sessions_of(truth, 6000)
    first = log.offsets[:-1]
    slates, propensity = log.items[first], log.propensity[first].astype(float)
    assert_mean(1 / propensity.prod(1), FEW.items * (FEW.items - 1))  # each of the 56 slates counts once
    for item in range(FEW.items):
        assert_mean((slates[:, 0] == item) / propensity[:, 0], 1.0)


def test_the_recommender_remembers_clicks_and_avoids_repeats() -> None:
    directions = torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0]])
    recommender = Recommender(torch.tensor([0.1, 0.2, 0.3]), directions, memory=2.0, variety=0.5)
    truth = Truth(FEW)
    history = truth.world.rollout(truth.logging_policy, torch.arange(1), Streams(0)).prefix(0)
    logits = [recommender.logits(history)[0]]
    for item, click in ((0, 1.0), (2, 0.0)):
        slate = torch.tensor([[item, -1]])
        history = history.append(slate, torch.tensor([[click, 0.0]]), torch.ones(1, 2))
        logits.append(recommender.logits(history)[0])
    alike = directions @ directions.T
    torch.testing.assert_close(logits[0], recommender.idea)
    torch.testing.assert_close(logits[1], recommender.idea + (2.0 - 0.5) * alike[0])
    torch.testing.assert_close(logits[2], recommender.idea + 0.7 * (2.0 - 0.5) * alike[0] - 0.5 * alike[2])
    slate = torch.tensor([[2, 0]])
    torch.testing.assert_close(
        recommender.log_prob(history, slate), plackett_luce_log_prob(recommender.logits(history), slate)
    )


def first_click_rate(users: UserModel, slate_size: int) -> float:
    """Clicks per item of users who have just come, over all types and all slates, enumerated."""
    behaviour = users.behaviour
    slates = torch.tensor(list(itertools.permutations(range(behaviour.layout.catalogue), slate_size)))
    catalogue: Catalogue = behaviour.catalogue({})
    rates = []
    for kind in range(behaviour.layout.types):
        traits = behaviour.traits(torch.full((len(slates),), kind), {})
        probs = behaviour.clicks(catalogue, traits, behaviour.mood_at_start(traits), slates, {}).probs
        rates.append(float(probs.double().mean()))
    return float(np.mean(rates))


@pytest.mark.parametrize("seed", range(4))
def test_the_click_rate_is_near_the_setting(seed: int) -> None:
    """Sparse clicks hardly compete within a slate: per item, the rate is the wanted one but for a few parts in 100."""
    settings = Settings(seed=seed, items=12, slate_size=2, click_rate=0.01, sessions=10)
    rate = first_click_rate(Truth(settings).world.users, 2)
    assert 0.95 * 0.01 < rate < 0.01


def test_users_click_at_first_as_enumerated() -> None:
    truth = Truth(FEW)
    policy = Recommender(torch.zeros(FEW.items), torch.zeros(FEW.items, 2), 0.0, 0.0)
    log = sessions_of(truth, 5000, policy=policy)
    assert_mean(log.reward[log.offsets[:-1]].mean(1), first_click_rate(truth.world.users, FEW.slate_size))


def test_a_better_informed_recommender_gets_more_clicks() -> None:
    clicks = []
    for knowledge in (0.0, 1.0):
        plain = {"appeal_spread": 1.5, "interest_spread": 0.2, "recommender_memory": 0.0, "recommender_sharpness": 2.0}
        truth = Truth(FEW.model_copy(update=plain | {"recommender_knowledge": knowledge}))
        log = sessions_of(truth, 1500)
        clicks.append(np.add.reduceat(log.reward.sum(1), log.offsets[:-1]))
    gained = clicks[1].mean() - clicks[0].mean()
    assert gained > 4.9 * np.sqrt(sum(values.var() / len(values) for values in clicks))  # false alarm 1e-6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("itms = 3", ["itms", "Extra inputs", "items"]),
        ("sessions = 0", ["sessions = 0", "greater than or equal to 1"]),
        ('seed = "often"', ["seed = 'often'", "integer"]),
        ("click_rate = 1.0", ["click_rate = 1.0", "less than 1"]),
        ("fatigue = 0", ["fatigue = 0", "greater than 0"]),
        ("fatigue = 1e6", ["fatigue = 1000000.0", "100"]),
        ("click_gain = nan", ["click_gain = nan", "finite"]),
        ("appeal_spread = inf", ["appeal_spread = inf", "finite"]),
        ("recommender_knowledge = 1.5", ["recommender_knowledge = 1.5", "less than or equal to 1"]),
        ("items = 4\nslate_size = 5", ["slate_size = 5", "there are 4 items"]),
        ("items = 2", ["slate_size = 3", "there are 2 items"]),
        ("sessions =", ["not a TOML file"]),
        ("[world]\nseed = 1", ["world", "Extra inputs"]),
    ],
)
def test_bad_settings_name_the_file_the_key_and_the_value(text: str, words: list[str], tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        load_settings(path)
    assert caught.value.place == str(path)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_settings_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes("# caf\xe9".encode("latin-1"))
    for name, words in (("absent.toml", "no such file"), ("latin.toml", "not a TOML file"), (".", "cannot be read")):
        with pytest.raises(InputError, match=words):
            load_settings(tmp_path / name)


def test_settings_are_read_from_their_file(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("seed = 5\nsessions = 20\nclick_rate = 0.02\n")
    assert load_settings(tmp_path / "settings.toml") == Settings(seed=5, sessions=20, click_rate=0.02)


def test_the_demo_log_is_the_one_its_settings_write() -> None:
    demo = Path(__file__).resolve().parents[2] / "data" / "demo"
    if not (demo / "log").is_dir():
        pytest.skip("the demo log is not here")
    assert read_log(demo / "log").digest == Truth(load_settings(demo / "settings.toml")).log().digest
