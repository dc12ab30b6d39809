"""Where a fit starts: at the log's own rates, so that no gradient step is spent on what can be counted."""

from __future__ import annotations

import math

import numpy as np
import torch

from recil.logs.session_log import SessionLog
from recil.sim.behaviour import Behaviour
from recil.sim.feedback import codes_of
from recil.sim.user_config import UserConfig
from recil.sim.users import ends_of


@torch.no_grad()
def start_at_rates(behaviour: Behaviour, log: SessionLog, config: UserConfig) -> None:
    """Set the log's own rates of clicking (overall and by item), of leaving, and of each kind of feedback.

    An item's rate is shrunk as its prior says: a standard deviation of s in log-odds is worth 1 / s² clicks.
    """
    present = log.items >= 0
    shown = log.items[present]
    clicks = np.bincount(shown, log.reward[present], log.catalogue)
    impressions = np.bincount(shown, minlength=log.catalogue)
    rate = min(max(clicks.sum() / impressions.sum(), 1e-6), 1 - 1e-6)
    worth = config.appeal_scale**-2
    appeal = np.log((clicks + worth) / (impressions * rate + worth))
    leaving = min(max(float(ends_of(log).mean()), 1e-4), 1 - 1e-4)
    behaviour.appeal.fill_(math.log(rate / (1 - rate)))
    behaviour.item_appeal.copy_(torch.from_numpy(appeal))
    behaviour.hazard.fill_(math.log(leaving / (1 - leaving)))
    clicked = torch.from_numpy(log.reward[present] > 0)
    for feature, base in zip(behaviour.answers.features, behaviour.answers.base, strict=True):
        codes = codes_of(feature, torch.from_numpy(log.feedback[feature.name].values[present]))
        for after_click in (0, 1):
            given = codes[(clicked == bool(after_click)) & (codes >= 0)]
            counts = torch.bincount(given, minlength=base.shape[1]).to(base.dtype) + 0.5
            base[after_click] = counts.log() - counts.log().mean()
