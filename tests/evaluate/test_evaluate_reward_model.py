import numpy as np
import pytest
import torch
from logs_of_worlds import case

from recil.evaluate import simulate
from recil.evaluate.pass_over import target_slates
from recil.evaluate.reward_model import fit_out_of_fold, shrunken_effects
from recil.logs.session_log import PAD, SessionLog
from recil.random import Streams


def one_step_log(items, reward):
    rows = len(items)
    return SessionLog(
        item_ids=np.arange(int(items.max()) + 1),
        items=items.astype(np.int32),
        reward=reward.astype(np.float32),
        offsets=np.arange(rows + 1),
        session_ids=np.arange(rows),
    )


def test_deterministic_rewards_are_learned_exactly():
    draw = np.random.default_rng(0)
    items = draw.integers(0, 6, (300, 1))
    log = one_step_log(items, items / 4.0)
    fold = np.arange(300) % 3
    model = fit_out_of_fold(log, fold, 3, 1.0)
    history = log.batch()
    value = model.value(history.items, history.happened, torch.from_numpy(fold))
    np.testing.assert_allclose(value[:, 0], items[:, 0] / 4.0, atol=1e-12)


def test_a_fold_is_not_seen_by_its_own_model():
    draw = np.random.default_rng(0)
    items, reward = draw.integers(0, 4, (200, 2)), draw.random((200, 2))
    fold = np.arange(200) % 2
    spoiled = np.where((fold == 0)[:, None], 1000.0, reward)
    clean, other = (fit_out_of_fold(one_step_log(items, paid), fold, 2, 1.0) for paid in (reward, spoiled))
    torch.testing.assert_close(clean.item[0], other.item[0])
    torch.testing.assert_close(clean.position[0], other.position[0])
    assert not torch.allclose(clean.position[1], other.position[1])


@pytest.mark.parametrize("gamma", [1.0, 0.5, 0.0])
def test_what_lies_ahead_is_the_mean_later_reward(gamma):
    log = case(sessions=200).log
    model = fit_out_of_fold(log, np.ones(log.sessions, dtype=int), 1, gamma)
    history = log.batch()
    reward = history.reward.double().sum(-1)
    for step in range(history.steps):
        reached = history.length > step
        later = sum(gamma**k * reward[reached, step + k] for k in range(1, history.steps - step))
        wanted = float(torch.as_tensor(later, dtype=torch.float64).mean()) if step + 1 < history.steps else 0.0
        assert float(model.ahead[0, step]) == pytest.approx(wanted, abs=1e-12)


def test_effects_are_shrunken_by_their_noise():
    draw = np.random.default_rng(1)
    group = np.repeat(np.arange(40), 50)
    noise = draw.normal(size=2000)
    assert np.abs(shrunken_effects(noise, group, 41)).max() < 0.1
    effect = draw.normal(size=40)
    found = shrunken_effects(effect[group] + 0.1 * noise, group, 41)
    np.testing.assert_allclose(found[:40], effect, atol=0.08)
    assert found[40] == 0.0
    assert not shrunken_effects(np.zeros(0), np.zeros(0, dtype=int), 3).any()


def test_padding_has_no_value():
    model = fit_out_of_fold(case(sessions=100).log, np.zeros(100, dtype=int), 2, 1.0)
    items = torch.tensor([[[0, PAD], [PAD, PAD], [PAD, PAD]]])
    happened = torch.tensor([[True, False, False]])
    value = model.value(items, happened, torch.ones(1, dtype=torch.int64))
    assert value[0, 1:].tolist() == [0.0, 0.0]
    wanted = model.item[1, 0] + model.position[1, 0] + model.step[1, 0] + model.ahead[1, 0]
    assert float(value[0, 0]) == pytest.approx(float(wanted))


def test_target_slates_are_drawn_afresh():
    """With the log's own policy and streams they agree with the logged slates no more often than chance."""
    small = case(sessions=2000, items=4, slate=1, horizon=2, strength=0.0)
    log = simulate(small.behaviour, small.world, 2000, seed=5)
    own = target_slates(small.behaviour, log.batch(), 1, Streams(5).child("policy"))
    shown = log.batch().shown
    agree = (own[0] == log.batch().items)[shown].double()
    assert float(agree.mean()) == pytest.approx(0.25, abs=5 * (0.25 * 0.75 / len(agree)) ** 0.5)
    assert (own[0][~shown] == PAD).all()


def test_target_slates_are_as_full_as_the_logged_ones():
    small = case(sessions=10)
    batch = small.log.batch()
    batch.items[:, :, 0] = PAD
    own = target_slates(small.target, batch, 3, Streams(0))
    assert own.shape == (3, *batch.items.shape)
    assert ((own >= 0) == batch.shown).all()
