"""Learning with a few items in place of the catalogue: as good, as reproducible, and sparse in what it touches."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from finetune_case import assert_same, easy_world, small_case, standard_errors, weights

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.ops import policy_gradient
from recil.ops.proposal import Proposal
from recil.policies.touched import tables_of
from recil.random import Streams
from recil.train import sampled, sampled_steps, turns
from recil.train.clone import CloneConfig, clone, cloning
from recil.train.finetune import finetune
from recil.train.finetune_config import FinetuneConfig
from recil.train.loop import optimisers_of, take_step
from recil.train.policy_loss import Credited, guarded, log_propensity
from recil.train.rows import Tables
from recil.train.sampled_steps import SampledSteps

QUICK = CloneConfig(width=16, epochs=5, batch=100, negatives=256)


@functools.cache
def one_case():
    return small_case()


def walks(sessions: int, seed: int, items: int = 2000, steps: int = 8) -> SessionLog:
    """Sessions that wander among neighbouring items; which items are neighbours is shuffled, some starts are common."""
    draw = np.random.default_rng(seed)
    start = items * draw.random((sessions, 1)) ** 2
    place = (start + draw.geometric(0.05, (sessions, steps)).cumsum(1)).astype(int) % items
    shown = np.random.default_rng(7).permutation(items)[place].reshape(-1, 1).astype(np.int32)
    reward = np.zeros(shown.shape, np.float32)
    return SessionLog(np.arange(items), shown, reward, np.arange(0, len(shown) + 1, steps), np.arange(sessions))


def loss_in_full(policy, log: SessionLog) -> float:
    with torch.no_grad():
        return -float(policy.log_prob_of_sessions(log.batch()).double().mean())


def test_a_clone_with_negatives_comes_close_to_one_with_the_whole_catalogue():
    """In full likelihood, by sessions neither has seen: within 0.15 nats, of more than 0.5 that there is to learn."""
    log, other = walks(1500, 0), walks(300, 5)
    rows = []
    found = loss_in_full(clone(log, QUICK, on_metrics=lambda _, row: rows.append(row)), other)
    whole = loss_in_full(clone(log, replace(QUICK, negatives=0)), other)
    start = loss_in_full(cloning(log, QUICK, 0)[0], other)
    assert whole < start - 0.5
    assert found < whole + 0.15
    held_out = [row["clone/held_out_nll"] for row in rows]
    assert min(held_out) == pytest.approx(found, abs=0.3), "held-out sessions are scored in full"


def test_all_items_as_negatives_descend_the_full_gradient():
    log = walks(60, 1, items=40)
    (_, few, _), (same, all_of_it, _) = (cloning(log, replace(QUICK, negatives=negatives), 0) for negatives in (40, 0))
    sessions = few.sessions[:20]
    loss, count = few.loss(sessions, 0)
    full, full_count = all_of_it.loss(sessions, 0)
    assert count == full_count and float(loss.detach()) == pytest.approx(float(full.detach()), rel=1e-5)
    loss.backward()
    full.backward()
    touched, whole = few.tables.touched, tables_of(same)
    for name, rows in touched.rows.items():
        torch.testing.assert_close(rows.grad, whole[name].grad[touched.items_of(name)], rtol=1e-3, atol=1e-4)


def test_a_step_moves_the_rows_it_touched_and_no_others():
    log = walks(200, 2)
    policy, objective, schedule = cloning(log, replace(QUICK, negatives=32), 0)
    before = [table.detach().clone() for table in tables_of(policy).values()]
    take_step(objective, optimisers_of(objective, schedule)["main"], schedule, objective.sessions[:10], 0)
    shown = np.unique(log.select(objective.sessions[:10]).items)
    for name, old in zip(tables_of(policy), before, strict=True):
        moved = (tables_of(policy)[name].detach() != old).any(1).nonzero()[:, 0].numpy()
        assert np.isin(shown, moved).sum() >= len(shown) - 20
        assert len(moved) <= len(shown) + (0 if name.startswith("encoder.") else 32)
        assert tables_of(policy)[name].grad is None


@pytest.mark.parametrize("change", [{}, {"tied": True, "dropout": 0.2}])
def test_a_clone_that_was_stopped_goes_on_to_the_same_bits(change, tmp_path):
    log, config = walks(200, 3, items=60), replace(QUICK, negatives=16, batch=40, epochs=4, **change)
    straight, killed, again = [], [], []

    def until_the_third(step: int, row: dict) -> None:
        killed.append((step, row))
        if len(killed) == 3:
            raise KeyboardInterrupt

    once = clone(log, config, on_metrics=lambda *row: straight.append(row))
    with pytest.raises(KeyboardInterrupt):
        clone(log, config, on_metrics=until_the_third, checkpoint=tmp_path / "run")
    other = clone(log, config, on_metrics=lambda *row: again.append(row), checkpoint=tmp_path / "run")
    assert_same(once, other)
    assert killed == straight[:3] and again == straight[2:]
    changed = clone(log, replace(config, negatives=17))
    assert not all(torch.equal(a, b) for a, b in zip(weights(once), weights(changed), strict=True))


def test_finetuning_with_negatives_earns_more_than_the_clone():
    """On a log without propensities: the clone's, against the same items, so that ratios start at 1."""
    world, log, start = one_case()
    log = replace(log, propensity=None)
    rows = []
    config = FinetuneConfig(epochs=3, negatives=8)
    better = finetune(start, log, config, 3, on_metrics=lambda _, row: rows.append(row))
    assert standard_errors(world, better, start) > 4
    assert {"finetune/kl_clone", "finetune/entropy"} <= rows[0].keys()
    assert rows[0]["finetune/kl_clone"] == pytest.approx(0, abs=1e-5)
    assert rows[0]["finetune/mean_weight"] == pytest.approx(1, abs=1e-5)


