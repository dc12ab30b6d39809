"""Models made of models: who steps by which, and that the likelihood knows it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from recsim_ng.core.value import Value, ValueSpec
from scipy import stats
from statistics_helper import assert_mean
from test_sim_states import drawn, sample
from torch import Tensor
from torch.distributions import Categorical, Distribution

from recil.sim.entity import Entity
from recil.sim.fields import Field, RandomField
from recil.sim.spaces import Integers, Reals
from recil.sim.states import (
    FiniteHistory,
    FiniteStateMarkov,
    GaussianMixture,
    LinearGaussian,
    NoOpOrContinue,
    ResetOrContinue,
    StateModel,
    StaticTensor,
    Switching,
    select,
)

MANY = 20_000
GENERATOR = torch.Generator().manual_seed(11)
SHAPE = (4, 3, 2)
NOTE = torch.tensor([True, False, True, False])
FORWARD, BACKWARD = torch.eye(3)[[1, 2, 0]].log()[None, None], torch.eye(3)[[2, 0, 1]].log()[None, None]


class Counter(Entity):
    """Begins at `gain` and grows by gain times the input; beside it a choice that depends on nothing random."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def at(self, count: Tensor) -> Value:
        return Value(count=count, choice=Categorical(logits=count[:, 0] * torch.arange(2.0), validate_args=False))

    def initial_state(self) -> Value:
        return self.at(self.gain * torch.ones(SHAPE))

    def next_state(self, old: Value, inputs: Value | None = None) -> Value:
        assert inputs is not None
        return self.at(old.get("count") + self.gain * inputs.get("input"))

    def specs(self) -> ValueSpec:
        return ValueSpec(count=Field(Reals(SHAPE[1:])), choice=RandomField(Integers(2)))


def cycle(transition: Tensor, start: int, batch: int = 2) -> FiniteStateMarkov:
    return FiniteStateMarkov(batch, transition, torch.eye(3)[[start]].log())


def after(model: StateModel, old: Value, condition: Tensor, **inputs: Tensor) -> Value:
    """Drawn values after a step."""
    return drawn(model.next_state(old, Value(condition=condition, **inputs)), torch.arange(len(condition)))


def states(value: Value) -> list[int]:
    return value.get("state").tolist()


def test_each_session_steps_by_the_model_its_condition_names() -> None:
    model = Switching(Counter(3.0), Counter(5.0))
    start = drawn(model.initial_state(), torch.arange(4))
    assert start.get("count").unique().tolist() == [3]
    grown = after(model, start, NOTE, input=torch.tensor(1.0)).get("count")
    assert grown[NOTE].unique().tolist() == [6] and grown[~NOTE].unique().tolist() == [8]


def test_a_reset_begins_anew_and_the_others_go_on() -> None:
    model = ResetOrContinue(Counter(3.14))
    once = after(
        model, drawn(model.initial_state(), torch.arange(4)), torch.zeros(4, dtype=torch.bool), input=torch.tensor(1.0)
    )
    torch.testing.assert_close(once.get("count"), torch.full(SHAPE, 6.28))
    twice = after(model, once, NOTE, input=torch.tensor(1.0)).get("count")
    torch.testing.assert_close(twice[NOTE], torch.full((2, 3, 2), 3.14))
    torch.testing.assert_close(twice[~NOTE], torch.full((2, 3, 2), 9.42))


def test_a_no_op_keeps_the_state_and_the_others_go_on() -> None:
    model = NoOpOrContinue(Counter(3.14))
    once = after(
        model, drawn(model.initial_state(), torch.arange(4)), torch.zeros(4, dtype=torch.bool), input=torch.tensor(1.0)
    )
    choices = torch.zeros(4, 2, dtype=torch.int64)
    old = Value(count=once.get("count"), choice=choices[:, 0])
    value = model.next_state(old, Value(condition=NOTE, input=torch.tensor(1.0)))
    torch.testing.assert_close(value.get("count")[NOTE], torch.full((2, 3, 2), 6.28))
    torch.testing.assert_close(value.get("count")[~NOTE], torch.full((2, 3, 2), 9.42))


def test_random_and_computed_fields_of_one_model_switch_together() -> None:
    """[B, 2] choices of a counter at 6.28 or 9.42: certain for those who stay, logits for the others."""
    model, choice = NoOpOrContinue(Counter(3.14)), torch.tensor([[0, 1], [1, 0], [1, 1], [0, 0]])
    old = Value(count=torch.full(SHAPE, 6.28), choice=choice[:, 0])
    value = model.next_state(old, Value(condition=NOTE, input=torch.tensor(1.0)))
    scores = [value.get("choice").log_prob(torch.full((4,), number)) for number in range(2)]
    loud = 9.42 - math.log1p(math.exp(9.42))
    quiet = -math.log1p(math.exp(9.42))
    assert scores[0].tolist() == pytest.approx([0, quiet, -math.inf, quiet], abs=1e-6)
    assert scores[1].tolist() == pytest.approx([-math.inf, loud, 0, loud], abs=1e-6)


