"""A store of one's own for each test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from store_template import fresh_store

from recil.logs.session_log import SessionLog
from recil.track.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return fresh_store(tmp_path)


@pytest.fixture
def small_log() -> SessionLog:
    """Two sessions, three steps, slates of two; three of five items shown were clicked."""
    return SessionLog(
        item_ids=np.array(["a", "b", "c"]),
        items=np.array([[0, 1], [2, -1], [1, 2]], dtype=np.int32),
        reward=np.array([[1, 0], [1, 0], [1, 0]], dtype=np.float32),
        offsets=np.array([0, 2, 3]),
        session_ids=np.array([10, 11]),
    )
