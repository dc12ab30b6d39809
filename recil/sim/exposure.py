"""How often an item was shown says what its recommender thought of it.

Recommenders show what they believe to please, so that items shown rarely are worse than those shown often. A prior that
pulls an item with a click or two towards the average of what was shown then makes too much of it, and so of every
policy that shows such items. The mean of the prior is therefore a line in the logarithm of how often the item was
shown, its slope from the log itself: random effects that are correlated with a covariate (Mundlak 1978, "On the
pooling of time series and cross section data"). A log shown at random has slope 0.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from recil.logs.session_log import SessionLog
from recil.policies.inputs import Feature
from recil.sim.behaviour import Behaviour
from recil.sim.item_effects import item_appeal
from recil.sim.prior_draw import OWN, Centre
from recil.sim.rates import item_counts
from recil.sim.user_config import UserConfig
from recil.sim.users import item_columns_of

# Fewer items than this cannot tell a slope from chance.
ITEMS = 10


@torch.no_grad()
def lean_on_exposure(
    behaviour: Behaviour, log: SessionLog, config: UserConfig, settled: UserConfig
) -> tuple[UserConfig, Centre]:
    """Set the start of items' appeal anew, with a prior whose mean follows how often items were shown.

    settled: `config` after start_at_rates. Returns it with the scales that are left, and the means by item [A], in
    log-odds. Items that were never shown have the mean of all: nobody can tell why they were not.
    """
    clicks, impressions = item_counts(log)
    known = impressions > 0
    amount = np.log(np.maximum(impressions, 1))
    spread = float(amount[known].std())
    if known.sum() < ITEMS or spread < 1e-6:
        return settled, {}
    exposure = Feature("exposure", None, float(amount[known].mean()), spread)
    column = torch.from_numpy(np.where(known, amount, np.nan))
    features = (*behaviour.item_effects.features, exposure)
    columns = {**item_columns_of(log), exposure.name: column}
    scales = None if config.item_scales is None else (*config.item_scales, 1.0)
    found = item_appeal(clicks, impressions, features, columns, config.appeal_scale, scales)
    slope = float(found.tables[-1][0])
    means = slope * torch.nan_to_num((column - exposure.mean) / exposure.scale, nan=0.0)
    behaviour.appeal.fill_(found.base)
    behaviour.item_appeal.copy_(means + torch.from_numpy(found.own))
    for table, values in zip(behaviour.item_effects.tables, found.tables[:-1], strict=True):
        table[:, 0] = torch.from_numpy(values)
    left = replace(settled, appeal_scale=found.own_scale, item_scales=found.scales[:-1])
    return left, {OWN: means.to(behaviour.item_appeal.dtype)}
