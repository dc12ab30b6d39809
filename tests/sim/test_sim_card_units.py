"""The card of a log that names its users: errors and tests count users, since a user's sessions are alike."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from known_users import SMALL, altered, log_of_users, sessions_of, with_baselines
from scipy import stats

from recil.logs.session_log import SessionLog
from recil.random import Streams
from recil.sim.card import CardThresholds, SimulatorCard, read_card, simulated, validate
from recil.sim.card.classifier import told_apart
from recil.sim.card.click_tables import click_tables
from recil.sim.card.held_out import HeldOut
from recil.sim.card.judge import Judgement, judge_rates, judge_units
from recil.sim.card.leaving import leaving_of
from recil.sim.generate import Truth
from recil.sim.predict import predict
from recil.sim.users import UserModel

LOGS, USERS, EACH = 24, 30, 20
SESSIONS = USERS * EACH
SOME = CardThresholds(level=0.05)


@pytest.fixture(scope="module")
def world() -> Truth:
    """Users who differ strongly in their readiness to click."""
    return Truth(SMALL.model_copy(update={"types": 8, "readiness_spread": 1.5, "horizon": 3}))


@pytest.fixture(scope="module")
def users(world) -> UserModel:
    """Those of the world themselves, who know of a session's user what the session itself tells."""
    return with_baselines(world.world.users, sessions_of(world, 500, seed=7))


@pytest.fixture(scope="module")
def logs(world) -> SessionLog:
    """All logs in one: their users follow one another."""
    log = log_of_users(world, [EACH] * (LOGS * USERS))
    return log.select(np.argsort(log.user_ids, kind="stable"))


def doubted(users: UserModel, logs: SessionLog, *clusters: str | None) -> list[int]:
    """In how many logs the tests of rates doubt the users at a level of 5%, with each of these units."""
    found, count = predict(users, logs), dict.fromkeys(clusters, 0)
    for first in range(0, logs.sessions, SESSIONS):
        steps = slice(logs.offsets[first], logs.offsets[first + SESSIONS])
        log = logs.select(np.arange(first, first + SESSIONS))
        for cluster in clusters:
            seen, judgement = HeldOut(log, cluster), Judgement()
            tables = click_tables(found.click[steps][seen.shown], seen)
            judge_rates(tables, leaving_of(found.leave[steps], users.leaving_rate, seen), SOME, judgement)
            count[cluster] += judgement.verdict != "trust"
    return list(count.values())


def test_the_tests_of_rates_keep_their_level_where_users_come_again(users, logs) -> None:
    """20 sessions a user, the truth at a level of 5%: a false alarm here has a chance of 1e-6 on either side."""
    by_user, by_session = doubted(users, logs, None, "session")
    assert stats.binom.sf(by_user - 1, LOGS, 0.05) > 1e-6
    # Were sessions the units, as they are not, the truth would be doubted every other time.
    assert stats.binom.sf(by_session - 1, LOGS, 0.05) < 1e-6
    few = logs.select(np.arange(4 * SESSIONS))
    assert doubted(altered(users, appeal=users.behaviour.appeal + float(np.log(2))), few, None) == [4]


def twice(log: SessionLog) -> SessionLog:
    """Every session stands there twice, both times as its user's: what was one session is a user now."""
    again = log.select(np.repeat(np.arange(log.sessions), 2))
    return replace(again, session_ids=np.arange(again.sessions), user_ids=np.repeat(log.session_ids, 2))


@pytest.fixture(scope="module")
def nameless(world) -> SessionLog:
    """A log that names no users."""
    return sessions_of(world, 600, seed=8)


@pytest.fixture(scope="module")
def once(users, nameless) -> SimulatorCard:
    return validate(users, nameless)


def test_a_log_that_stands_twice_tells_nothing_more(users, nameless, once) -> None:
    """The doubled sums of users are those of the sessions; of twice as many sessions errors would be less by a root."""
    doubled = twice(nameless)
    card, naive = validate(users, doubled), validate(users, doubled, cluster="session")
    assert (card.cluster, card.units, card.sessions) == ("user", nameless.sessions, 2 * nameless.sessions)
    assert (naive.cluster, naive.units) == ("session", 2 * nameless.sessions)
    for row, other, wrong in zip(once.rows, card.rows, naive.rows, strict=True):
        assert (other.versus, other.error) == pytest.approx((row.versus, row.error))
        assert wrong.error == pytest.approx(row.error / np.sqrt(2))
    assert card.leaving.error == pytest.approx(once.leaving.error)
    assert naive.leaving.error == pytest.approx(once.leaving.error / np.sqrt(2))
    for row, other, wrong in zip(*(each.leaving.survival for each in (once, card, naive)), strict=True):
        assert (other.observed, other.error) == pytest.approx((row.observed, row.error))
        assert wrong.error == pytest.approx(row.error / np.sqrt(2))
    for table, wrong in zip(card.groups_frame().groupby("table"), naive.groups_frame().groupby("table"), strict=True):
        # A root of two, but where events of a slate that exclude one another set the least.
        assert (table[1]["error"] > 1.1 * wrong[1]["error"]).all(), table[0]


