"""Estimators beside the usual ones, asked of a whole log: fitted models, columns they need, bad input."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from logs_of_worlds import case, take
from sums_of_sessions import arrays_of, look_at
from tiny_worlds import MoodyWorld, RecallPolicy

from recil.errors import InputError
from recil.evaluate import evaluate, simulate
from recil.evaluate.arrays import Extra
from recil.evaluate.estimators import TABLE, pseudo_inverse, uniform_second_moment
from recil.evaluate.pass_over import PassConfig, arrays_over, pass_over
from recil.evaluate.reward_model import fit_out_of_fold
from recil.evaluate.scoring import category_log_prob
from recil.evaluate.target_models import TargetRows, fit_least_variance, fit_q_evaluation
from recil.exact.enumerate import enumerate_sessions, true_value
from recil.logs.session_log import Column, SessionLog
from recil.policies.baselines import uniform

PLAIN = tuple(name for name in TABLE if name not in ("mis", "mis_dr", "mips", "replay"))
# What is unbiased, or nearly so, in the world of the tests; slates of two items there do not repeat one.
SOUND = (
    "ips",
    "snips",
    "beta_ips",
    "pdis",
    "pdwis",
    "dr",
    "wdr",
    "mrdr",
    "fqe_dr",
    "rips",
    "cascade_dr",
    "switch_dr",
    "dros",
)


@pytest.fixture(scope="module")
def small():
    return case(sessions=3000, items=3, horizon=2)


@pytest.fixture(scope="module")
def rows(small):
    return evaluate(small.target, small.log, estimators=PLAIN, replicates=200)


def test_estimates_lie_within_their_noise(small, rows):
    """Five standard errors: by chance once in a million times, for each of 13."""
    truth = true_value(small.world, small.target)
    for name in SOUND:
        error = float(rows[name].replicates.std())
        assert rows[name].raw.value == pytest.approx(truth, abs=5 * error)
        assert error < 0.1


def test_what_is_not_asked_for_changes_nothing(small, rows):
    alone = evaluate(small.target, small.log, estimators=("rips", "dr"), replicates=200)
    for row in alone:
        assert row.raw == pytest.approx(rows[row.estimator].raw, rel=1e-12)


def test_verdicts_name_what_is_supposed_and_what_is_fitted(rows):
    assert rows["dm"].verdict == rows["fqe"].verdict == "refuse"
    assert "model alone" in "; ".join(rows["fqe"].reasons)
    assert rows["iips"].verdict == "refuse" and "hangs on its item only" in "; ".join(rows["iips"].reasons)
    assert rows["subgaussian"].diagnostics.shrunk_share > 0.02
    assert "shrunk away" in "; ".join(rows["subgaussian"].reasons)
    assert rows["switch_dr"].diagnostics.bias_of_width < 1e-6
    assert rows["subgaussian"].diagnostics.lost_of_width > 0.1 and rows["dros"].diagnostics.lost_of_width == 0.0
    assert rows["rips"].ess > rows["pdis"].ess
    assert rows["wdr"].verdict == "trust"
    assert rows.best.estimator == "pdwis"
    assert replace(rows, rows=(rows["dm"], rows["wdr"], rows["mrdr"])).best.estimator == "wdr"
    assert max(map(len, str(rows).splitlines())) <= 80


def test_a_model_that_the_log_contradicts_is_refused():
    """Item 2 pays .6 in sessions that start with it, and the rest nothing: an additive model is wrong, and it shows."""
    log, _ = additive_log(8000, 1)
    paid = np.repeat((log.items[log.offsets[:-1], 0] == 2), log.lengths)[:, None] & (log.items == 2)
    log = replace(log, reward=paid.astype(np.float32) * 0.6, propensity=np.full(log.items.shape, 1 / 3, np.float32))
    target = RecallPolicy(torch.tensor([0.0, 0.0, 1.5]).double().expand(4, 2, 3))
    found = evaluate(target, log, estimators=("dm", "subgaussian(0.5)", "dr"), replicates=200)
    for name in ("dm", "subgaussian(0.5)"):
        assert found[name].verdict == "refuse"
        assert found[name].diagnostics.bias_of_width > 2
        assert any("less biased" in reason for reason in found[name].reasons)
    assert found["dr"].diagnostics.bias_of_width == 0.0


def test_halves_merge_into_the_whole(small):
    asked = tuple(TABLE[name] for name in ("beta_ips", "rips", "iips", "pi", "cips", "subgaussian"))
    config = PassConfig(replicates=30, model=False, estimators=asked)
    halves = [np.arange(0, 3000, 2), np.arange(1, 3000, 2)]
    one, other = (pass_over({"": small.target}, take(small.log, half), None, config)[""].sums for half in halves)
    whole = pass_over({"": small.target}, small.log, None, config)[""].sums
    for estimator in asked:
        torch.testing.assert_close(estimator.value(one.merge(other)), estimator.value(whole), rtol=1e-10, atol=0)


def test_an_estimator_of_ones_own(small):
    """Uniform slates of a world: the pseudo-inverse as an object, beside a name."""
    uniform = RecallPolicy(torch.zeros(4, 2, 3).double())
    log = simulate(uniform, small.world, 2000, 3)
    found = evaluate(
        small.target, log, estimators=(pseudo_inverse(uniform_second_moment(3, 2)), "pdis"), replicates=100
    )
    own = found["pseudo_inverse"]
    truth = true_value(small.world, small.target)
    assert own.raw.value == pytest.approx(truth, abs=5 * float(own.replicates.std()))


def test_a_one_sided_bound(rows):
    row = rows["pdwis"]
    assert row.low < row.at_least(0.95) < row.value
    assert row.at_least(0.975) == pytest.approx(row.low)
    assert np.isnan(replace(row, verdict="refuse").at_least())


def with_columns(log: SessionLog) -> SessionLog:
    """The state is the last item and its click, as the policies see it; items 0 and 1 are of one category."""
    first = np.zeros(log.steps, dtype=bool)
    first[log.offsets[:-1]] = True
    last = np.append(0, log.items[:-1, 0] + 1)
    click = np.append(0, (log.reward[:-1] > 0).any(1))
    state = np.where(first, 0, last * 2 + click).astype(np.int32)
    names = tuple(str(code) for code in range(2 * log.catalogue + 2))
    category = np.array([0, 0, *range(1, log.catalogue - 1)], dtype=np.int32)
    return replace(
        log,
        context={"state": Column(state, names)},
        item_features={"kind": Column(category, tuple("abcdefgh")), "size": Column(np.ones(log.catalogue, np.float32))},
    )


def look_at_log(log: SessionLog, target) -> torch.Tensor:
    """The state as estimators see it, [S, T, states]."""
    found = torch.zeros(log.sessions, int(log.lengths.max()), len(log.context["state"].categories) + 1)
    config = PassConfig(replicates=2, model=False, estimators=(TABLE["mis"],), state="state")
    for part in arrays_over({"": target}, log, None, config):
        state = part.arrays.extra[Extra.STATE]
        found[torch.from_numpy(part.sessions), : state.shape[1]] = state.float()
    return found.double()


def test_columns_of_the_log_are_states_and_categories():
    world = MoodyWorld.make(3, 1, 3)
    alike = replace(world, click=world.click[:, [0, 0, 2]])
    behaviour, target = (RecallPolicy(RecallPolicy.make(3, seed, 0.5).table[[0, 1, 1, 3]]) for seed in (1, 2))
    log = with_columns(simulate(behaviour, alike, 3000, 11))
    look = look_at_log(log, target)
    assert look.sum(2).tolist() == log.batch().happened.double().tolist()
    coded = (look.argmax(2) - 1)[log.batch().happened].numpy()
    np.testing.assert_array_equal(np.sort(coded), np.sort(log.context["state"].values))
    options = {"state": "state", "category": "kind", "behaviour": behaviour, "replicates": 100}
    found = evaluate(target, log, estimators=("mips", "mis", "mis_dr", "pdis"), **options)
    truth = true_value(alike, target)
    # Five standard errors; moods are hidden from the state, which biases mis a little: .02 is left for that.
    assert found["mips"].raw.value == pytest.approx(truth, abs=5 * float(found["mips"].replicates.std()))
    for name in ("mis", "mis_dr"):
        assert found[name].raw.value == pytest.approx(truth, abs=0.02 + 5 * float(found[name].replicates.std()))
    assert found["mips"].ess > found["pdis"].ess
    elsewhere = replace(
        log,
        items=np.pad(log.items, ((0, 0), (1, 1)), constant_values=-1),
        reward=np.pad(log.reward, ((0, 0), (1, 1))),
        propensity=np.pad(log.propensity, ((0, 0), (1, 1)), constant_values=1),
    )
    again = category_log_prob(uniform(log), elsewhere.batch(), torch.tensor([0, 0, 1]))
    assert again.exp()[0, 0] == pytest.approx(1 / 3 if log.items[0, 0] == 2 else 2 / 3)
    assert {row.verdict for row in found} == {"refuse", "trust"}
    refused = [
        ({"estimators": ("mis",)}, "no categorical context"),
        ({"estimators": ("mis",), "state": "size"}, "no categorical context"),
        ({"estimators": ("mips",), "behaviour": behaviour}, "one category per item"),
        ({"estimators": ("mips",), "behaviour": behaviour, "category": "size"}, "one category per item"),
        ({"estimators": ("mips",), "category": "kind"}, "probability of every item"),
    ]
    for wrong, reason in refused:
        with pytest.raises(InputError, match=reason):
            evaluate(target, log, **wrong)
    many = replace(log, context={"state": Column(np.zeros(log.steps, np.int32), tuple(map(str, range(500))))})
    with pytest.raises(InputError, match="too many"):
        evaluate(target, many, estimators=("mis",), state="state")


def test_categories_are_of_single_items(small):
    log = with_columns(small.log)
    with pytest.raises(InputError, match="slates of one item only"):
        evaluate(small.target, log, estimators=("mips",), behaviour=small.behaviour, category="kind")


def additive_log(sessions: int, seed: int) -> tuple[SessionLog, float]:
    """Uniform choice among 3 items over 4 steps, paying .1, .3 or .6; sessions go on w.p. .7. The value of item 2."""
    draw = np.random.default_rng(seed)
    lengths = np.minimum(draw.geometric(0.3, sessions), 4)
    steps = int(lengths.sum())
    items = draw.integers(0, 3, (steps, 1)).astype(np.int32)
    reward = (draw.random((steps, 1)) < np.array([0.1, 0.3, 0.6])[items]).astype(np.float32)
    log = SessionLog(
        np.arange(3), items, reward, np.append(0, np.cumsum(lengths)), np.arange(sessions), np.full_like(reward, 1 / 3)
    )
    return log, 0.6 * sum(0.7**step for step in range(4))


def test_fitted_q_evaluation_values_the_target_and_not_the_log():
    """Always item 2: the rewards ahead are the target's, not the logged ones, on which the plain model stands."""
    log, truth = additive_log(6000, 0)
    fold = np.arange(log.sessions) % 2
    rows = TargetRows(np.zeros(log.steps), np.zeros(log.steps), np.full_like(log.items, 2))
    plain = fit_out_of_fold(log, fold, 2, 1.0)
    fitted = fit_q_evaluation(log, fold, 2, 1.0, rows, plain)

    def value(model):
        own = torch.full((1, 1, 1), 2)
        return float(model.value(own, torch.ones(1, 1, dtype=torch.bool), torch.zeros(1, dtype=torch.long)))

    assert value(fitted) == pytest.approx(truth, abs=0.06)
    assert truth - value(plain) > 0.3
    discounted = fit_q_evaluation(log, fold, 2, 0.0, rows, fit_out_of_fold(log, fold, 2, 0.0))
    assert value(discounted) == pytest.approx(0.6, abs=0.04)
    assert float(discounted.ahead.abs().max()) == 0.0