def test_chains_that_go_round_in_opposite_directions() -> None:
    model = Switching(cycle(FORWARD, 0), cycle(BACKWARD, 2))
    start = drawn(model.initial_state(), torch.arange(2))
    assert states(start) == [0, 0]
    assert states(after(model, start, torch.tensor([True, False]))) == [1, 2]


def test_a_cycle_that_starts_over() -> None:
    model = ResetOrContinue(cycle(FORWARD, 0))
    once = after(model, drawn(model.initial_state(), torch.arange(2)), torch.tensor([False, False]))
    assert states(once) == [1, 1]
    assert states(after(model, once, torch.tensor([True, False]))) == [0, 2]


def test_a_cycle_that_halts() -> None:
    model = NoOpOrContinue(cycle(FORWARD, 0))
    once = after(model, drawn(model.initial_state(), torch.arange(2)), torch.tensor([False, False]))
    assert states(once) == [1, 1]
    assert states(after(model, once, torch.tensor([True, False]))) == [1, 2]


def test_what_is_within_a_model_within_a_model() -> None:
    """Outer condition first: a session that halts does not start over."""
    transition = torch.log(torch.tensor([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8], [0.6, 0.3, 0.1]]))[None, None]
    model = NoOpOrContinue(
        ResetOrContinue(FiniteStateMarkov(2, transition, torch.log(torch.tensor([[0.7, 0.2, 0.1]]))))
    )
    value = model.next_state(Value(state=torch.tensor([1, 1])), Value(condition=torch.tensor([True, False])))
    scores = torch.stack([value.get("state").log_prob(torch.full((2,), state)) for state in range(3)], 1)
    wanted = torch.tensor([[0.0, 1.0, 0.0], [0.1, 0.1, 0.8]])
    torch.testing.assert_close(scores.exp(), wanted)


@pytest.mark.parametrize("kind", [ResetOrContinue, NoOpOrContinue])
def test_the_probabilities_of_all_paths_sum_to_one(kind: type) -> None:
    """Enumerated with the conditions on the way; each path's probability is a product written out by hand."""
    kernel = torch.softmax(torch.randn(1, 1, 3, 3, generator=GENERATOR, dtype=torch.float64), -1)
    first = torch.softmax(torch.randn(1, 3, generator=GENERATOR, dtype=torch.float64), -1)
    model, conditions = (
        kind(FiniteStateMarkov(2, kernel.log(), first.log())),
        torch.tensor([[1, 0], [0, 1], [1, 1]]).bool(),
    )
    total = torch.zeros(2, dtype=torch.float64)
    for path in itertools.product(range(3), repeat=4):
        state = torch.full((2,), path[0])
        chance, wanted = model.initial_state().get("state").log_prob(state).exp(), first[0, path[0]].repeat(2)
        for condition, place in zip(conditions, path[1:], strict=True):
            value = model.next_state(Value(state=state), Value(condition=condition)).get("state")
            other = first[0, place] if kind is ResetOrContinue else (state == place).double()
            wanted = wanted * torch.where(condition, other, kernel[0, 0, state, place])
            state = torch.full((2,), place)
            chance = chance * value.log_prob(state).exp()
        torch.testing.assert_close(chance, wanted)
        total = total + chance
    torch.testing.assert_close(total, torch.ones(2, dtype=torch.float64))


def test_a_vector_is_scored_under_what_its_session_did() -> None:
    gaussian = LinearGaussian.scaled(4, 2, transition=0.5, noise=0.3, initial=2.0)
    old, new = torch.randn(2, 4, 2, generator=GENERATOR)
    moved = stats.norm.logpdf(new.numpy(), 0.5 * old.numpy(), 0.3).sum(-1)
    fresh = stats.norm.logpdf(new.numpy(), 0, 2).sum(-1)
    inputs, chosen = Value(condition=NOTE), NOTE.numpy()
    reset = ResetOrContinue(gaussian).next_state(Value(state=old), inputs).get("state")
    np.testing.assert_allclose(reset.log_prob(new), np.where(chosen, fresh, moved), rtol=1e-5)
    halt = NoOpOrContinue(gaussian).next_state(Value(state=old), inputs).get("state")
    np.testing.assert_allclose(halt.log_prob(new), np.where(chosen, -np.inf, moved), rtol=1e-5)
    kept = torch.where(NOTE[:, None], old, new)
    np.testing.assert_allclose(halt.log_prob(kept), np.where(chosen, 0, moved), rtol=1e-5)
    torch.testing.assert_close(sample(halt, torch.arange(4))[NOTE], old[NOTE], rtol=0, atol=0)


