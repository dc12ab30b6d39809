"""What all state models keep to: fields, shapes, addressed draws, tracing, precision and devices."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from recsim_ng.core.network import Network
from recsim_ng.core.value import Value
from recsim_ng.core.variable import Variable, value
from torch import Tensor
from torch.distributions import Distribution
from torch.fx.experimental.proxy_tensor import make_fx

from recil.random import Streams
from recil.sim.draws import draw, precision_of, uniforms_needed
from recil.sim.fields import RandomField
from recil.sim.resolvers import Drawn
from recil.sim.runtime import TorchRuntime
from recil.sim.spaces import Integers
from recil.sim.states import (
    GRU,
    ControlledLinearGaussian,
    DiagonalNoise,
    FiniteHistory,
    FiniteStateMarkov,
    FullNoise,
    GaussianMixture,
    HierarchicalStaticTensor,
    LinearGaussian,
    MixtureComponent,
    NoOpOrContinue,
    ResetOrContinue,
    StateModel,
    StaticTensor,
    Switching,
)

MATRIX = torch.tensor([[0.9, -0.2, 0.0], [0.3, 0.5, 0.1], [0.0, 0.2, -0.7]])
ROWS = torch.tensor([[[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]])
TRIANGLE = torch.tensor([[0.5, 0.0, 0.0], [0.2, 0.4, 0.0], [-0.1, 0.3, 0.6]])


def sample(
    distribution: Distribution, sessions: Tensor, step: int = 0, purpose: str = "state", seed: int = 0
) -> Tensor:
    """A draw for the sessions at these addresses."""
    count, dtype = uniforms_needed(distribution), precision_of(distribution)
    return draw(distribution, Streams(seed).uniform(purpose, sessions, step, count, dtype))


def drawn(value: Value, sessions: Tensor, step: int = 0) -> Value:
    """What a runtime makes of a value: a number for each distribution."""
    return Value(
        **{
            name: sample(field, sessions, step, name) if isinstance(field, Distribution) else field
            for name, field in value.as_dict.items()
        }
    )


def mixture(batch: int) -> GaussianMixture:
    return GaussianMixture(batch, torch.tensor([[0.0, 1.0, -0.5]]), ROWS, torch.tensor([[0.5, 1.0, 2.0]]))


def chain(batch: int) -> FiniteStateMarkov:
    logits = torch.linspace(-1, 1, 18).reshape(1, 2, 3, 3).sin() * 2
    return FiniteStateMarkov(batch, logits, torch.tensor([[0.0, 0.5, -0.5]]))


def steered(batch: int) -> ControlledLinearGaussian:
    noise = DiagonalNoise(torch.tensor([[0.1, 0.2, 0.3]]))
    return ControlledLinearGaussian.from_matrices(batch, MATRIX, MATRIX[:, :2], noise)


MODELS: dict[str, Callable[[int], StateModel]] = {
    "row": lambda batch: StaticTensor(batch, ROWS, torch.tensor([[0.0, 1.0, -1.0]])),
    "cluster": lambda batch: HierarchicalStaticTensor(
        batch, ROWS, torch.tensor([[1, 0, 1]]), torch.tensor([[0.0, 1.0]])
    ),
    "mixture": mixture,
    "component": lambda batch: MixtureComponent(mixture(batch)),
    "certain steps": lambda batch: LinearGaussian.from_matrix(batch, MATRIX),
    "full noise": lambda batch: LinearGaussian.from_matrix(batch, MATRIX, FullNoise(TRIANGLE), FullNoise(TRIANGLE)),
    "control": steered,
    "scales": lambda batch: LinearGaussian.scaled(batch, 3, 0.9, 0.1, 2.0),
    "chain": chain,
    "gru": lambda batch: GRU(batch, 2, 4),
    "history": lambda batch: FiniteHistory(batch, 3, Integers(9, (2,), -1), torch.int64, -1),
    "switching": lambda batch: Switching(steered(batch), LinearGaussian.from_matrix(batch, MATRIX)),
    "reset": lambda batch: ResetOrContinue(mixture(batch)),
    "reset of no-op": lambda batch: ResetOrContinue(NoOpOrContinue(chain(batch))),
    "no-op, computed": lambda batch: NoOpOrContinue(GRU(batch, 2, 4)),
    "no-op, certain": lambda batch: NoOpOrContinue(LinearGaussian.from_matrix(batch, MATRIX)),
}


def inputs_of(name: str, batch: int, shift: int = 0) -> Value:
    """Inputs that differ between sessions: whole numbers for chains and histories, vectors for the others."""
    number = torch.arange(shift, batch + shift)
    vectors = torch.stack([number.sin(), number.cos()], -1)
    fitting = {"chain": number % 2, "reset of no-op": number % 2, "history": number[:, None].expand(-1, 2) % 7}
    return Value(input=fitting.get(name, vectors), condition=number % 2 == 1)


def in_space(model: StateModel, value: Value) -> bool:
    """Whether each field has its spec's fields, shapes and values."""
    specs = model.specs().as_dict
    return value.as_dict.keys() == specs.keys() and all(
        value.get(name).shape[1:] == spec.space.shape and spec.space.problem_of(value.get(name).detach()) is None
        for name, spec in specs.items()
    )


