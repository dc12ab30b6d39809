"""Steps: what is computed once, what is shared, what goes on from a given value, what gradients flow."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from recsim_ng.core.network import Network
from recsim_ng.core.value import Value, ValueSpec
from recsim_ng.core.variable import Variable, value
from statistics_helper import assert_mean
from torch import Tensor
from torch.distributions import Bernoulli, Normal

from recil.random import Streams
from recil.sim.distributions import Certain
from recil.sim.fields import Field, RandomField
from recil.sim.network import network_of
from recil.sim.resolvers import Drawn
from recil.sim.runtime import TorchRuntime


def drawn(sessions: int, seed: int = 0) -> Drawn:
    return Drawn(Streams(seed), torch.arange(sessions))


def counted() -> tuple[Network, dict[str, int]]:
    """still (a constant), derived (from it), moving (from both): and how often each was computed."""
    calls = {"still": 0, "derived": 0, "moving": 0}

    def counting(name: str, make):
        def function(*values: Value) -> Value:
            calls[name] += 1
            return make(*values)

        return function

    still, derived, moving = (Variable(name, ValueSpec(x=Field())) for name in calls)
    still.initial_value = value(counting("still", lambda: Value(x=torch.ones(2))))
    derived.value = value(counting("derived", lambda base: Value(x=base.get("x") * 2)), (still,))
    moving.initial_value = value(counting("moving", lambda: Value(x=torch.zeros(2))))
    moving.value = value(
        counting("moving", lambda before, base: Value(x=before.get("x") + base.get("x"))), (moving.previous, derived)
    )
    return network_of([still, derived, moving]), calls


def test_what_cannot_change_is_computed_once() -> None:
    network, calls = counted()
    path = TorchRuntime(network).trajectory(6)
    assert calls == {"still": 1, "derived": 1, "moving": 6}
    assert path["moving"].get("x")[:, 0].tolist() == [0, 2, 4, 6, 8, 10]
    assert path["derived"].get("x").tolist() == [[2, 2]] * 6


def test_a_random_variable_without_dependencies_is_drawn_at_every_step() -> None:
    noise = Variable("noise", ValueSpec(x=RandomField()))
    noise.value = value(lambda: Value(x=Normal(torch.zeros(4), 1.0)))
    path = TorchRuntime(network_of([noise]), drawn(4)).trajectory(3)["noise"].get("x")
    assert len(set(path.flatten().tolist())) == 12


def test_nothing_of_a_result_is_shared() -> None:
    network, _ = counted()
    runtime = TorchRuntime(network)
    start = runtime.execute(1)
    kept = {name: part.get("x").clone() for name, part in start.items()}
    for result in (runtime.execute(2, start), runtime.execute(0, start), runtime.trajectory(3, start)):
        for part in result.values():
            part.get("x").fill_(99)
        assert all(torch.equal(start[name].get("x"), before) for name, before in kept.items())
    assert runtime.execute(1)["moving"].get("x").tolist() == [2, 2]


def test_a_trajectory_keeps_only_what_is_asked_for() -> None:
    network, _ = counted()
    assert set(TorchRuntime(network).trajectory(2, variables=["moving"])) == {"moving"}
    with pytest.raises(ValueError, match=r"\['absent'\] are not in the network; those are"):
        TorchRuntime(network).trajectory(2, variables=["absent"])


@pytest.mark.parametrize(("verb", "count"), [("execute", -1), ("trajectory", 0)])
def test_numbers_of_steps_that_make_no_sense_are_refused(verb: str, count: int) -> None:
    network, _ = counted()
    with pytest.raises(ValueError, match="wanted"):
        getattr(TorchRuntime(network), verb)(count)


def walk(step: Tensor | float = 1.0, sessions: int = 5, dtype: torch.dtype = torch.float64) -> Network:
    place = Variable("place", ValueSpec(x=RandomField()))
    place.initial_value = value(lambda: Value(x=Certain(torch.zeros(sessions, dtype=dtype))))
    place.value = value(lambda before: Value(x=Normal(before.get("x") * 0.9 + step, 1.0)), (place.previous,))
    return network_of([place])


def test_going_on_from_a_value_draws_what_an_uninterrupted_run_would() -> None:
    runtime = TorchRuntime(walk(), drawn(5))
    whole = runtime.trajectory(7)["place"].get("x")
    half = runtime.execute(3)
    assert torch.equal(runtime.execute(3, half, at=3)["place"].get("x"), whole[6])
    assert torch.equal(runtime.trajectory(4, half, at=3)["place"].get("x"), whole[3:])
    assert not torch.equal(runtime.execute(3, half)["place"].get("x"), whole[6])


def test_a_likelihood_from_a_given_start_leaves_the_start_out() -> None:
    runtime = TorchRuntime(walk(), drawn(5))
    path = runtime.trajectory(6)["place"].get("x")
    whole = runtime.log_prob({"place.x": path}, 6)
    start = {"place": Value(x=path[2])}
    rest = runtime.log_prob({"place.x": path[2:]}, 4, start, at=2)
    assert rest.fields["place.x"][0].tolist() == [0] * 5
    torch.testing.assert_close(rest.total, whole.by_step[3:].sum(0), atol=1e-12, rtol=0)


def seen_through_noise(sessions: int) -> Network:
    """A hidden z ~ N(0, 1), and at each step x ~ N(z, 1)."""
    hidden = Variable("hidden", ValueSpec(z=RandomField()))
    hidden.initial_value = value(lambda: Value(z=Normal(torch.zeros(sessions, dtype=torch.float64), 1.0)))
    seen = Variable("seen", ValueSpec(x=RandomField()))
    seen.value = value(lambda z: Value(x=Normal(z.get("z"), 1.0)), (hidden,))
    return network_of([hidden, seen])


def test_latent_fields_are_drawn_and_not_scored() -> None:
    """The mean of p(x | z) over drawn z is p(x), here normal with covariance 1 + I."""
    sessions = 40_000
    x = torch.tensor([0.5, -0.2, 1.0], dtype=torch.float64)
    observed = {"seen.x": x[:, None].expand(3, sessions)}
    runtime = TorchRuntime(seen_through_noise(sessions))
    scored = runtime.log_prob(observed, 3, latent=drawn(sessions))
    assert set(scored.fields) == {"seen.x"} and set(scored.latent) == {"hidden.z"}
    assert torch.equal(scored.latent["hidden.z"][0], scored.latent["hidden.z"][2])
    exact = torch.distributions.MultivariateNormal(torch.zeros(3), torch.ones(3, 3) + torch.eye(3)).log_prob(x.float())
    assert_mean((scored.total.exp() / exact.exp()).numpy(), 1.0)
    with pytest.raises(ValueError, match=r"'hidden\.z' is random and was not observed.*otherwise="):
        runtime.log_prob(observed, 3)


def test_a_static_random_field_is_scored_once() -> None:
    runtime = TorchRuntime(seen_through_noise(1))
    scored = runtime.log_prob({"hidden.z": torch.full((3, 1), 0.5), "seen.x": torch.zeros(3, 1)}, 3)
    once = -0.5 * math.log(2 * math.pi) - 0.125
    assert scored.fields["hidden.z"][:, 0].tolist() == pytest.approx([once, 0, 0])


def test_pathwise_gradients_are_those_of_the_closed_form() -> None:
    step = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    runtime = TorchRuntime(walk(step), drawn(5))
    end = runtime.execute(4)["place"].get("x")
    (gradient,) = torch.autograd.grad(end[2], step)
    assert float(gradient) == pytest.approx(1 + 0.9 + 0.81 + 0.729, rel=1e-12)
    with torch.no_grad():
        assert not runtime.execute(4)["place"].get("x").requires_grad


def bent(step: Tensor) -> Network:
    """A walk whose steps are not linear, so that a gradient needs what went before."""
    place = Variable("place", ValueSpec(x=RandomField()))
    place.initial_value = value(lambda: Value(x=Certain(torch.zeros(5, dtype=torch.float64))))
    place.value = value(lambda before: Value(x=Normal(torch.tanh(before.get("x")) + step, 1.0)), (place.previous,))
    return network_of([place])


@pytest.mark.parametrize("every", [1, 3, 50])
def test_checkpoints_change_no_gradient_and_save_less(every: int) -> None:
    def run(checkpoint: int) -> tuple[Tensor, int]:
        step = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
        saved = 0

        def count(tensor: Tensor) -> Tensor:
            nonlocal saved
            saved += 1
            return tensor

        runtime = TorchRuntime(bent(step), drawn(5), checkpoint=checkpoint)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            end = runtime.execute(40)["place"].get("x").square().sum()
        return torch.autograd.grad(end, step)[0], saved

    (plain, everything), (thrifty, few) = run(0), run(every)
    assert torch.equal(plain, thrifty)
    if every == 50:
        assert few < everything / 10


def coins(logit: Tensor, sessions: int) -> Network:
    """Each step's coin is likelier after heads; the reward counts heads."""
    coin = Variable("coin", ValueSpec(heads=RandomField()))
    total = Variable("total", ValueSpec(heads=Field()))
    coin.initial_value = value(lambda: Value(heads=Bernoulli(logits=logit.expand(sessions))))
    coin.value = value(lambda before: Value(heads=Bernoulli(logits=logit + before.get("heads"))), (coin.previous,))
    total.initial_value = value(lambda now: Value(heads=now.get("heads")), (coin,))
    total.value = value(lambda so_far, now: Value(heads=so_far.get("heads") + now.get("heads")), (total.previous, coin))
    return network_of([coin, total])


