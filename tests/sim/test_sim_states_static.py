"""Static states against enumeration, hand-written densities and closed-form moments."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from recsim_ng.core.value import Value
from scipy import stats
from statistics_helper import assert_mean
from test_sim_states import sample
from torch import Tensor

from recil.random import Streams
from recil.sim.draws import draw, uniforms_needed
from recil.sim.states import (
    GaussianMixture,
    HierarchicalStaticTensor,
    MixtureComponent,
    StaticTensor,
    normal_mixture,
    one_of,
)

MANY = 20_000
GENERATOR = torch.Generator().manual_seed(7)
LOGITS = torch.tensor([[0.3, -1.0, 0.8], [2.0, 0.0, -0.5]], dtype=torch.float64)
MEANS = torch.randn(2, 3, 2, generator=GENERATOR, dtype=torch.float64) * 3
SCALES = torch.rand(2, 3, 2, generator=GENERATOR, dtype=torch.float64) + 0.5


def density(value: np.ndarray, logits: np.ndarray, means: np.ndarray, scales: np.ndarray) -> float:
    """Of one session's mixture, written out: sum over parts of weight times a product of normal densities."""
    weights = np.exp(logits) / np.exp(logits).sum()
    return sum(w * np.prod(stats.norm.pdf(value, m, s)) for w, m, s in zip(weights, means, scales, strict=True))


def of_clusters(clusters: list[int], logits: list[float]) -> list[float]:
    """Each row's probability: that of its cluster, shared by the members."""
    total = sum(math.exp(logit) for logit in logits)
    return [math.exp(logits[c]) / total / clusters.count(c) for c in clusters]


def test_each_session_draws_from_its_own_dictionary() -> None:
    dictionary = torch.arange(2 * 4 * 5.0).reshape(2, 4, 5)
    initial = StaticTensor(2, dictionary, torch.zeros(1, 4)).initial_state().get("state")
    for row in range(4):
        torch.testing.assert_close(initial.log_prob(dictionary[:, row]), torch.full((2,), math.log(0.25)))
    assert initial.log_prob(dictionary[[1, 0], 0]).tolist() == [-math.inf, -math.inf]
    seen = torch.stack([sample(initial, torch.arange(2), step) for step in range(64)])
    for session in range(2):
        rows = {tuple(row.tolist()) for row in seen[:, session]}
        assert rows == {tuple(row.tolist()) for row in dictionary[session]}


def test_rows_are_drawn_as_often_as_their_logits_say() -> None:
    dictionary = torch.eye(3)[None]
    initial = StaticTensor(MANY, dictionary, LOGITS[:1].float()).initial_state().get("state")
    seen = sample(initial, torch.arange(MANY))
    for row, wanted in enumerate(torch.softmax(LOGITS[0], -1).tolist()):
        assert_mean(seen[:, row].numpy(), wanted)  # false alarm 1e-6 each
    torch.testing.assert_close(initial.mean[0], torch.softmax(LOGITS[0], -1).float())


def test_equal_rows_add_their_probabilities() -> None:
    dictionary = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]]])
    initial = StaticTensor(1, dictionary, LOGITS[:1]).initial_state().get("state")
    weights = torch.softmax(LOGITS[0], -1)
    torch.testing.assert_close(initial.log_prob(dictionary[:, 0]).exp(), (weights[0] + weights[2])[None])


@pytest.mark.parametrize("event", [(), (2,), (2, 3, 1)])
def test_rows_have_any_shape(event: tuple[int, ...]) -> None:
    dictionary = torch.randn(1, 4, *event, generator=GENERATOR)
    model = StaticTensor(3, dictionary, torch.zeros(3, 4))
    seen = sample(model.initial_state().get("state"), torch.arange(3))
    assert seen.shape == (3, *event) and model.specs().get("state").space.shape == event
    torch.testing.assert_close(model.initial_state().get("state").log_prob(seen), torch.full((3,), math.log(0.25)))


@pytest.mark.parametrize(
    ("clusters", "logits"),
    [([[0, 1, 1, 2, 1]], [[0.5, -0.2, 1.0]]), ([[0, 1, 1, 0, 0], [1, 0, 1, 1, 1]], [[0.3, -0.4]])],
)
def test_a_cluster_is_chosen_by_logits_and_a_member_evenly(
    clusters: list[list[int]], logits: list[list[float]]
) -> None:
    dictionary = torch.arange(10.0).reshape(1, 5, 2)
    model = HierarchicalStaticTensor(2, dictionary, torch.tensor(clusters), torch.tensor(logits))
    initial = model.initial_state().get("state")
    for session in range(2):
        wanted = of_clusters(clusters[session % len(clusters)], logits[0])
        for row, chance in enumerate(wanted):
            score = initial.log_prob(dictionary[:, row].expand(2, -1))[session]
            assert float(score) == pytest.approx(math.log(chance), abs=1e-6)


