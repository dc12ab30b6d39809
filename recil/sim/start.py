"""Where a fit starts: at the log's own rates, so that no gradient step is spent on what can be counted."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from recil.logs.session_log import SessionLog
from recil.sim.behaviour import Behaviour
from recil.sim.feedback import codes_of
from recil.sim.item_effects import item_appeal
from recil.sim.rates import item_counts
from recil.sim.user_config import UserConfig
from recil.sim.users import ends_of, item_columns_of


@torch.no_grad()
def start_at_rates(behaviour: Behaviour, log: SessionLog, config: UserConfig) -> UserConfig:
    """Set the log's own rates of clicking (overall, by item, by items' columns), of leaving, and of each feedback.

    Returns the config with the scales of the items' priors settled.
    """
    clicks, impressions = item_counts(log)
    features, columns = behaviour.item_effects.features, item_columns_of(log)
    found = item_appeal(clicks, impressions, features, columns, config.appeal_scale, config.item_scales)
    leaving = min(max(float(ends_of(log).mean()), 1e-4), 1 - 1e-4)
    behaviour.appeal.fill_(found.base)
    behaviour.item_appeal.copy_(torch.from_numpy(found.own))
    for table, values in zip(behaviour.item_effects.tables, found.tables, strict=True):
        table[:, 0] = torch.from_numpy(values)
    behaviour.hazard.fill_(math.log(leaving / (1 - leaving)))
    _answers_at_rates(behaviour, log)
    return replace(config, appeal_scale=found.own_scale, item_scales=found.scales)


def _answers_at_rates(behaviour: Behaviour, log: SessionLog) -> None:
    """Set how often each answer of each kind is given, after a click and without one."""
    if not behaviour.answers.features:
        return
    present = log.items >= 0
    clicked = torch.from_numpy(log.reward[present] > 0)
    for feature, base in zip(behaviour.answers.features, behaviour.answers.base, strict=True):
        codes = codes_of(feature, torch.from_numpy(log.feedback[feature.name].values[present]))
        for after_click in (0, 1):
            given = codes[(clicked == bool(after_click)) & (codes >= 0)]
            counts = torch.bincount(given, minlength=base.shape[1]).to(base.dtype) + 0.5
            base[after_click] = counts.log() - counts.log().mean()
