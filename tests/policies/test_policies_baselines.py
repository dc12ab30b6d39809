"""Baselines against what can be worked out by hand."""

import math

import numpy as np
import pytest
import torch
from logs_for_policies import ITEMS, log_with_all_columns

from recil.errors import InputError
from recil.logs.history import History
from recil.logs.session_log import Column, SessionLog
from recil.policies.frequencies import popular, uniform
from recil.policies.markov import markov
from recil.policies.neighbours import NeighboursConfig, knn
from recil.policies.protocol import log_prob_of_sessions

START = History.start(torch.arange(1), 1)


def log_of(*sessions: list[int], items: int, rewarded: set[int] = frozenset(), answers=None) -> SessionLog:
    shown = np.concatenate(sessions).astype(np.int32)[:, None]
    feedback = (
        {} if answers is None else {"answer": Column(np.concatenate(answers).astype(np.int32)[:, None], ("x", "y"))}
    )
    return SessionLog(
        np.arange(items),
        shown,
        np.isin(shown, list(rewarded)).astype(np.float32),
        np.cumsum([0, *map(len, sessions)]),
        np.arange(len(sessions)),
        feedback=feedback,
    )


def probabilities(policy, history: History) -> torch.Tensor:
    return policy.next_logits(history).softmax(1)


def test_uniform_gives_every_item_the_same():
    log = log_with_all_columns()
    torch.testing.assert_close(probabilities(uniform(log), log.batch()), torch.full((log.sessions, ITEMS), 1 / ITEMS))


def test_popular_draws_by_smoothed_clicks():
    log = log_of([0, 0, 1], [1, 2, 1], items=4, rewarded={0, 1})
    weights = torch.tensor([3.0, 4.0, 1.0, 1.0])
    torch.testing.assert_close(probabilities(popular(log, temperature=1.0), START)[0], weights / weights.sum())
    sharper = weights**2
    torch.testing.assert_close(probabilities(popular(log), START)[0], sharper / sharper.sum())


def test_popular_counts_what_was_shown_where_nothing_was_rewarded():
    log = log_of([0, 0, 1], items=3)
    torch.testing.assert_close(probabilities(popular(log, 1.0), START)[0], torch.tensor([3.0, 2.0, 1.0]) / 6)
    with pytest.raises(InputError, match="popular"):
        popular(log, temperature=0.0)


def knn_by_loops(log: SessionLog, config: NeighboursConfig, history: History) -> torch.Tensor:
    """Every logged session compared with every session of the batch, one after the other."""
    held = np.zeros((log.sessions, log.catalogue))
    for number in range(log.sessions):
        for step in range(log.offsets[number], log.offsets[number + 1]):
            for item, reward in zip(log.items[step], log.reward[step], strict=True):
                if item >= 0:
                    held[number, item] += 1.0 if reward > 0 else config.shown
    popularity = held.sum(0) + config.shown
    popularity /= popularity.sum()
    result = []
    for row in range(history.batch):
        score, length = np.zeros(log.catalogue), int(history.length[row])
        for step in range(max(0, length - config.steps), length):
            for item, reward in zip(history.items[row, step].tolist(), history.reward[row, step].tolist(), strict=True):
                if item >= 0:
                    weight = (1.0 if reward > 0 else config.shown) * config.recency ** (length - 1 - step)
                    for other in held:
                        found = weight * other[item] / np.linalg.norm(other) * other
                        found[item] = 0.0
                        score += found
        likely = score / score.sum() if score.sum() > 0 else popularity
        result.append((1 - config.mixture) * likely + config.mixture * popularity)
    return torch.tensor(np.array(result), dtype=torch.float32)


@pytest.mark.parametrize("config", [NeighboursConfig(), NeighboursConfig(shown=0.5, recency=0.5, steps=2, mixture=0.3)])
def test_knn_is_the_sum_over_all_neighbours(config):
    log = log_with_all_columns(25)
    history = log.batch().take(torch.arange(0, 25, 3))
    expected = knn_by_loops(log, config, history)
    torch.testing.assert_close(probabilities(knn(log, config), history), expected, rtol=1e-4, atol=1e-6)
    empty = probabilities(knn(log, config), START)
    torch.testing.assert_close(empty, knn_by_loops(log, config, START), rtol=1e-4, atol=1e-6)


