"""A log split in time: sessions that were divided come whole again, and predictions know what went before."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from recil.errors import InputError
from recil.logs.select import cut
from recil.logs.session_log import SessionLog
from recil.sim.card import validate
from recil.sim.earlier import with_earlier
from recil.sim.predict import predict
from recil.sim.reference import ReferenceConfig, fit_reference


def divided(log: SessionLog, at: np.ndarray) -> tuple[SessionLog, SessionLog]:
    """The first `at` steps of each session, and the others."""
    everyone, at = np.arange(log.sessions), np.minimum(at, log.lengths)
    first = cut(log, everyone, log.offsets[:-1], at)
    return first, cut(log, everyone, log.offsets[:-1] + at, log.lengths - at)


@pytest.fixture(scope="module")
def parts(columns: SessionLog) -> tuple[SessionLog, SessionLog]:
    """Sessions that are only earlier, only later, and divided."""
    first, second = divided(columns, np.arange(columns.sessions) % 4)
    backwards = np.arange(first.sessions)[::-1].copy()
    assert 0 < np.isin(second.session_ids, first.session_ids).sum() < second.sessions < columns.sessions
    return first.select(backwards), second


def test_divided_sessions_are_whole_again(columns, parts) -> None:
    before, log = parts
    whole, rows = with_earlier(log, before)
    place = {name: number for number, name in enumerate(columns.session_ids.tolist())}
    there = columns.select(np.array([place[name] for name in log.session_ids.tolist()]))
    assert whole == replace(there, notes=whole.notes)
    assert np.array_equal(whole.items[rows], log.items) and np.array_equal(whole.reward[rows], log.reward)
    owner = np.repeat(np.arange(whole.sessions), whole.lengths)
    assert np.array_equal(np.bincount(owner[rows]), log.lengths)


def test_without_an_earlier_part_nothing_changes(columns) -> None:
    whole, rows = with_earlier(columns, None)
    assert whole is columns and np.array_equal(rows, np.arange(columns.steps))


def test_predictions_know_what_went_before(columns, parts, fitted_to_columns) -> None:
    before, log = parts
    whole, rows = with_earlier(log, before)
    known, wanted = predict(fitted_to_columns, log, before=before), predict(fitted_to_columns, whole)
    np.testing.assert_allclose(known.click, wanted.click[rows], atol=1e-6)
    np.testing.assert_allclose(known.leave, wanted.leave[rows], atol=1e-6)
    anew = predict(fitted_to_columns, log)
    led = np.isin(log.session_ids, before.session_ids)
    moved = np.abs(known.click - anew.click).max(1)
    assert moved[np.repeat(led, log.lengths)].max() > 0.01 and moved[~np.repeat(led, log.lengths)].max() < 1e-6


def test_the_later_part_is_scored_given_the_earlier(parts, fitted_to_columns) -> None:
    """log p(later | earlier) = log p(whole) - log p(earlier), whose sessions have not ended."""
    before, log = parts
    whole, _ = with_earlier(log, before)
    unended = replace(before, terminated=np.zeros(before.sessions, dtype=bool))
    earlier = dict(zip(before.session_ids.tolist(), predict(fitted_to_columns, unended).log_prob, strict=True))
    told = np.array([earlier.get(name, 0.0) for name in log.session_ids.tolist()])
    found = predict(fitted_to_columns, log, before=before).log_prob
    np.testing.assert_allclose(found, predict(fitted_to_columns, whole).log_prob - told, atol=1e-4)
    assert np.abs(told).max() > 0.5


def test_the_reference_and_the_card_know_it_too(parts, fitted_to_columns) -> None:
    before, log = parts
    whole, rows = with_earlier(log, before)
    reference = fit_reference(before, ReferenceConfig(width=4, epochs=3, batch=64, learning_rate=0.05))
    every = np.zeros(whole.items.shape)
    every[whole.items >= 0] = reference.predict(whole)
    wanted = every[rows][log.items >= 0]
    np.testing.assert_allclose(reference.predict(log, before), wanted, atol=1e-6)
    assert np.abs(reference.predict(log) - wanted).max() > 1e-4
    card = validate(fitted_to_columns, log, reference=reference, before=before)
    click = predict(fitted_to_columns, log, before=before).click[log.items >= 0]
    assert card.row("users").mean == pytest.approx(click.mean(), abs=1e-7)
    assert card.row("reference").mean == pytest.approx(wanted.mean(), abs=1e-7)


def test_what_is_no_part_of_the_log_is_refused(columns, parts) -> None:
    before, log = parts
    cases = {
        "another catalogue": replace(before, item_ids=before.item_ids[::-1].copy()),
        "session ids are of another type": replace(before, session_ids=before.session_ids.astype(str)),
        "column context_tab is missing": replace(before, context={}),
    }
    for message, other in cases.items():
        with pytest.raises(InputError, match=message):
            with_earlier(log, other)
