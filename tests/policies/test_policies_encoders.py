"""Encoders: what a state holds, and that neither padding nor the way it was computed changes it."""

from dataclasses import replace

import pytest
import torch
from logs_for_policies import ITEMS, log_with_all_columns, with_garbage_behind

from recil.errors import InputError
from recil.logs.history import History
from recil.policies.encoders import Encoder, EncoderConfig
from recil.policies.inputs import Feature, ItemTable, features_of, initialise
from recil.random import Streams

KINDS = ["bag", "gru"]


def encoder(kind: str, log=None, seed: int = 0) -> Encoder:
    config = EncoderConfig(kind, 6)
    config = config.looking_at(log) if log is not None else config
    built = Encoder(config, ItemTable(ITEMS, 6, (), ()))
    initialise(built, Streams(seed).generator("weights"))
    return built


def session(*slates: list[int], reward: list[list[float]] | None = None, **columns) -> History:
    items = torch.tensor([slates])
    reward = torch.zeros(items.shape) if reward is None else torch.tensor([reward])
    return History(items, reward, torch.tensor([len(slates)]), torch.tensor([0]), **columns)


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.no_grad():
        yield


def test_a_bag_is_the_decayed_mean_of_the_steps_inputs():
    bag = encoder("bag")
    history = session([1, 2], [3, -1], [4, 5], reward=[[0, 1], [0, 0], [1, 0]])
    table, mix, decay = bag.items(), bag.memory.mix.weight, bag.memory.decay.sigmoid()
    inputs = torch.stack(
        [
            torch.cat([(table[1] + table[2]) / 2, table[2] / 2]),
            torch.cat([table[3], torch.zeros(6)]),
            torch.cat([(table[4] + table[5]) / 2, table[4] / 2]),
        ]
    )
    vectors = inputs @ mix.T
    states = bag.encode(history)[0]
    assert (states[0] == 0).all()
    for steps in (1, 2, 3):
        weight = decay ** torch.arange(steps - 1, -1, -1)[:, None]
        torch.testing.assert_close(states[steps], (weight * vectors[:steps]).sum(0) / weight.sum(0))


@pytest.mark.parametrize("kind", KINDS)
def test_states_before_each_step_are_those_of_the_prefixes(kind):
    log = log_with_all_columns()
    built, history = encoder(kind, log), log.batch()
    states = built.encode(history)
    assert states.shape == (log.sessions, history.steps + 1, 6)
    for step in range(history.steps):
        prefix = built.last(history.prefix(step))
        alive = history.length >= step
        torch.testing.assert_close(states[alive, step], prefix[alive])


