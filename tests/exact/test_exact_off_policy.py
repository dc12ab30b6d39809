"""Moments of off-policy gradients over all sessions, against the exact gradient and against drawn sessions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from random_mdps import layered_mdp, random_logits, random_mdp

from recil.exact import off_policy
from recil.exact.enumerate import enumerate_sessions
from recil.exact.episodes import sample_episodes
from recil.exact.gradient import gradient_by_theorem
from recil.exact.policy import TabularPolicy
from recil.exact.world import TabularWorld


@pytest.fixture(scope="module")
def case():
    """A world, target, behaviour and all its sessions."""
    mdp = layered_mdp(3, gamma=1.0)
    target, behaviour = (random_logits(mdp, part).softmax(-1) for part in (1, 2))
    return mdp, target, behaviour, enumerate_sessions(TabularWorld(mdp, 3), TabularPolicy(behaviour))


def moments(case, form, steps=3, target=None) -> off_policy.Moments:
    mdp, own, behaviour, every = case
    return off_policy.exact_moments(form, every, mdp, own if target is None else target, behaviour, steps)


def test_the_exact_gradient_is_the_theorems():
    mdp = layered_mdp(3, gamma=1.0)
    logits = random_logits(mdp, 1)
    found = off_policy.exact_gradient(mdp, logits.softmax(-1), 3)
    torch.testing.assert_close(found.unflatten(0, mdp.size), gradient_by_theorem(mdp, logits), rtol=0, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_only_whole_weights_are_unbiased_and_only_steps_need_few_sessions(case, steps):
    exact = [moments(case, form, steps) for form in (off_policy.trajectory, off_policy.per_decision)]
    by_step = moments(case, off_policy.per_step(), steps)
    assert max(bias for bias, _ in exact) < 1e-12
    assert by_step.bias > 0.05 or steps == 1
    assert by_step.spread < exact[0].spread or steps == 1
    # On the logging policy no form corrects anything.
    own = [moments(case, form, steps, case[2]) for form in (off_policy.per_step(), off_policy.per_step(1.0))]
    assert max(bias for bias, _ in own) < 1e-12


def test_a_session_of_one_step_is_weighed_alike_by_all(case):
    spreads = [
        moments(case, form, 1).spread
        for form in (off_policy.trajectory, off_policy.per_decision, off_policy.per_step(), off_policy.per_step(1e9))
    ]
    assert spreads == pytest.approx([spreads[0]] * 4, rel=1e-12)
    assert moments(case, off_policy.per_step(corrected=False), 1).bias > 0.05


def test_means_of_drawn_sessions_are_those_of_all(case):
    mdp, target, behaviour, _ = case
    drawn = sample_episodes(mdp, behaviour, 200, 100, 5)
    exact = off_policy.exact_gradient(mdp, target, 3)
    found = off_policy.estimates(off_policy.per_decision, drawn, target, behaviour)
    error = found.std(0) / len(found) ** 0.5
    assert ((found.mean(0) - exact).abs() <= 5 * error + 1e-12).all()
    # The spread of one session, by the spread of means over a hundred.
    spread = 100 * found.var(0).sum() / exact.square().sum()
    assert float(spread) == pytest.approx(moments(case, off_policy.per_decision).spread, rel=0.15)


@pytest.fixture(scope="module")
def drawn():
    """Sessions that end apart, with target and behaviour."""
    mdp = random_mdp(3, 2, 1, 1.0, ends=0.3)
    target, behaviour = (random_logits(mdp, part).softmax(-1) for part in (1, 2))
    return off_policy.cut(sample_episodes(mdp, behaviour, 4, 50, 0), 6), target, behaviour


def test_normalised_by_step_it_is_the_gradient_of_the_self_normalised_value(drawn):
    episodes, target, behaviour = drawn
    logits, happened = target.log().requires_grad_(), episodes.happened
    own, logged = (
        torch.where(happened, scores[episodes.state[..., :-1], episodes.action], 0.0)
        for scores in (logits.log_softmax(-1), behaviour.log())
    )
    weight = (own - logged).cumsum(-1).exp()
    reward = torch.where(happened, episodes.reward, 0.0)
    value = ((weight * reward).sum(1) / weight.sum(1)).sum(-1)
    found = off_policy.estimates(off_policy.normalised(off_policy.per_decision, False), episodes, target, behaviour)
    for run in range(4):
        expected = torch.autograd.grad(value[run], logits, retain_graph=True)[0].flatten()
        torch.testing.assert_close(found[run], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "form",
    [
        off_policy.normalised(off_policy.trajectory, True),
        off_policy.normalised(off_policy.per_decision, False),
        off_policy.per_step(normalised=True),
    ],
)
def test_normalised_forms_do_not_see_what_is_paid_to_all(drawn, form):
    """Of sessions of one length."""
    episodes, target, behaviour = drawn
    first = off_policy.cut(episodes, 1)
    richer = replace(first, reward=first.reward + 7)
    one, other = (off_policy.estimates(form, sessions, target, behaviour) for sessions in (first, richer))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
    assert one.abs().max() > 1e-3


def test_what_is_cut_did_not_end(case):
    mdp, _, behaviour, _ = case
    drawn = sample_episodes(replace(mdp), behaviour, 1, 5, 0)
    assert drawn.terminated.all() and not off_policy.cut(drawn, 2).terminated.any()
