"""Shared fixtures: the folder of real logs (skipped, counted, where absent)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
REAL_LOGS = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def real_logs() -> Path:
    """The folder with the published logs; tests on them skip where it is absent."""
    if not REAL_LOGS.is_dir():
        pytest.skip("real logs are not here")
    return REAL_LOGS