@pytest.mark.parametrize("name", MODELS)
def test_fields_are_those_of_the_specs_at_every_step(name: str) -> None:
    model, sessions = MODELS[name](3), torch.arange(3)
    random = {field for field, spec in model.specs().as_dict.items() if isinstance(spec, RandomField)}
    value = model.initial_state()
    for step in range(3):
        assert {field for field, held in value.as_dict.items() if isinstance(held, Distribution)} == random
        old = drawn(value, sessions, step)
        assert in_space(model, old)
        for field in random:
            score = value.get(field).log_prob(old.get(field))
            assert score.shape == value.get(field).batch_shape == (3,)
            assert bool(score.isfinite().all())
        value = model.next_state(old, inputs_of(name, 3, step))


@pytest.mark.parametrize("name", MODELS)
def test_specs_are_fresh_each_time(name: str) -> None:
    model = MODELS[name](3)
    first, second = model.specs().as_dict, model.specs().as_dict
    assert all(first[field] is not second[field] for field in first)


@pytest.mark.parametrize("name", MODELS)
def test_a_sessions_path_depends_on_its_address_alone(name: str) -> None:
    def path(rows: list[int]) -> dict[str, Tensor]:
        model, sessions = MODELS[name](len(rows)), torch.tensor(rows) + 40
        old = drawn(model.initial_state(), sessions)
        for step in range(1, 4):
            inputs = inputs_of(name, 3, step).map(lambda values: values[rows])
            old = drawn(model.next_state(old, inputs), sessions, step)
        return old.as_dict

    whole, part = path([0, 1, 2]), path([2, 0])
    for field, values in whole.items():
        torch.testing.assert_close(part[field], values[[2, 0]], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_no_generator_of_the_process_is_touched(name: str) -> None:
    before = torch.get_rng_state()
    model = MODELS[name](3)
    model.next_state(drawn(model.initial_state(), torch.arange(3)), inputs_of(name, 3))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", MODELS)
def test_a_traced_step_serves_other_values(name: str) -> None:
    model = MODELS[name](3)

    def step(old: dict[str, Tensor], inputs: dict[str, Tensor], sessions: Tensor) -> list[Tensor]:
        value = model.next_state(Value(**old), Value(**inputs))
        after = drawn(value, sessions)
        random = [field for field, held in value.as_dict.items() if isinstance(held, Distribution)]
        return [*after.as_dict.values(), *(value.get(field).log_prob(after.get(field)) for field in random)]

    def arguments(shift: int) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        sessions = torch.arange(shift, shift + 3)
        old = model.next_state(drawn(model.initial_state(), sessions), inputs_of(name, 3, shift))
        return drawn(old, sessions).as_dict, inputs_of(name, 3, shift + 1).as_dict, sessions

    traced = make_fx(step)(*arguments(0))
    for new, wanted in zip(traced(*arguments(5)), step(*arguments(5)), strict=True):
        torch.testing.assert_close(new, wanted)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_moves_to_another_precision(name: str) -> None:
    model, sessions = MODELS[name](3).double(), torch.arange(3)
    inputs = inputs_of(name, 3).map(lambda values: values.double() if values.is_floating_point() else values)
    for field in drawn(model.next_state(drawn(model.initial_state(), sessions), inputs), sessions).as_dict.values():
        assert field.dtype in (torch.float64, torch.int64)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_moves_to_another_device(name: str) -> None:
    """The meta device refuses to mix with the processor's, like any other device."""
    model = MODELS[name](3).to("meta")
    value, inputs = model.initial_state(), inputs_of(name, 3).map(lambda values: values.to("meta"))
    for _ in range(2):
        fields = {}
        for field, held in value.as_dict.items():
            if isinstance(held, Distribution):
                uniforms = torch.empty(3, uniforms_needed(held), device="meta")
                fields[field] = draw(held, uniforms)
                assert held.log_prob(fields[field]).device.type == "meta"
            else:
                fields[field] = held
            assert fields[field].device.type == "meta"
        value = model.next_state(Value(**fields), inputs)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_a_network_draws_and_scores_what_the_model_says(name: str) -> None:
    model, sessions, inputs = MODELS[name](3), torch.arange(3), inputs_of(name, 3)
    variable = Variable("me", model.specs())
    variable.initial_value = value(model.initial_state)
    variable.value = value(lambda old: model.next_state(old, inputs), (variable.previous,))
    runtime = TorchRuntime(Network([variable]), Drawn(Streams(0), sessions))
    path, now, score, observed = runtime.trajectory(4)["me"], model.initial_state(), torch.zeros(3), {}
    for step in range(4):
        old = Value(**{field: path.get(field)[step] for field in path.as_dict})
        for field, held in now.as_dict.items():
            wanted = held
            if isinstance(held, Distribution):
                wanted, observed[f"me.{field}"] = sample(held, sessions, step, f"me.{field}"), path.get(field)
                score = score + held.log_prob(wanted)
            torch.testing.assert_close(old.get(field), wanted)
        now = model.next_state(old, inputs)
    if observed:
        torch.testing.assert_close(runtime.log_prob(observed, 4).total, score)


def test_parameters_can_be_learned_and_constants_not() -> None:
    logits, means = torch.nn.Parameter(torch.zeros(1, 3)), torch.nn.Parameter(ROWS.clone())
    model = ResetOrContinue(GaussianMixture(4, logits, means, 0.7))
    assert {id(parameter) for parameter in model.parameters()} == {id(logits), id(means)}
    assert {name.split(".")[-1] for name, _ in model.named_buffers()} == {"like", "scales"}
    model.initial_state().get("state").log_prob(torch.ones(4, 2)).sum().backward()
    assert bool(logits.grad.abs().sum() > 0) and bool(means.grad.abs().sum() > 0)


def test_new_values_take_the_precision_of_what_a_model_was_given() -> None:
    for model in (
        LinearGaussian.from_matrix(2, MATRIX.double()),
        ControlledLinearGaussian.scaled(2, 3, control=torch.ones(2, dtype=torch.float64)),
        GRU(2, 1, 4, torch.zeros(1, 4, dtype=torch.float64)),
    ):
        inputs = Value(input=torch.ones(2, 1 if isinstance(model, GRU) else 3, dtype=torch.float64))
        start = drawn(model.initial_state(), torch.arange(2))
        after = drawn(model.next_state(start, inputs), torch.arange(2))
        assert start.get("state").dtype == after.get("state").dtype == torch.float64


def test_a_single_number_of_another_precision_leaves_the_state_as_it_is() -> None:
    exact = torch.tensor(0.5, dtype=torch.float64)
    linear = LinearGaussian.scaled(2, 3, exact, exact, exact)
    start = drawn(linear.initial_state(), torch.arange(2))
    after = drawn(linear.next_state(start), torch.arange(2))
    assert start.get("state").dtype == after.get("state").dtype == torch.float32
    gaussian = GaussianMixture(2, torch.zeros(1, 3), ROWS, exact)
    assert drawn(gaussian.initial_state(), torch.arange(2)).get("state").dtype == torch.float32