def test_all_items_as_negatives_finetune_by_the_same_losses():
    """The first step's diagnostics, before the two optimisers part."""
    _, log, start = one_case()
    first = []
    for negatives in (0, 20):
        rows = []
        config = FinetuneConfig(epochs=1, critic_warmup=3, negatives=negatives)
        finetune(start, log, config, 3, on_metrics=lambda _, row, rows=rows: rows.append(row))
        first.append(rows[0])
    assert first[0] == pytest.approx(first[1], rel=2e-3, abs=1e-5)


def test_a_clone_seen_by_turns_gives_the_same_gradient_on_average(monkeypatch):
    """All items as negatives, so that steps differ in the turn alone; weighted with the steps of each turn's sessions.

    Without propensities in the log all of the clone's are needed, and all sessions are held against it.
    """
    _, log, start = one_case()
    history, policy = log.batch(np.arange(40)), copy.deepcopy(start)
    with torch.no_grad():
        policy.bias.weight += torch.linspace(-1, 1, policy.catalogue)[:, None]
    took_place = history.happened & history.shown.any(-1)
    tables = Tables(policy, 0.01)
    steps = SampledSteps(Proposal.of(np.ones(policy.catalogue), policy.catalogue), Streams(0), tables)
    weigh = functools.partial(policy_gradient.per_step_weight, cap=3.0)
    credited = Credited(log_propensity(history), history.reward - 0.1, weigh)

    def gradient(turn):
        policy.zero_grad()
        seen = steps.look(policy, start, history, "steps", turn, learn=True)
        found = guarded(seen.run, history, credited, 0.5, 0.0)
        found.loss.backward()
        rows = [weight.grad.clone() for weight in (*tables.others(policy), *tables.leaves())]
        return [found.loss.detach(), found.kl, found.log_prob, *rows]

    whole = gradient(0)
    monkeypatch.setattr(sampled_steps, "REFERENCE_LOGITS", int(took_place.sum()) * policy.catalogue // 4 + 20)
    monkeypatch.setattr(turns, "FEWEST_STEPS", 1)
    found = [gradient(turn) for turn in range(4)]
    assert not torch.allclose(found[0][1], found[1][1])
    share = [float(took_place[turn::4].sum() / took_place.sum()) for turn in range(4)]
    for place, one in enumerate(whole):
        mean = sum(parts[place] * weight for parts, weight in zip(found, share, strict=True))
        torch.testing.assert_close(mean, one, rtol=1e-4, atol=1e-5)
    assert not steps.look(policy, start, history, "steps", 0).asked.whole
    assert steps.look(policy, start, replace(history, propensity=None), "steps", 0).asked.whole


def test_sessions_that_choose_are_bounded_by_their_logits(monkeypatch):
    log = walks(200, 4, items=50)
    held_out = np.arange(100, 200)
    assert np.array_equal(sampled.affordable(log, held_out, 50), held_out)
    few = sampled.affordable(log, held_out, 50, 50 * 8 * 7)
    assert len(few) == 7 and np.isin(few, held_out).all()
    assert len(sampled.affordable(log, held_out, 50, 1)) == 1


def test_what_cannot_be_is_refused():
    with pytest.raises(InputError, match=r"clone.negatives: -1 is below 0.*give 0"):
        CloneConfig(negatives=-1)
    with pytest.raises(InputError, match="leave out bfloat16 or negatives"):
        CloneConfig(negatives=8, bfloat16=True)
    with pytest.raises(InputError, match="FinetuneConfig negatives: -2 cannot be used"):
        FinetuneConfig(negatives=-2)
    world = easy_world()
    _, _, start = one_case()
    with pytest.raises(InputError, match="acting in a world draws from the whole catalogue"):
        finetune(start, world, FinetuneConfig(negatives=8))
