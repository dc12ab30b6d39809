"""The causal transformer: what a state may depend on, that rollouts read it like training, and that it is stored."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from logs_for_policies import ITEMS, log_with_all_columns, with_garbage_behind

from recil.errors import InputError
from recil.logs.history import History
from recil.logs.session_log import SessionLog
from recil.policies import transformer
from recil.policies.encoders import Encoder, EncoderConfig
from recil.policies.inputs import ItemTable, initialise
from recil.policies.softmax import SoftmaxPolicy
from recil.policies.storage import load
from recil.policies.transformer import CausalTransformer
from recil.random import Streams
from recil.train.clone import CloneConfig, clone

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def encoder(log=None, **options) -> Encoder:
    config = EncoderConfig("transformer", 6, **options)
    built = Encoder(config.looking_at(log) if log is not None else config, ItemTable(ITEMS, 6, (), ()))
    initialise(built, Streams(0).generator("weights"))
    return built


def session(*slates: list[int]) -> History:
    items = torch.tensor([slates])
    return History(items, torch.zeros(items.shape), torch.tensor([len(slates)]), torch.tensor([0]))


@pytest.mark.parametrize(("blocks", "heads"), [(1, 1), (2, 2), (3, 3)])
def test_later_steps_change_no_earlier_state_and_each_changes_all_later_ones(blocks, heads):
    built = encoder(blocks=blocks, heads=heads)
    before, after = session([1], [2], [3], [4], [5]), session([1], [2], [7], [4], [5])
    with torch.no_grad():
        one, other = built.encode(before)[0], built.encode(after)[0]
    assert torch.equal(one[:3], other[:3])
    assert ((one[3:] - other[3:]).abs().amax(1) > 1e-3).all()


def test_no_gradient_flows_back_from_a_state_to_a_later_step():
    memory = CausalTransformer(5, 8)
    initialise(memory, Streams(1).generator("weights"))
    inputs = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    states, _ = memory.scan(inputs, torch.ones(2, 6, dtype=torch.bool), None)
    (gradient,) = torch.autograd.grad(states[0, 3].sum() + states[0, 3].square().sum(), inputs)
    assert (gradient[0, :3].abs().sum(1) > 0).all()
    assert (gradient[0, 3:] == 0).all()
    assert (gradient[1] == 0).all(), "nor to another session"


@torch.no_grad()
def test_the_order_of_steps_matters_and_the_start_is_a_state_of_its_own():
    built = encoder()
    one, other = built.last(session([1], [2], [3])), built.last(session([2], [1], [3]))
    assert (one - other).abs().max() > 1e-3
    assert built.encode(session([1]))[0, 0].abs().max() > 0.1


@torch.no_grad()
def test_padding_gaps_and_company_change_no_state():
    log = log_with_all_columns()
    built, history = encoder(log), log.batch()
    states = built.encode(history)
    torch.testing.assert_close(built.encode(with_garbage_behind(history, 3))[:, : history.steps + 1], states, **CLOSE)
    for row in (0, 7, 23):
        alone = history.take(torch.tensor([row])).prefix(int(history.length[row]))
        torch.testing.assert_close(built.encode(alone)[0], states[row, : alone.steps + 1], **CLOSE)
    plain = encoder()
    gap = plain.encode(session([1, 2], [-1, -1], [3, 4]))[0]
    assert torch.equal(gap[2], gap[1])
    torch.testing.assert_close(gap[3], plain.encode(session([1, 2], [3, 4]))[0, 2], **CLOSE)


@torch.no_grad()
def test_states_before_each_step_are_those_of_the_prefixes():
    log = log_with_all_columns()
    built, history = encoder(log), log.batch()
    states = built.encode(history)
    for step in range(history.steps):
        alive = history.length >= step
        torch.testing.assert_close(states[alive, step], built.last(history.prefix(step))[alive], **CLOSE)


@torch.no_grad()
def test_a_rollout_reads_only_the_new_step_and_says_the_same(monkeypatch):
    """Some sessions end on the way: what is carried along equals reading all from the start."""
    built, lengths = encoder(), []
    scan = CausalTransformer.scan

    def counted(self, inputs, took_place, carry):
        lengths.append(inputs.shape[1])
        return scan(self, inputs, took_place, carry)

    history = History.start(torch.arange(12), 2)
    draw = torch.Generator().manual_seed(3)
    for step in range(6):
        monkeypatch.setattr(CausalTransformer, "scan", counted)
        carried = built.last(history)
        monkeypatch.setattr(CausalTransformer, "scan", scan)
        torch.testing.assert_close(carried, built.last(history.take(torch.arange(12))), **CLOSE)
        items = torch.stack([torch.randperm(ITEMS, generator=draw)[:2] for _ in range(12)])
        absent = torch.arange(12)[:, None] < 2 * step
        history = history.append(torch.where(absent, -1, items), torch.zeros(12, 2))
    assert lengths == [0, 1, 1, 1, 1, 1]
    for _ in range(2):
        items = torch.where(torch.arange(12)[:, None] < 10, -1, items)
        history = history.append(items, torch.zeros(12, 2))
    # The last two steps and the one before them, which nobody has asked about yet, at once.
    torch.testing.assert_close(built.last(history), built.last(history.take(torch.arange(12))), **CLOSE)


@torch.no_grad()
def test_the_masked_and_the_plain_way_are_the_same(monkeypatch):
    log = log_with_all_columns()
    built, history = encoder(log), log.batch()
    plain = built.encode(history)
    place = torch.arange(history.steps + 1)

    def always(counts, old):
        assert old == 0
        return ((place <= place[:, None]) & counts[:, None] | (place == place[:, None]))[:, None]

    monkeypatch.setattr(transformer, "_mask", always)
    torch.testing.assert_close(built.encode(history), plain, **CLOSE)


def test_its_shape_is_stored(tmp_path):
    log = log_with_all_columns()
    policy = SoftmaxPolicy.for_log(log, EncoderConfig("transformer", 9, blocks=1, heads=3))
    policy.save(tmp_path / "policy")
    loaded = load(tmp_path / "policy")
    assert (loaded.config.encoder.blocks, loaded.config.encoder.heads) == (1, 3)
    with torch.no_grad():
        assert torch.equal(loaded.encode(log.batch()), policy.encode(log.batch()))


def log_by_the_last_but_one(sessions: int, seed: int) -> SessionLog:
    """The next item follows from the one before the last: what the last item alone says nothing about."""
    draw = np.random.default_rng(seed)
    items = draw.integers(0, 8, (sessions, 8))
    for step in range(2, 8):
        certain = draw.random(sessions) < 0.9
        items[certain, step] = (items[certain, step - 2] + 3) % 8
    flat = items.reshape(-1, 1).astype(np.int32)
    return SessionLog(
        np.arange(8), flat, np.zeros(flat.shape, np.float32), np.arange(0, 8 * sessions + 1, 8), np.arange(sessions)
    )


def test_cloning_with_it_finds_a_rule_about_the_item_before_the_last():
    log, fresh = log_by_the_last_but_one(600, 1), log_by_the_last_but_one(200, 2)
    policy = clone(log, CloneConfig("transformer", 16, epochs=12, batch=64, learning_rate=3e-3))
    history = fresh.batch()
    with torch.no_grad():
        loss = -policy.log_prob_of_sessions(history)[:, 2:].mean()
    best = -(0.9 + 0.1 / 8) * np.log(0.9 + 0.1 / 8) - 0.0875 * np.log(0.1 / 8)
    assert float(loss) < best + 0.15
    assert best < 0.5 < np.log(8)


def test_bad_shapes_are_refused_by_name():
    with pytest.raises(InputError, match="encoder heads: 4 heads in a width of 6"):
        EncoderConfig("transformer", 6, heads=4)
    with pytest.raises(InputError, match="encoder: 0 blocks"):
        EncoderConfig("transformer", 6, blocks=0)
    assert replace(EncoderConfig("gru", 7), width=9).heads == 2, "only a transformer has heads to divide by"


def test_building_one_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder()
    assert torch.equal(torch.get_rng_state(), before)