def test_the_least_variance_is_where_the_weights_of_least_squares_say():
    """One step, a deterministic target and a model of one number c for all items: the exact variance of DR is smallest
    at the mean reward under weights w² (1 - β), which plain least squares misses."""
    world = MoodyWorld.make(3, 1, 1)
    table = torch.full((4, 2, 3), -torch.inf).double()
    # The target shows another item after each mood of the past; here the past is empty, so one item.
    table[..., 0] = 0.0
    behaviour = RecallPolicy.make(3, 1)
    listed = enumerate_sessions(world, behaviour)
    look = look_at(listed, RecallPolicy(table))
    arrays = arrays_of(look, frozenset())
    weight, reward = arrays.log_weight[:, 0].exp(), arrays.reward[:, 0]
    least = listed.probability * weight.square() * (1 - look.log_propensity[:, 0, 0].exp())
    best = float((least * reward).sum() / least.sum())
    plain = float(listed.probability @ reward)

    def variance(constant):
        score = constant + weight * (reward - constant)
        return float(listed.probability @ score.square()) - float(listed.probability @ score) ** 2

    assert abs(best - plain) > 0.02
    assert variance(best) < min(variance(best - 0.01), variance(best + 0.01), variance(plain))


def test_the_least_variance_model_is_weighted_least_squares():
    """Two items, one fold: the weighted means of rewards by hand, and of the target's rewards ahead."""
    draw = np.random.default_rng(0)
    sessions = 500
    items = draw.integers(0, 2, (sessions, 1)).astype(np.int32)
    propensity = np.where(items == 0, 0.8, 0.2).astype(np.float32)
    reward = draw.random((sessions, 1)).astype(np.float32)
    log = SessionLog(np.arange(2), items, reward, np.arange(sessions + 1), np.arange(sessions), propensity)
    log_ratio = np.log(0.5 / propensity[:, 0].astype(float))
    rows = TargetRows(log_ratio, np.log(propensity[:, 0].astype(float)), items)
    model = fit_least_variance(log, np.ones(sessions, dtype=int), 1, 1.0, rows)
    weight = np.exp(2 * log_ratio) * (1 - propensity[:, 0])
    assert float(model.position[0, 0]) == pytest.approx(np.average(reward[:, 0], weights=weight), rel=1e-6)
    assert float(model.ahead[0, 0]) == 0.0
    assert abs(float(model.position[0, 0]) - reward.mean()) > 0.001