def test_knn_keeps_only_the_nearest_neighbours_of_each_item():
    log = log_of([0, 1], [0, 1], [0, 2], items=3)
    policy = knn(log, NeighboursConfig(nearest=1, mixture=1e-6))
    history = START.append(torch.tensor([[0]]), torch.zeros(1, 1))
    assert probabilities(policy, history)[0].tolist() == pytest.approx([0, 1, 0], abs=1e-5)


def test_markov_backs_off_from_answer_to_item_to_popularity():
    log = log_of([0, 1, 2], [0, 2], [0, 1], items=3, answers=[[0, 1, -1], [1, -1], [0, 0]])
    policy = markov(log, ("answer",), strength=(2.0, 5.0))
    followed = np.array([0, 2, 2]) + 1.0
    popularity = followed / followed.sum()

    def expected(own: list[int], item: list[int]) -> list[float]:
        broad = (np.array(item) + 5.0 * popularity) / (sum(item) + 5.0)
        return ((np.array(own) + 2.0 * broad) / (sum(own) + 2.0)).tolist()

    def found(item: int, answer: int) -> list[float]:
        history = START.append(torch.tensor([[item]]), torch.zeros(1, 1), feedback={"answer": torch.tensor([[answer]])})
        return probabilities(policy, history)[0].tolist()

    assert found(0, 0) == pytest.approx(expected([0, 2, 0], [0, 2, 1]), rel=1e-5)
    assert found(0, 1) == pytest.approx(expected([0, 0, 1], [0, 2, 1]), rel=1e-5)
    assert found(0, -1) == pytest.approx(expected([0, 0, 0], [0, 2, 1]), rel=1e-5)
    assert found(1, 1) == pytest.approx(expected([0, 0, 1], [0, 0, 1]), rel=1e-5)
    first = (np.array([3, 0, 0]) + 5.0 * popularity) / 8.0
    assert probabilities(policy, START)[0].tolist() == pytest.approx(first.tolist(), rel=1e-5)


def test_markov_looks_at_the_rewarded_item_of_a_slate():
    log = log_with_all_columns()
    policy = markov(log)
    slate = torch.tensor([[3, 5, 7]])
    start = History.start(torch.arange(1), 3)
    first, rewarded = (start.append(slate, torch.tensor([[0.0, 0.0, reward]])) for reward in (0.0, 1.0))
    alone = [
        probabilities(policy, History.start(torch.arange(1), 1).append(torch.tensor([[item]]), torch.zeros(1, 1)))
        for item in (3, 7)
    ]
    torch.testing.assert_close(probabilities(policy, first), alone[0])
    torch.testing.assert_close(probabilities(policy, rewarded), alone[1])


def test_markov_chooses_how_much_to_smooth_by_held_out_likelihood():
    """On a sparse chain the chosen constants are no worse than any of a row of others, and better than far too many."""
    draw = np.random.default_rng(0)
    chain = draw.dirichlet(np.full(30, 0.1), 30)

    def sessions(number: int) -> SessionLog:
        made = []
        for _ in range(number):
            items = [int(draw.integers(30))]
            for _ in range(5):
                items.append(int(draw.choice(30, p=chain[items[-1]])))
            made.append(items)
        return log_of(*made, items=30)

    log, fresh = sessions(150), sessions(300).batch()

    def loss(policy) -> float:
        return -float(log_prob_of_sessions(policy, fresh)[:, 1:].mean())

    chosen = loss(markov(log))
    assert chosen <= min(loss(markov(log, strength=(1e-3, item))) for item in (0.5, 2.0, 8.0, 32.0, 128.0)) + 0.05
    assert chosen < loss(markov(log, strength=(500.0, 500.0))) - 0.1
    assert chosen < math.log(30)


def test_markov_refuses_columns_it_cannot_count():
    log = log_with_all_columns()
    with pytest.raises(InputError, match="column seconds: is numeric"):
        markov(log, ("seconds",))
    with pytest.raises(InputError, match="feedback column tone: is not in the log"):
        markov(log, ("tone",))
    with pytest.raises(InputError, match=r"markov\.strength"):
        markov(log, ("answer",), strength=(0.0, 1.0))


def test_markov_without_transitions_still_recommends():
    log = log_of([0], [1], items=3)
    assert probabilities(markov(log), START)[0].sum().item() == pytest.approx(1.0)
