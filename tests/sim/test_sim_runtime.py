"""The torch runtime: RecSim NG's own facts about its networks, addressed draws, and what it refuses."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from recsim_ng.core.network import Network
from recsim_ng.core.value import Value, ValueSpec
from recsim_ng.core.variable import Variable, value
from recsim_ng.lib.data import SlicedValue, TimeSteps, data_variable
from scipy import stats
from statistics_helper import assert_mean
from torch.distributions import Bernoulli, Categorical, Gamma, Normal

from recil.random import Streams
from recil.sim.distributions import Certain
from recil.sim.draws import draw, uniforms_needed
from recil.sim.fields import Field, RandomField
from recil.sim.resolvers import Drawn, Observed
from recil.sim.runtime import TorchRuntime


def fibonacci() -> Network:
    pair = Variable("pair", ValueSpec(n0=Field(), n1=Field()))
    pair.initial_value = value(lambda: Value(n0=torch.tensor(0), n1=torch.tensor(1)))
    pair.value = value(
        lambda before: Value(n0=before.get("n1"), n1=before.get("n0") + before.get("n1")), (pair.previous,)
    )
    return Network([pair])


def pair_of(at) -> tuple[int, int]:
    return int(at["pair"].get("n0")), int(at["pair"].get("n1"))


def walk(start: torch.Tensor) -> Network:
    """Begins at `start` for certain, then takes normal steps."""
    place = Variable("place", ValueSpec(x=RandomField()))
    place.initial_value = value(lambda: Value(x=Certain(start)))
    place.value = value(lambda before: Value(x=Normal(before.get("x"), 1.0)), (place.previous,))
    return Network([place])


def one_field(spec, make) -> Network:
    variable = Variable("thing", ValueSpec(x=spec))
    variable.initial_value = value(lambda: Value(x=make()))
    return Network([variable])


def drawn(sessions: int = 3, seed: int = 0) -> Drawn:
    return Drawn(Streams(seed), torch.arange(sessions))


@pytest.mark.parametrize(("steps", "pair"), [(0, (0, 1)), (1, (1, 1)), (2, (1, 2)), (5, (5, 8))])
def test_fibonacci_steps(steps: int, pair: tuple[int, int]) -> None:
    assert pair_of(TorchRuntime(fibonacci()).execute(steps)) == pair


def test_fibonacci_from_another_start_and_as_a_trajectory() -> None:
    runtime = TorchRuntime(fibonacci())
    start = {"pair": Value(n0=torch.tensor(1), n1=torch.tensor(3))}
    assert pair_of(runtime.execute(0, start)) == (1, 3)
    assert pair_of(runtime.execute(3, start)) == (7, 11)
    assert runtime.trajectory(5)["pair"].get("n0").tolist() == [0, 1, 1, 2, 3]
    assert runtime.trajectory(4, start)["pair"].get("n0").tolist() == [1, 3, 4, 7]


def test_a_turn_by_sixty_degrees_closes_after_six_steps() -> None:
    angle = math.pi / 3
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    point = Variable("point", ValueSpec(x=Field()))
    point.initial_value = value(lambda: Value(x=torch.tensor([1.0, 0.0], dtype=torch.float64)))
    point.value = value(lambda before: Value(x=turn @ before.get("x")), (point.previous,))
    runtime = TorchRuntime(Network([point]))
    once, again = (runtime.execute(steps)["point"].get("x") for steps in (1, 7))
    torch.testing.assert_close(once, again, atol=1e-12, rtol=0)
    straight = runtime.trajectory(5)["point"].get("x")
    torch.testing.assert_close(
        runtime.trajectory(5, runtime.execute(6))["point"].get("x"), straight, atol=1e-12, rtol=0
    )
    assert straight.shape == (5, 2)


def test_the_log_probability_of_a_walk_accumulates() -> None:
    runtime = TorchRuntime(walk(torch.zeros(1, dtype=torch.float64)))
    scored = runtime.log_prob({"place.x": torch.arange(4.0, dtype=torch.float64)[:, None]}, 4)
    wanted = torch.tensor([0.0, -1.4189385, -2.837877, -4.2568154], dtype=torch.float64)
    torch.testing.assert_close(scored.accumulated[:, 0], wanted, atol=1e-6, rtol=0)
    torch.testing.assert_close(scored.total, scored.accumulated[-1])
    assert set(scored.fields) == {"place.x"} and scored.fields["place.x"].shape == (4, 1)
    assert [step.mean.item() for step in scored.distributions["place.x"][1:]] == [0.0, 1.0, 2.0]


def test_data_variables_yield_their_data_step_by_step() -> None:
    rows = Value(a=torch.tensor([1, 2, 3]), b=torch.tensor([4, 5, 6]))
    data = data_variable("data", ValueSpec(a=Field(), b=Field()), SlicedValue(rows))
    copy = Variable("copy", ValueSpec(sum=Field()))
    copy.value = value(lambda row: Value(sum=row.get("a") + row.get("b")), (data,))
    path = TorchRuntime(Network([data, copy])).trajectory(3)
    assert path["data"].get("a").tolist() == [1, 2, 3] and path["copy"].get("sum").tolist() == [5, 7, 9]


def test_a_random_data_variable_is_scored_at_its_own_step() -> None:
    drift = data_variable(
        "drift",
        ValueSpec(x=RandomField()),
        TimeSteps(),
        lambda step: Value(x=Normal(torch.full((2,), float(step)), 1.0)),
    )
    seen = torch.tensor([[0.0, 1.0], [1.0, 1.0], [2.0, 5.0]])
    scored = TorchRuntime(Network([drift])).log_prob({"drift.x": seen}, 3)
    wanted = Normal(torch.arange(3.0)[:, None], 1.0).log_prob(seen)
    torch.testing.assert_close(scored.by_step, wanted)


def test_steps_do_not_share_memory() -> None:
    values = list(zip(range(4), TorchRuntime(walk(torch.zeros(3)), drawn()).steps(), strict=False))
    before = [step["place"].get("x").clone() for _, step in values]
    values[2][1]["place"].get("x").fill_(99)
    for number, (_, step) in enumerate(values):
        if number != 2:
            assert torch.equal(step["place"].get("x"), before[number])


def test_simulated_values_follow_their_distributions() -> None:
    sessions = 20_000
    path = TorchRuntime(walk(torch.zeros(sessions)), drawn(sessions)).trajectory(3)["place"].get("x").numpy()
    for steps in (np.diff(path[:2], axis=0)[0], np.diff(path[1:], axis=0)[0]):
        assert stats.kstest(steps, "norm").pvalue > 1e-6  # false alarm 1e-6
    assert abs(np.corrcoef(np.diff(path, axis=0))[0, 1]) < 4.9 / math.sqrt(sessions)  # false alarm 1e-6


def test_draws_depend_on_seed_session_and_step_alone() -> None:
    def path(sessions: list[int], seed: int = 0) -> torch.Tensor:
        addresses = torch.tensor(sessions)
        resolver = Drawn(Streams(seed), addresses)
        return TorchRuntime(walk(torch.zeros(len(sessions))), resolver).trajectory(4)["place"].get("x")

    whole = path([7, 8, 9])
    assert torch.equal(path([9, 7])[:, [1, 0]], whole[:, [0, 2]])
    assert torch.equal(path([7, 8, 9]), whole)
    assert not torch.equal(path([7, 8, 9], seed=1)[1:], whole[1:])


def test_no_generator_of_the_process_is_touched() -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    TorchRuntime(walk(torch.zeros(5)), drawn(5)).trajectory(4)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)


def test_a_random_field_without_resolver_is_refused() -> None:
    with pytest.raises(ValueError, match=r"random fields \(place\.x\) need a resolver"):
        TorchRuntime(walk(torch.zeros(1, dtype=torch.float64))).execute(1)


def test_a_random_field_outside_a_runtime_is_refused() -> None:
    with pytest.raises(RuntimeError, match="'x' met outside a TorchRuntime"):
        walk(torch.zeros(1)).initial_step()


def test_a_draw_made_outside_is_refused() -> None:
    network = one_field(RandomField(), lambda: Normal(torch.zeros(3), 1.0).mean + 0.3)
    with pytest.raises(ValueError, match=r"Variable\[thing\].*'x'.*Tensor where a torch distribution is wanted"):
        TorchRuntime(network, drawn()).execute(0)


def test_a_distribution_in_a_computed_field_is_refused() -> None:
    network = one_field(Field(), lambda: Normal(torch.zeros(3), 1.0))
    with pytest.raises(ValueError, match=r"Variable\[thing\].*'x'.*declare the field as RandomField"):
        TorchRuntime(network).execute(0)


def test_an_observed_name_that_matches_nothing_is_refused() -> None:
    seen = torch.zeros(2, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"observed \['place\.y'\] match no random field; those are \['place\.x'\]"):
        TorchRuntime(walk(torch.zeros(1, dtype=torch.float64))).log_prob({"place.x": seen, "place.y": seen}, 2)


def test_a_random_field_that_was_not_observed_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'place\.x' is random and was not observed"):
        TorchRuntime(walk(torch.zeros(1, dtype=torch.float64))).log_prob({}, 2)


@pytest.mark.parametrize("steps", [2, 4])
def test_observations_of_another_length_are_refused(steps: int) -> None:
    seen = torch.zeros(steps, 1, dtype=torch.float64)
    with pytest.raises(ValueError, match=f"must have 3 steps.*'place.x': {steps}"):
        TorchRuntime(walk(torch.zeros(1, dtype=torch.float64))).log_prob({"place.x": seen}, 3)


def test_an_observation_of_another_shape_is_refused() -> None:
    seen = torch.zeros(2, 5, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"'place\.x': value \(5,\), its distribution has \(1,\)"):
        TorchRuntime(walk(torch.zeros(1, dtype=torch.float64))).log_prob({"place.x": seen}, 2)


def test_a_computed_field_that_changes_its_shape_is_refused() -> None:
    grows = Variable("grows", ValueSpec(x=Field()))
    grows.initial_value = value(lambda: Value(x=torch.zeros(1)))
    grows.value = value(lambda before: Value(x=torch.zeros(len(before.get("x")) + 1)), (grows.previous,))
    with pytest.raises(ValueError, match=r"Variable\[grows\].*'x'.*build a fresh story"):
        TorchRuntime(Network([grows])).execute(1)


def test_a_spec_shared_by_two_fields_is_refused() -> None:
    shared = RandomField()
    first, second = (Variable(name, ValueSpec(x=shared)) for name in ("first", "second"))
    for variable in (first, second):
        variable.initial_value = value(lambda: Value(x=Normal(torch.zeros(3), 1.0)))
    with pytest.raises(ValueError, match=r"stands for '(first|second)\.x' and '(first|second)\.x'"):
        TorchRuntime(Network([first, second]), drawn())


def test_a_distribution_without_a_rule_for_draws_is_refused() -> None:
    network = one_field(RandomField(), lambda: Gamma(torch.ones(3), 1.0))
    with pytest.raises(TypeError, match="Gamma cannot be drawn from addressed uniforms"):
        TorchRuntime(network, drawn()).execute(0)


def test_the_resolver_is_put_away_after_an_error() -> None:
    with pytest.raises(ValueError, match="not observed"):
        TorchRuntime(walk(torch.zeros(1)), Observed({})).execute(0)
    with pytest.raises(RuntimeError, match="outside a TorchRuntime"):
        walk(torch.zeros(1)).initial_step()


def test_draws_invert_the_distribution_function() -> None:
    uniforms = torch.tensor([[0.1], [0.35], [0.65], [0.99]], dtype=torch.float64)
    probs = torch.tensor([0.0, 0.3, 0.3, 0.4], dtype=torch.float64).expand(4, 4)
    assert draw(Categorical(probs=probs), uniforms).tolist() == [1, 2, 3, 3]
    assert draw(Bernoulli(torch.full((4,), 0.36, dtype=torch.float64)), uniforms).tolist() == [1, 1, 0, 0]
    normal = Normal(torch.full((4,), 2.0, dtype=torch.float64), 3.0)
    np.testing.assert_allclose(draw(normal, uniforms), 2 + 3 * stats.norm.ppf(uniforms[:, 0]))


def test_a_field_of_several_numbers_has_a_draw_for_each() -> None:
    several = Bernoulli(torch.full((30_000, 4), 0.2))
    assert uniforms_needed(several) == 4
    clicks = draw(several, Streams(3).uniform("many", torch.arange(30_000), 0, 4)).numpy()
    assert_mean(clicks.sum(1), 0.8)
    assert_mean(clicks[:, 0] * clicks[:, 3], 0.04)


def test_the_simulator_brings_neither_tensorflow_nor_jax_nor_gym() -> None:
    code = (
        "import importlib, json, pathlib, sys, recil.sim\n"
        "folder = pathlib.Path(recil.sim.__path__[0])\n"
        "parts = [file.relative_to(folder.parents[1]).with_suffix('').parts for file in folder.rglob('*.py')]\n"
        "names = ['.'.join(part).removesuffix('.__init__') for part in parts if part[2] != 'gym']\n"
        "[importlib.import_module(name) for name in names]\n"
        "heavy = {'tensorflow', 'jax', 'gym', 'gymnasium', 'edward2', 'tensorflow_probability', 'mlflow'}\n"
        "print(json.dumps([len(names), *sorted({name.split('.')[0] for name in sys.modules} & heavy)]))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    count, *heavy = json.loads(out.splitlines()[-1])
    assert count > 60 and heavy == []