def test_members_are_drawn_as_often_as_their_clusters_say() -> None:
    clusters, logits = [0, 1, 1, 2, 1], [0.5, -0.2, 1.0]
    model = HierarchicalStaticTensor(MANY, torch.eye(5)[None], torch.tensor([clusters]), torch.tensor([logits]))
    seen = sample(model.initial_state().get("state"), torch.arange(MANY))
    for row, wanted in enumerate(of_clusters(clusters, logits)):
        assert_mean(seen[:, row].numpy(), wanted)  # false alarm 1e-6 each


def test_cluster_logits_are_learned_by_likelihood() -> None:
    """The gradient of log p(row of cluster 1) is what that cluster lacks: one-hot minus softmax."""
    logits = torch.nn.Parameter(torch.tensor([[0.5, -0.2, 1.0]], dtype=torch.float64))
    dictionary = torch.arange(10.0, dtype=torch.float64).reshape(1, 5, 2)
    model = HierarchicalStaticTensor(1, dictionary, torch.tensor([[0, 1, 1, 2, 1]]), logits)
    model.initial_state().get("state").log_prob(dictionary[:, 4]).sum().backward()
    wanted = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64) - torch.softmax(logits.detach(), -1)
    torch.testing.assert_close(logits.grad, wanted)


@pytest.mark.parametrize(
    ("clusters", "problem"), [([[0, 0, 2]], "none of the rows is in cluster 1"), ([[0, 1, 3]], "0 to 3")]
)
def test_impossible_clusters_are_refused(clusters: list[list[int]], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        HierarchicalStaticTensor(1, torch.zeros(1, 3, 2), torch.tensor(clusters), torch.zeros(1, 3))


@pytest.mark.parametrize("scales", [0.7, SCALES[..., 0], SCALES[:1, :, 0], SCALES, SCALES[:1]])
def test_the_density_of_a_gaussian_mixture(scales: Tensor | float) -> None:
    full = torch.as_tensor(scales, dtype=torch.float64)
    full = (full[..., None] if full.ndim == 2 else full).expand(2, 3, 2).numpy()
    initial = GaussianMixture(2, LOGITS, MEANS, scales).initial_state().get("state")
    value = torch.randn(2, 2, generator=GENERATOR, dtype=torch.float64) * 3
    for session in range(2):
        wanted = density(value[session].numpy(), LOGITS[session].numpy(), MEANS[session].numpy(), full[session])
        assert float(initial.log_prob(value)[session]) == pytest.approx(math.log(wanted), rel=1e-6)


def test_a_gaussian_mixture_integrates_to_one() -> None:
    places = torch.linspace(-40, 40, 8001, dtype=torch.float64)
    initial = GaussianMixture(8001, LOGITS[:1], MEANS[:1, :, :1], SCALES[:1, :, :1]).initial_state().get("state")
    assert float(torch.trapezoid(initial.log_prob(places[:, None]).exp(), places)) == pytest.approx(1, abs=1e-9)


def test_moments_of_gaussian_mixture_draws() -> None:
    initial = GaussianMixture(MANY, LOGITS[:1], MEANS[:1], SCALES[:1]).initial_state().get("state")
    seen = sample(initial, torch.arange(MANY)).numpy()
    weights = torch.softmax(LOGITS[0], -1)[:, None]
    mean, square = (weights * MEANS[0]).sum(0), (weights * (MEANS[0] ** 2 + SCALES[0] ** 2)).sum(0)
    for axis in range(2):  # false alarm 1e-6 for each of five means
        assert_mean(seen[:, axis], float(mean[axis]))
        assert_mean(seen[:, axis] ** 2, float(square[axis]))
    assert_mean(seen[:, 0] * seen[:, 1], float((weights[:, 0] * MEANS[0].prod(-1)).sum()))
    torch.testing.assert_close(initial.mean[0], mean)


def test_the_component_and_the_coordinates_have_uniforms_of_their_own() -> None:
    mixture = normal_mixture(LOGITS, MEANS, SCALES)
    uniforms = torch.tensor([[0.01, 0.5, 0.5], [0.99, 0.5, 0.975]], dtype=torch.float64)
    assert uniforms_needed(mixture) == 3 and uniforms_needed(one_of(LOGITS, MEANS)) == 1
    wanted = MEANS[[0, 1], [0, 2]] + torch.tensor([[0, 0], [0, 1.959963984540054]]) * SCALES[[0, 1], [0, 2]]
    torch.testing.assert_close(draw(mixture, uniforms), wanted)


def test_draws_are_differentiable_in_means_and_scales() -> None:
    uniforms = Streams(1).uniform("x", torch.arange(2), 0, 3, torch.float64)
    means, scales = MEANS.clone().requires_grad_(), SCALES.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda m, s: draw(normal_mixture(LOGITS, m, s), uniforms), (means, scales))
    draw(normal_mixture(LOGITS, means, scales), uniforms).sum().backward()
    assert int((means.grad != 0).any(-1).sum()) == 2  # one part of three in each of two sessions