def expected_heads(logit: float, steps: int) -> float:
    """By the chain's own recursion."""
    chance = [1 / (1 + math.exp(-logit - bonus)) for bonus in (0, 1)]
    heads = chance[0]
    total = heads
    for _ in range(steps - 1):
        heads = heads * chance[1] + (1 - heads) * chance[0]
        total += heads
    return total


@pytest.mark.parametrize("checkpoint", [0, 2])
def test_the_score_function_gradient_is_unbiased(checkpoint: int) -> None:
    sessions, steps = 40_000, 4
    logit = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    runtime = TorchRuntime(coins(logit, sessions), drawn(sessions), checkpoint=checkpoint)
    end, log_prob = runtime.score_function(steps - 1)
    reward = end["total"].get("heads").detach()
    exact = (expected_heads(0.2 + 1e-5, steps) - expected_heads(0.2 - 1e-5, steps)) / 2e-5
    # Gradients of each session's log-probability by hand: sum of (heads - chance) over steps.
    path = runtime.trajectory(steps)["coin"].get("heads").detach()
    bonus = torch.cat([torch.zeros(1, sessions, dtype=torch.float64), path[:-1]])
    score = (path - torch.sigmoid(0.2 + bonus)).sum(0)
    assert_mean((reward * score).numpy(), exact)
    (gradient,) = torch.autograd.grad((reward * log_prob).mean(), logit)
    assert float(gradient) == pytest.approx(float((reward * score).mean()), rel=1e-9)
    torch.testing.assert_close(path.sum(0), reward)