def test_errors_of_free_running_sessions_and_of_areas_count_users(users, nameless, once) -> None:
    """Sessions under their own names, and under the names of users: the same draws, other errors."""
    logs = [replace(nameless, user_ids=np.arange(600) // each) for each in (1, 20)]
    alone, together = (validate(users, each).simulated for each in logs)
    assert alone == once.simulated
    apart = [row.error != other.error for row, other in zip(alone.rows, together.rows, strict=True)]
    assert apart == [True] * (len(apart) - 1) + [False]  # coverage is of the whole log
    assert [row.simulated for row in alone.rows] == [row.simulated for row in together.rows]
    assert together.click_error != alone.click_error and together.session_error != alone.session_error


def test_a_part_of_a_large_log_keeps_its_units(users, nameless, monkeypatch) -> None:
    monkeypatch.setattr(simulated, "SESSIONS", 200)
    named = replace(nameless, user_ids=np.arange(600) // 20)
    part, divided = validate(users, named).simulated, validate(users, named, cluster="session").simulated
    assert divided == validate(users, nameless).simulated and divided.sessions == 200
    assert part.click_error != divided.click_error and part.click_area != divided.click_area


def test_a_classifier_never_learns_on_a_user_whom_it_is_tested_on() -> None:
    """Every user's rows are told from the simulated by a mark of the user's own: learned on the user, they would be."""
    generator = np.random.default_rng(0)
    user = np.repeat(np.arange(40), 10)
    marks = np.zeros((400, 40))
    marks[np.arange(400), user] = 1.0
    logged = np.concatenate([marks * generator.choice([-1, 1], 40), generator.normal(size=(400, 1))], 1)
    simulated = np.concatenate([np.zeros((400, 40)), generator.normal(size=(400, 1))], 1)
    area, _ = told_apart(logged, simulated, user, user, Streams(0))
    known, _ = told_apart(logged, simulated, np.arange(400), np.arange(400), Streams(0))
    assert known > 0.9 > 0.7 > area
    assert np.isnan(told_apart(logged, simulated, 0 * user, 0 * user, Streams(0))).all()


def test_a_card_on_few_users_says_so(world, users) -> None:
    log = log_of_users(world, [8] * 29)
    card, seen = validate(users, log), HeldOut(log)
    assert "rests on 29 users in 232 sessions: errors hold from 30 users on" in card.reasons
    assert card.units == 29 and card.verdict != "trust" and "in 232 sessions of 29 users\n" in str(card)
    assert "232 sessions of 29 users" in card.markdown() and "with users as the units" in card.html()
    apart = predict(users, log).click[seen.shown] - seen.clicked
    sums = np.bincount(log.user_ids[seen.owner[seen.row]], apart - apart.mean())
    assert card.group("all").groups[0].error == pytest.approx(np.sqrt((sums**2).sum()) / len(apart))
    asked = validate(users, log, cluster="session")
    assert "rests on" not in " ".join(asked.reasons) and "in 232 sessions\n" in str(asked)
    for least, doubts in ((29, 0), (30, 1)):
        judge_units(seen.units, CardThresholds(least_units=least), found := Judgement())
        assert len(found.reasons) == doubts and found.verdict == ("caution" if doubts else "trust")
    judge_units(HeldOut(log.select(np.arange(9)), "session").units, CardThresholds(), found := Judgement())
    assert found.reasons == ()


def test_survival_is_shown_while_enough_users_go_on(world, users) -> None:
    log = log_of_users(world, [10] * 19)
    assert validate(users, log).leaving.survival == ()
    assert len(validate(users, log, cluster="session").leaving.survival) == 3


def test_one_session_a_user_is_one_session(users, nameless, once) -> None:
    named = replace(nameless, user_ids=np.array([f"user {name}" for name in nameless.session_ids], dtype=object))
    card = validate(users, named)
    assert replace(card, cluster="session") == once and card.cluster == "user"


def test_a_card_of_the_first_schema_counted_sessions(once, tmp_path) -> None:
    once.save(tmp_path)
    kept = json.loads((tmp_path / "card.json").read_text(encoding="utf-8"))
    for part in ("cluster", "units"):
        del kept[part]
    del kept["thresholds"]["least_units"]
    (tmp_path / "card.json").write_text(json.dumps({**kept, "recil_card": 1}), encoding="utf-8")
    again = read_card(tmp_path)
    assert (again.cluster, again.units, again.thresholds.least_units) == ("session", once.sessions, 0)
    assert replace(again, thresholds=once.thresholds) == once