def test_scores_are_differentiable_in_all_parameters() -> None:
    parameters = tuple(values.clone().requires_grad_() for values in (LOGITS, MEANS, SCALES))
    value = torch.ones(2, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *given: normal_mixture(*given).log_prob(value), parameters)


def test_a_mixture_of_documents_per_session() -> None:
    """[B, A] values of [B, A, N] logits: parts shared by the documents, or by everyone."""
    logits = torch.randn(4, 6, 3, generator=GENERATOR)
    for means in (torch.randn(4, 1, 3, 2, generator=GENERATOR), torch.randn(1, 1, 3, 2, generator=GENERATOR)):
        mixture = normal_mixture(logits, means, torch.full((1, 1, 1, 1), 1e-3))
        seen = sample(mixture, torch.arange(4))
        component = sample(mixture.component, torch.arange(4))
        assert seen.shape == (4, 6, 2) and component.shape == mixture.log_prob(seen).shape == (4, 6)
        assert torch.equal((seen[:, :, None] - means).norm(dim=-1).argmin(-1), component)
        assert len(component.unique()) == 3


def test_the_component_and_the_state_given_it_are_the_joint_of_the_mixture() -> None:
    model = GaussianMixture(2, LOGITS, MEANS, SCALES)
    component = MixtureComponent(model).initial_state().get("component")
    value = torch.ones(2, 2, dtype=torch.float64)
    joint = [
        component.log_prob(part) + model.state_given(Value(component=part)).get("state").log_prob(value)
        for part in torch.arange(3)[:, None].expand(3, 2)
    ]
    torch.testing.assert_close(torch.logsumexp(torch.stack(joint), 0), model.mixture().log_prob(value))


def test_the_state_given_a_component_is_near_its_mean() -> None:
    """As documents of providers are made: a provider each, then features around the provider's."""
    model = GaussianMixture(MANY, LOGITS[:1], MEANS[:1], SCALES[:1] * 0.01)
    sessions = torch.arange(MANY)
    provider = sample(MixtureComponent(model).initial_state().get("component"), sessions, purpose="provider")
    features = sample(model.state_given(Value(component=provider)).get("state"), sessions, purpose="features")
    nearest = (features[:, None] - MEANS[0]).norm(dim=-1).argmin(-1)
    assert torch.equal(nearest, provider)
    for part, wanted in enumerate(torch.softmax(LOGITS[0], -1).tolist()):
        assert_mean((provider == part).double().numpy(), wanted)  # false alarm 1e-6 each


@pytest.mark.parametrize("dims", [0, 1, 2])
def test_a_static_state_stays_for_certain(dims: int) -> None:
    dictionary = torch.randn(2, 4, *(3,) * dims, generator=GENERATOR)
    model = StaticTensor(2, dictionary, torch.zeros(1, 4))
    first = model.initial_state().get("state")
    old = sample(first, torch.arange(2))
    after = model.next_state(Value(state=old)).get("state")
    assert torch.equal(sample(after, torch.arange(2), 1), old)
    assert after.log_prob(old).tolist() == [0, 0] and after.log_prob(old + 1).tolist() == [-math.inf, -math.inf]
    assert after.batch_shape == first.batch_shape and after.event_shape == first.event_shape


def test_a_component_stays_for_certain() -> None:
    model = MixtureComponent(GaussianMixture(2, LOGITS, MEANS, SCALES))
    after = model.next_state(Value(component=torch.tensor([2, 0]))).get("component")
    assert sample(after, torch.arange(2)).tolist() == [2, 0]
    assert after.log_prob(torch.tensor([2, 1])).tolist() == [0, -math.inf]
    assert model.specs().get("component").space.count == 3


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: StaticTensor(4, torch.zeros(3, 2, 5), torch.zeros(1, 2)), r"dictionary: shape \[3, 2, 5\].*1 or 4"),
        (lambda: StaticTensor(4, torch.zeros(1, 2, 5), torch.zeros(2)), r"logits: shape \[2\]; wanted 2 dimensions"),
        (lambda: StaticTensor(4, torch.zeros(1, 2, 5), torch.zeros(1, 3)), "logits: 3 of them for 2 rows"),
        (lambda: GaussianMixture(1, torch.zeros(1, 2), torch.zeros(1, 3, 4)), "logits: 2 of them for 3 means"),
        (lambda: GaussianMixture(1, torch.zeros(1, 3), torch.zeros(1, 3, 4), torch.ones(1, 4)), "scales: 4 of them"),
        (lambda: GaussianMixture(1, torch.zeros(1, 3), torch.zeros(1, 3, 4), -0.5), "scales: -0.5 among them"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(make, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        make()
