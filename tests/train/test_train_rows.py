"""Rows that are touched move as if the whole table had been stepped; the others do not move at all."""

from __future__ import annotations

import pytest
import torch
from logs_for_policies import log_with_all_columns
from torch import nn

from recil.policies.encoders import EncoderConfig
from recil.policies.softmax import SoftmaxPolicy
from recil.policies.touched import Touched, log_prob_of_sessions_by_items, tables_of
from recil.train.rows import RowRMSprop

ITEMS, WIDTH = 11, 3


def sparse(items: torch.Tensor, slope: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    return torch.sparse_coo_tensor(items[None], slope, shape, check_invariants=True)


def stepped(steps: int, weight_decay: float = 0.0, width: int = WIDTH):
    """The table after some steps, the gradients as whole tables, and which rows each step touched."""
    generator = torch.Generator().manual_seed(0)
    table = nn.Parameter(torch.randn(ITEMS, width, generator=generator))
    start, optimiser, whole, rows = table.detach().clone(), RowRMSprop([table], 0.05, weight_decay), [], []
    for _ in range(steps):
        items = torch.randperm(ITEMS - 1, generator=generator)[:4]
        slope = torch.randn(4, width, generator=generator)
        table.grad = sparse(items, slope, table.shape)
        optimiser.step()
        whole.append(torch.zeros(ITEMS, width).index_put((items,), slope))
        rows.append(items)
    return start, table.detach(), whole, rows


def test_steps_are_those_of_whole_tables_with_gradients_of_zero():
    start, found, whole, _ = stepped(40)
    square, expected = torch.zeros_like(start), start.clone()
    for step, slope in enumerate(whole, 1):
        square = 0.999 * square + 0.001 * slope**2
        expected -= 0.05 * slope / ((square / (1 - 0.999**step)).sqrt() + 1e-8)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(found[-1], start[-1])


@pytest.mark.parametrize("width", [WIDTH, 1])
def test_decay_takes_its_share_when_a_row_is_touched_and_leaves_biases(width):
    start, plain, _, rows = stepped(1, 0.0, width)
    _, decayed, _, _ = stepped(1, 0.4, width)
    share = torch.zeros(ITEMS, 1).index_fill(0, rows[0], 0.05 * 0.4 if width > 1 else 0.0)
    torch.testing.assert_close(decayed, plain - share * start)


@pytest.mark.parametrize("tied", [False, True])
def test_a_policy_over_the_touched_items_is_the_policy(tied):
    """States, item vectors with features, and the gradients of the rows, against those of the whole tables."""
    log = log_with_all_columns(12)
    policy = SoftmaxPolicy.for_log(log, EncoderConfig("gru", 6), tied=tied)
    sessions = log.batch()
    own = sessions.items[sessions.shown].unique()
    others = torch.arange(log.catalogue).flip(0)[:3]
    touched = Touched.of(policy, sessions, others, learn=True)
    assert set(touched.items.tolist()) == set(own.tolist()) | set(others.tolist())
    small = touched.relabelled(sessions)
    assert torch.equal(torch.where(small.shown, touched.items[small.items], -1), sessions.items)
    states, (weight, bias) = touched.call(lambda some: (some.before_steps(small), some.head()))
    whole = policy.before_steps(sessions), policy.output()[touched.items], policy.bias.weight[touched.items, 0]
    for found, expected in zip((states, weight, bias), whole, strict=True):
        torch.testing.assert_close(found, expected)
    sum(part.square().sum() for part in (states, weight, bias)).backward()
    sum(part.square().sum() for part in whole).backward()
    for name, table in tables_of(policy).items():
        torch.testing.assert_close(touched.rows[name].grad, table.grad[touched.items_of(name)])
    vectors, biases = policy.head(others)
    assert torch.equal(vectors, policy.output()[others]) and torch.equal(biases, policy.bias.weight[others, 0])
    by_items = log_prob_of_sessions_by_items(policy, sessions)
    torch.testing.assert_close(by_items, policy.log_prob_of_sessions(sessions).detach())
