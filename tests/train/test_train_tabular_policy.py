"""Tables of logits: the clone counts, a step is the policy gradient, demonstrations add theirs."""

from __future__ import annotations

import pytest
import torch

from recil.errors import InputError
from recil.exact.episodes import sample_episodes
from recil.exact.gradient import gradient_by_theorem
from recil.exact.solve import start_value, uniform_policy
from recil.exact.worlds import deep_sea, sparse_click_bandit
from recil.train.tabular_policy import TabularReinforceConfig, tabular_clone, tabular_reinforce

BANDIT, DEMONSTRATOR = sparse_click_bandit(3, 5, 0.2, (0.1, 0.9), 0.6)
ONE_STEP = TabularReinforceConfig(sessions=20_000, batch=20_000, step_size=1 / 20_000)


def random_logits(runs: int, mdp=BANDIT) -> torch.Tensor:
    return torch.randn(runs, *mdp.size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_the_clone_counts() -> None:
    episodes = sample_episodes(BANDIT, DEMONSTRATOR, 2, 5000)
    clone = tabular_clone(episodes, 1e-9).softmax(-1)
    assert (clone - DEMONSTRATOR)[:, :3].abs().max() < 4 * (0.25 / 1500) ** 0.5
    chosen = episodes.state[0, :, 0] == 1
    assert float(clone[0, 1, 2]) == pytest.approx(float((episodes.action[0, chosen, 0] == 2).double().mean()))
    assert torch.equal(clone[:, 3], torch.full((2, 5), 0.2, dtype=torch.float64)), "where nobody has been"


def test_a_clone_of_no_smoothing_is_refused() -> None:
    with pytest.raises(InputError, match="smoothing"):
        tabular_clone(sample_episodes(BANDIT, DEMONSTRATOR, 1, 10), 0.0)


@pytest.mark.parametrize("mdp", [BANDIT, deep_sea(3, 1.0)], ids=["bandit", "sea"])
def test_a_step_is_the_policy_gradient(mdp) -> None:
    logits = random_logits(2, mdp)
    *_, (sessions, after) = tabular_reinforce(mdp, logits, ONE_STEP)
    assert sessions == 20_000
    for run in range(2):
        exact = gradient_by_theorem(mdp, logits[run])
        assert (after[run] - logits[run] - exact).abs().max() < 4 * 0.5 / 20_000**0.5


def test_a_run_does_not_depend_on_its_neighbours_or_on_the_budget() -> None:
    logits = random_logits(3)
    demonstrations = sample_episodes(BANDIT, DEMONSTRATOR, 3, 20)
    config = TabularReinforceConfig(sessions=100, demonstrations=5)
    *_, whole = tabular_reinforce(BANDIT, logits, config, 1, demonstrations)
    alone = list(tabular_reinforce(BANDIT, logits[:1], config, 1, sample_episodes(BANDIT, DEMONSTRATOR, 1, 20)))
    assert torch.equal(alone[-1].logits, whole.logits[:1])
    assert [step.sessions for step in alone] == [0, 50, 100]
    longer = list(
        tabular_reinforce(BANDIT, logits, TabularReinforceConfig(sessions=150, demonstrations=5), 1, demonstrations)
    )
    assert torch.equal(longer[2].logits, whole.logits)


def test_it_learns_the_best_policy_of_a_bandit() -> None:
    *_, (_, logits) = tabular_reinforce(BANDIT, torch.zeros(2, *BANDIT.size, dtype=torch.float64))
    for run in range(2):
        assert float(start_value(BANDIT, logits[run].softmax(-1))) > 0.88


def test_demonstrations_add_their_likelihood() -> None:
    """At its largest advantage, which is 0 where nothing was earned and 1 where something was, times the scale."""
    logits = torch.zeros(1, *BANDIT.size, dtype=torch.float64)
    demonstrations = sample_episodes(BANDIT, DEMONSTRATOR, 1, 1)
    state, action = int(demonstrations.state[0, 0, 0]), int(demonstrations.action[0, 0, 0])
    many = TabularReinforceConfig(sessions=40, batch=40, demonstrations=7, scale=0.5, baseline=0.0)
    *_, beside = tabular_reinforce(BANDIT, logits, many, 0, demonstrations)
    *_, alone = tabular_reinforce(BANDIT, logits, TabularReinforceConfig(sessions=40, batch=40, baseline=0.0))
    added = beside.logits - alone.logits
    wanted = torch.zeros_like(added)
    wanted[0, state] = -0.2
    wanted[0, state, action] += 1
    assert torch.allclose(added, 7 * 0.5 * wanted)
    none = deep_sea(12)
    still = torch.zeros(1, *none.size, dtype=torch.float64)
    sea = sample_episodes(none, uniform_policy(none), 1, 1)
    *_, moved = tabular_reinforce(none, still, TabularReinforceConfig(sessions=5, demonstrations=5), 0, sea)
    *_, unmoved = tabular_reinforce(none, still, TabularReinforceConfig(sessions=5))
    assert torch.allclose(moved.logits, unmoved.logits), "no advantage above 0, no weight"


@pytest.mark.parametrize(
    ("logits", "settings", "match"),
    [
        (random_logits(1)[0], {}, "logits"),
        (random_logits(1) / 0, {}, "finite"),
        (random_logits(1), {"demonstrations": 3}, "none are given"),
    ],
)
def test_what_cannot_be_learned_from_is_refused(logits, settings, match) -> None:
    with pytest.raises(InputError, match=match):
        next(tabular_reinforce(BANDIT, logits, TabularReinforceConfig(**settings)))


@pytest.mark.parametrize("settings", [{"batch": 0}, {"step_size": 0.0}, {"decay": 1.1}, {"demonstrations": -1}])
def test_settings_are_checked(settings) -> None:
    with pytest.raises(InputError, match=next(iter(settings))):
        TabularReinforceConfig(**settings)


def test_demonstrations_of_other_runs_are_refused() -> None:
    beside = sample_episodes(BANDIT, DEMONSTRATOR, 2, 5)
    with pytest.raises(InputError, match="demonstrations"):
        next(tabular_reinforce(BANDIT, random_logits(1), TabularReinforceConfig(demonstrations=3), 0, beside))