def test_draws_after_resets_follow_the_start_and_the_others_the_step() -> None:
    model = ResetOrContinue(LinearGaussian.scaled(MANY, 1, transition=0.5, noise=0.3, initial=2.0))
    condition = torch.arange(MANY) % 2 == 0
    seen = after(model, Value(state=torch.full((MANY, 1), 4.0)), condition).get("state")[:, 0]
    fresh, moved = seen[condition].double().numpy(), seen[~condition].double().numpy()
    assert_mean(fresh, 0.0)  # false alarm 1e-6 each
    assert_mean(fresh**2, 4.0)
    assert_mean(moved, 2.0)
    assert_mean((moved - 2) ** 2, 0.09)


def test_a_static_state_can_be_drawn_anew() -> None:
    """As when a user who left is replaced by another."""
    model = ResetOrContinue(GaussianMixture(4, torch.zeros(1, 2), torch.tensor([[[5.0], [-5.0]]]), 0.5))
    old = torch.zeros(4, 1)
    fresh = after(model, Value(state=old), NOTE).get("state")
    assert torch.equal(fresh[~NOTE], old[~NOTE]) and bool((fresh[NOTE].abs() > 2).all())


def test_paths_are_differentiable_through_those_who_went_on() -> None:
    old = torch.ones(4, 2, requires_grad=True)
    scale = torch.nn.Parameter(torch.full((1, 2), 0.3))
    model = ResetOrContinue(LinearGaussian.scaled(4, 2, transition=0.5, noise=scale))
    after(model, Value(state=old), NOTE).get("state").sum().backward()
    torch.testing.assert_close(old.grad, torch.where(NOTE[:, None], 0.0, 0.5).expand(4, 2))
    assert bool((scale.grad != 0).all())


def test_an_impossible_branch_leaves_gradients_finite() -> None:
    """The old value has probability 0 under staying; who went on must not hear of it."""
    scale = torch.nn.Parameter(torch.full((1, 2), 0.3))
    model = NoOpOrContinue(LinearGaussian.scaled(4, 2, noise=scale))
    old = torch.ones(4, 2)
    value = model.next_state(Value(state=old), Value(condition=NOTE)).get("state")
    value.log_prob(torch.where(NOTE[:, None], old, old + 0.1)).sum().backward()
    assert bool(scale.grad.isfinite().all()) and bool((scale.grad != 0).all())


def test_a_history_that_skips_what_was_not_observed() -> None:
    model = NoOpOrContinue(FiniteHistory(4, 2, Integers(10, start=-1), torch.int64, -1))
    value = model.initial_state()
    for number in range(2):
        inputs = Value(input=torch.arange(4) + number, condition=NOTE if number == 0 else ~NOTE)
        value = model.next_state(value, inputs)
    assert states(value) == [[-1, 1], [-1, 1], [-1, 3], [-1, 3]]


def test_a_choice_between_values_keeps_their_kind() -> None:
    tensors = select(NOTE, Value(x=torch.ones(SHAPE)), Value(x=torch.zeros(SHAPE))).get("x")
    assert torch.equal(tensors[:, 2, 1], NOTE.float())
    one, two = (Value(a=Value(x=Categorical(logits=torch.zeros(4, 2)))) for _ in range(2))
    assert isinstance(select(NOTE, one, two).get("a.x"), Distribution)


@pytest.mark.parametrize("kind", [lambda model: Switching(model, model), ResetOrContinue, NoOpOrContinue])
def test_a_step_without_condition_is_refused(kind) -> None:
    model = kind(cycle(FORWARD, 0))
    with pytest.raises(
        ValueError, match=rf"{type(model).__name__}.next_state: wanted inputs with the field 'condition'"
    ):
        model.next_state(Value(state=torch.tensor([0, 0])), Value(input=torch.tensor([0, 0])))


@pytest.mark.parametrize(
    "other",
    [
        FiniteStateMarkov(2, torch.zeros(1, 1, 4, 4), torch.zeros(1, 4)),
        FiniteHistory(2, 1),
        StaticTensor(2, torch.zeros(1, 3, 1), torch.zeros(1, 3)),
        Counter(1.0),
    ],
)
def test_models_of_different_fields_are_refused(other: StateModel) -> None:
    with pytest.raises(ValueError, match=r"Switching: models of fields .* wanted the same"):
        Switching(cycle(FORWARD, 0), other)