def test_the_score_function_scores_the_fields_it_is_told() -> None:
    logit = torch.tensor(0.2, dtype=torch.float64)
    runtime = TorchRuntime(coins(logit, 3), drawn(3))
    _, nothing = runtime.score_function(2, fields=[])
    assert float(nothing) == 0
    with pytest.raises(ValueError, match=r"\['coin\.tails'\] match no random field"):
        runtime.score_function(2, fields=["coin.tails"])


def test_no_gradient_flows_through_draws_under_the_score_function() -> None:
    step = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    end, log_prob = TorchRuntime(walk(step), drawn(5)).score_function(3)
    assert log_prob.requires_grad and not end["place"].get("x").requires_grad


FLAT = """
import resource, torch
from recil.random import Streams
from recil.sim.network import network_of
from recil.sim.metrics import RewardMetrics
from recil.sim.recommendation import recommendation_story
from recil.sim.recommenders.uniform import UniformRecommender
from recil.sim.resolvers import Drawn
from recil.sim.runtime import TorchRuntime
from recil.sim.worlds.interest_evolution import InterestEvolutionSettings, interest_evolution
torch.set_num_threads(1)
users = 5_000
world = interest_evolution(InterestEvolutionSettings())
runtime = TorchRuntime(
    network_of(world.story(UniformRecommender(users, 100, 2), users)), Drawn(Streams(0), torch.arange(users))
)
for steps in (20, 400):
    runtime.execute(steps)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_horizon() -> None:
    """A step of these users holds 1.2 MB: 380 steps more would show as 450 MB."""
    out = subprocess.run([sys.executable, "-c", FLAT], capture_output=True, text=True, check=True).stdout
    short, long = (int(line) for line in out.split())
    assert long - short < 20_000  # KiB