def test_the_least_variance_model_in_sessions():
    """Two steps: the second counts by the product of ratios, the first looks ahead as the target would."""
    draw = np.random.default_rng(1)
    sessions, gamma = 400, 0.9
    items = draw.integers(0, 2, (2 * sessions, 1)).astype(np.int32)
    propensity = np.where(items == 0, 0.6, 0.4)
    reward = draw.random((2 * sessions, 1)).astype(np.float32)
    log = SessionLog(np.arange(2), items, reward, np.arange(sessions + 1) * 2, np.arange(sessions), propensity)
    ratio = np.where(items == 0, 0.3 / 0.6, 0.7 / 0.4)[:, 0]
    rows = TargetRows(np.log(ratio), np.log(propensity[:, 0]), items)
    model = fit_least_variance(log, np.ones(sessions, dtype=int), 1, gamma, rows)
    ratio, unsure, paid = ratio.reshape(-1, 2), 1 - propensity[:, 0].reshape(-1, 2), reward.reshape(-1, 2)
    first = np.square(ratio[:, 0]) * unsure[:, 0]
    second = np.square(gamma * ratio[:, 0] * ratio[:, 1]) * unsure[:, 1]
    assert float(model.ahead[0, 0]) == pytest.approx(
        np.average(gamma * ratio[:, 1] * paid[:, 1], weights=first), rel=1e-5
    )
    wanted = np.average(paid.ravel(), weights=np.stack([first, second], 1).ravel())
    assert float(model.position[0, 0]) == pytest.approx(wanted, rel=1e-5)
    never = TargetRows(np.where(items[:, 0] == 0, -np.inf, 0.1), rows.log_propensity, items)
    assert torch.isfinite(fit_least_variance(log, np.ones(sessions, dtype=int), 1, gamma, never).item).all()