@pytest.mark.parametrize("kind", KINDS)
def test_padding_never_changes_a_state(kind):
    log = log_with_all_columns()
    built, history = encoder(kind, log), log.batch()
    states, padded = built.encode(history), built.encode(with_garbage_behind(history, 3))
    torch.testing.assert_close(padded[:, : history.steps + 1], states)
    # From its length on, a session's state stays what it is after its last step.
    for row, length in enumerate(history.length.tolist()):
        assert (padded[row, length:] == padded[row, length]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_without_an_item_leaves_the_state_as_it_was(kind):
    built = encoder(kind)
    gap = built.encode(session([1, 2], [-1, -1], [3, 4]))[0]
    torch.testing.assert_close(gap[2], gap[1])
    torch.testing.assert_close(gap[3], built.encode(session([1, 2], [3, 4]))[0, 2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_slate_is_a_bag_with_its_rewards_apart(kind):
    built = encoder(kind)
    state = built.last(session([1, 2], reward=[[1.0, 0.0]]))
    torch.testing.assert_close(built.last(session([2, 1], reward=[[0.0, 1.0]])), state)
    assert not torch.allclose(built.last(session([1, 2], reward=[[0.0, 1.0]])), state, atol=1e-3)
    assert not torch.allclose(built.last(session([1, 2])), state, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("part", "name", "first_changed"),
    [("feedback", "answer", 2), ("feedback", "seconds", 2), ("context", "context_tab", 1), ("user", "user_kind", 0)],
)
def test_each_column_speaks_from_the_step_where_it_is_known(kind, part, name, first_changed):
    log = log_with_all_columns()
    built = encoder(kind, log)
    history = log.batch(torch.nonzero(torch.from_numpy(log.lengths) == log.lengths.max())[:1, 0].numpy())
    values = getattr(history, part)[name].clone()
    place = (0,) if part == "user" else (0, 1)
    values[place] = (values[place] + 1) % 2 if not values.is_floating_point() else values[place] + 50
    changed = replace(history, **{part: getattr(history, part) | {name: values}})
    moved = (built.encode(changed) - built.encode(history)).abs().amax(2)[0] > 1e-4
    assert not moved[:first_changed].any()
    assert moved[first_changed]
    if part == "context":
        assert not moved[2:].any(), "a context conditions its own step only"


@pytest.mark.parametrize("kind", KINDS)
def test_the_coming_steps_context_is_used_where_it_is_known(kind):
    log = log_with_all_columns()
    built = encoder(kind, log)
    known = session([1, 2], context={"context_tab": torch.tensor([[0, 1]])})
    other = session([1, 2], context={"context_tab": torch.tensor([[0, 2]])})
    unknown = session([1, 2], context={"context_tab": torch.tensor([[0]])})
    missing = session([1, 2], context={"context_tab": torch.tensor([[0, -1]])})
    assert not torch.allclose(built.last(known), built.last(other), atol=1e-3)
    assert torch.equal(built.last(unknown), built.last(missing))


def test_a_column_that_is_not_there_counts_as_missing_and_numbers_as_their_mean():
    log = log_with_all_columns()
    built = encoder("bag", log)
    mean = built.config.user[0].mean
    assert built.config.user[0].name == "user_age"
    given = {"user_kind": torch.tensor([-1]), "user_age": torch.tensor([mean])}
    torch.testing.assert_close(built.last(session([1, 2], user=given)), built.last(session([1, 2])))


def test_the_same_item_answered_differently_is_more_than_its_answer():
    """A gate, so that what an answer means depends on the item: not a sum of an item's part and an answer's."""
    log = log_with_all_columns()
    built = encoder("bag", log)

    def state(item: int, answer: int) -> torch.Tensor:
        return built.last(session([item], feedback={"answer": torch.tensor([[[answer]]])}))

    assert not torch.allclose(state(1, 0) - state(1, 1), state(2, 0) - state(2, 1), atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rollout_reads_each_step_once(kind, monkeypatch):
    built = encoder(kind)
    read = []
    scan = type(built.memory).scan

    def watched(memory, inputs, took_place, carry):
        read.append(inputs.shape[1])
        return scan(memory, inputs, took_place, carry)

    monkeypatch.setattr(type(built.memory), "scan", watched)
    history = History.start(torch.arange(4), 2)
    for step in range(5):
        state = built.last(history)
        torch.testing.assert_close(state, built.encode(history)[:, -1])
        items = torch.tensor([[step, step + 1]] * 3 + [[-1, -1] if step > 2 else [7, 8]])
        history = history.append(items, torch.ones(4, 2) * (items >= 0))
    assert read[::2] == [0, 1, 1, 1, 1]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_computed_before_the_weights_changed_is_not_used(kind):
    built = encoder(kind)
    history = session([1, 2], [3, 4])
    before = built.last(history)
    assert torch.equal(built.last(history), before)
    built.items.own.weight.mul_(2.0)
    after = built.last(history)
    torch.testing.assert_close(after, built.encode(history)[:, -1])
    assert not torch.allclose(after, before)


def test_nothing_is_kept_while_gradients_are_on():
    built, history = encoder("bag"), session([1, 2])
    with torch.enable_grad():
        assert built.last(history).requires_grad
    assert history.memo == {}


def test_building_draws_nothing_from_the_global_generator_and_obeys_its_seed():
    before = torch.get_rng_state()
    one, same, other = encoder("gru"), encoder("gru"), encoder("gru", seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(one.items.own.weight, other.items.own.weight)
    assert all(weight.isfinite().all() and weight.abs().max() < 10 for weight in one.parameters())


def test_item_features_are_added_as_the_mean_over_a_set():
    tags = torch.tensor([[0, 1], [1, -1], [-1, -1]])
    table = ItemTable(3, 4, (Feature("item_tags", 2),), (tags,))
    initialise(table, Streams(0).generator("weights"))
    vectors, own = next(iter(table.features)).vectors.weight, table.own.weight
    expected = torch.stack([own[0] + (vectors[1] + vectors[2]) / 2, own[1] + vectors[2], own[2]])
    torch.testing.assert_close(table(), expected)


def test_features_come_from_the_columns():
    log = log_with_all_columns()
    answer, seconds = features_of(log.feedback)
    assert (answer.name, answer.categories) == ("answer", 4)
    values = log.feedback["seconds"].values.astype("float64")
    assert (seconds.categories, seconds.mean, seconds.scale) == (None, values.mean(), values.std())


def test_bad_input_names_its_place():
    log = log_with_all_columns()
    with pytest.raises(InputError, match="column answer: code 9 where the policy knows 4 categories"):
        encoder("bag", log).last(session([1], feedback={"answer": torch.tensor([[[9]]])}))
    with pytest.raises(InputError, match="encoder kind: 'lstm' is unknown -> choose one of bag, gru"):
        EncoderConfig("lstm")
    with pytest.raises(InputError, match="encoder width"):
        EncoderConfig(width=0)
