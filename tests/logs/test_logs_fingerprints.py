"""Fingerprints: equal where the contents are, whatever the ids, the pads and the runs a log is read in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from logs_for_policies import log_with_all_columns

from recil.logs import fingerprints as module
from recil.logs.clusters import Clusters, clusters_of
from recil.logs.fingerprints import Fingerprints, fingerprints, log_chances
from recil.logs.session_log import Column, SessionLog

PARTS = ("given", "answer", "content")


def log() -> SessionLog:
    """Forty sessions with every kind of column, each once more behind them."""
    base = log_with_all_columns(40)
    base = replace(
        base,
        propensity=np.where(base.items >= 0, 0.25, 1).astype(np.float32),
        timestamp=np.arange(base.steps),
        terminated=np.arange(40) % 2 == 0,
        user_ids=np.arange(40) // 4,
    )
    twice = base.select(np.tile(np.arange(40), 2))
    return replace(twice, session_ids=np.arange(80), user_ids=np.append(base.user_ids, base.user_ids + 100))


def prints(source: SessionLog, cluster: str = "session") -> Fingerprints:
    return fingerprints(source, clusters_of(source, cluster))


def test_sessions_and_users_that_hold_the_same_are_equal_and_others_are_not() -> None:
    for cluster, count in (("session", 40), ("user", 10)):
        found = prints(log(), cluster)
        for part in PARTS:
            values = getattr(found, part)
            assert values.dtype == np.uint64 and values.shape == (2 * count,)
            assert (values[:count] == values[count:]).all()
        assert len(np.unique(found.content)) == count


def changes() -> dict[str, tuple[SessionLog, set[str]]]:
    """One thing of session 0 changed, and the parts that must see it."""
    base = log()
    given, answer = {"given", "content"}, {"answer", "content"}

    def with_one(name: str, value: float, slot: object = 0) -> SessionLog:
        values = getattr(base, name).copy()
        values[slot] = value
        return replace(base, **{name: values})

    def with_column(group: str, name: str) -> SessionLog:
        column = getattr(base, group)[name]
        values = column.values.copy()
        values[(0,) * values.ndim] += 1 if column.categories is None or values[(0,) * values.ndim] < 1 else -1
        return replace(base, **{group: {**getattr(base, group), name: Column(values, column.categories)}})

    return {
        "item": (with_one("items", 11, (0, 0)), given),
        "propensity": (with_one("propensity", 0.5, (0, 0)), given),
        "time": (with_one("timestamp", -1), given),
        "context number": (with_column("context", "context_hour"), given),
        "context code": (with_column("context", "context_tab"), given),
        "user number": (with_column("user_features", "user_age"), given),
        "user code": (with_column("user_features", "user_kind"), given),
        "reward": (with_one("reward", 0.5, (0, 0)), answer),
        "feedback number": (with_column("feedback", "seconds"), answer),
        "feedback code": (with_column("feedback", "answer"), answer),
        "the user left": (with_one("terminated", False), answer),
    }


@pytest.mark.parametrize("name", changes())
def test_every_column_counts_where_it_belongs(name: str) -> None:
    changed, parts = changes()[name]
    before, after = prints(log()), prints(changed)
    for part in PARTS:
        differs = getattr(before, part) != getattr(after, part)
        assert differs.tolist() == [part in parts] + [False] * 79, part


def test_the_order_of_slots_and_steps_counts() -> None:
    base = log()
    long = int(np.flatnonzero(base.lengths > 2)[0])
    first = int(base.offsets[long])
    for rows in ([first + 1, first], [first, first + 2, first + 1]):
        items = base.items.copy()
        items[first : first + len(rows)] = items[rows]
        assert prints(replace(base, items=items)).content[long] != prints(base).content[long]
    items = base.items.copy()
    items[first, :2] = items[first, 1::-1]
    assert prints(replace(base, items=items)).content[long] != prints(base).content[long]


def test_ids_pads_signs_of_zero_and_the_type_of_rewards_do_not_count() -> None:
    base = log()
    pad = base.items < 0
    assert pad.any()
    reward, propensity = base.reward.copy(), base.propensity.copy()
    reward[pad], propensity[pad] = 7, 0.5
    reward[reward == 0] = -0.0
    for other in (
        replace(base, reward=reward, propensity=propensity),
        replace(base, session_ids=base.session_ids[::-1].copy(), user_ids=None),
    ):
        for part in PARTS:
            assert (getattr(prints(other), part) == getattr(prints(base), part)).all()
    wide = prints(replace(base, reward=base.reward.astype(np.float64))).content
    assert len(np.unique(wide)) == 40 and (wide[:40] == wide[40:]).all()


@pytest.mark.parametrize("steps", [1, 7, 100])
def test_runs_of_any_length_give_the_same(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [getattr(prints(log(), cluster), part) for cluster in ("session", "user") for part in PARTS]
    monkeypatch.setattr(module, "_STEPS_AT_ONCE", steps)
    parts = [getattr(prints(log(), cluster), part) for cluster in ("session", "user") for part in PARTS]
    assert all((one == other).all() for one, other in zip(whole, parts, strict=True))


def test_sessions_of_a_user_count_in_any_order() -> None:
    base = log().select(np.arange(8))
    turned = base.select(np.arange(8)[::-1])
    of = np.array([0] * 4 + [1] * 4)
    one = fingerprints(base, Clusters("user", of, of, 2)).content
    other = fingerprints(turned, Clusters("user", of[::-1].copy(), of[::-1].copy(), 2)).content
    assert (one == other).all() and one[0] != one[1]


def test_few_values_of_many_columns_do_not_collide() -> None:
    """All 65,536 patterns of clicks on a slate of sixteen."""
    patterns = (np.arange(1 << 16)[:, None] >> np.arange(16)) & 1
    for kind in (np.float32, np.float64):
        source = SessionLog(
            item_ids=np.arange(16),
            items=np.tile(np.arange(16, dtype=np.int32), (1 << 16, 1)),
            reward=patterns.astype(kind),
            offsets=np.arange((1 << 16) + 1),
            session_ids=np.arange(1 << 16),
        )
        found = prints(source)
        assert len(np.unique(found.given)) == 1
        assert len(np.unique(found.answer)) == len(np.unique(found.content)) == 1 << 16


@pytest.mark.parametrize("steps", [3, 1 << 16])
def test_chances_are_products_of_propensities(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STEPS_AT_ONCE", steps)
    base = log()
    for cluster in ("session", "user"):
        units = clusters_of(base, cluster)
        shown = (base.items >= 0).sum(1)
        of_step = np.repeat(units.numbers, base.lengths)
        want = np.bincount(of_step, shown) * np.log(0.25)
        np.testing.assert_allclose(log_chances(base, units), want, rtol=1e-6)
