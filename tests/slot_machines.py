"""Sessions of one step over three items of known click rates, and policies whose values are therefore known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from recil.logs.session_log import SessionLog
from recil.policies.frequencies import Frequencies
from recil.policies.scored import ScoredPolicy
from recil.policies.storage import save

RATES = np.array([0.1, 0.3, 0.6])
ITEMS = np.array(["a", "b", "c"])


def machine_log(sessions: int = 3000, seed: int = 0) -> SessionLog:
    """Every item alike, one per session."""
    dice = np.random.default_rng(seed)
    items = dice.integers(0, 3, (sessions, 1)).astype(np.int32)
    return SessionLog(
        item_ids=ITEMS,
        items=items,
        reward=(dice.random((sessions, 1)) < RATES[items]).astype(np.float32),
        offsets=np.arange(sessions + 1),
        session_ids=np.arange(sessions),
        propensity=np.full((sessions, 1), 1 / 3, dtype=np.float32),
    )


def save_choice(folder: Path, *shares: float) -> Path:
    """A policy that shows the items in these shares."""
    save(ScoredPolicy(Frequencies(torch.tensor(shares, dtype=torch.float32).log()), ITEMS), folder)
    return folder
