"""Monte Carlo and TD(0): the smallest form holds, and would not if the methods changed places."""

from __future__ import annotations

import pytest
from claims_helper import smallest


@pytest.fixture(scope="module")
def tried():
    return smallest("values")


def test_it_holds(tried):
    assert tried.standing == "holds", tried.points


def test_it_would_not_if_batch_methods_changed_places(tried):
    assert tried.swapped("batch TD", "batch MC").standing != "holds"


def test_error_before_any_session_is_known(tried):
    steps, values = tried.found.curve("TD 0.1", "rms_by_session")
    assert steps[0] == 0 and values[:, 0] == pytest.approx(0.235702, abs=1e-6)
