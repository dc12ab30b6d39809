"""Users fitted to the log of one Open Bandit policy predict the click rate of the other's slates, both ways."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

import recil
from recil.logs.align import align
from recil.logs.session_log import SessionLog
from recil.sim.ensemble import UserEnsemble, fit_ensemble
from recil.sim.predict import predict
from recil.sim.user_config import UserConfig

POLICIES = ("random", "bts")
MEMBERS = 12  # a spread over 5 would itself be off by a third


@dataclass(frozen=True)
class Prediction:
    """What users fitted to one log predict for the slates of another, and what was seen there, per item shown.

    between: standard deviation over the members of the ensemble; binomial: standard error of the observed rate, were
    the predicted one true; low to high: where the observed rate lies with 95%, by both.
    """

    predicted: float
    between: float
    binomial: float
    low: float
    high: float
    observed: float

    @property
    def holds(self) -> bool:
        return self.low <= self.observed <= self.high


def predicted_rate(ensemble: UserEnsemble, log: SessionLog, confidence: float = 0.95) -> Prediction:
    """Predicted clicks per item shown on the logged slates, and the interval of the rate that is then observed.

    Student's t with Satterthwaite's degrees of freedom (Satterthwaite 1946): few members say little of their spread.
    """
    shown = log.items >= 0
    central, *members = (predict(users, log).click[shown].mean() for users in (ensemble.central, *ensemble.members))
    between, binomial = float(np.var(members, ddof=1)), float(central * (1 - central) / shown.sum())
    total = between + binomial
    degrees = total**2 / (between**2 / (len(members) - 1)) if between else math.inf
    half = float(stats.t.ppf(0.5 + confidence / 2, degrees)) * math.sqrt(total)
    return Prediction(
        float(central),
        math.sqrt(between),
        math.sqrt(binomial),
        float(central) - half,
        float(central) + half,
        float((log.reward[shown] > 0).mean()),
    )


def predictions(
    folder: Path, seed: int = 0, config: UserConfig | None = None, members: int = MEMBERS, campaign: str = "men"
) -> dict[tuple[str, str], Prediction]:
    """(fitted to, slates of) -> prediction, both ways."""
    logs, found = {name: recil.read_log(folder / name / campaign) for name in POLICIES}, {}
    for fitted, other in (POLICIES, POLICIES[::-1]):
        ensemble = fit_ensemble(logs[fitted], config, seed, members=members)
        found[fitted, other] = predicted_rate(ensemble, align(logs[other], logs[fitted]))
    return found


def section(folder: Path, seed: int = 0) -> str:
    """Markdown."""
    lines = [
        "Campaign men of the small version, 10,000 impressions of each policy. Users fitted to one policy's log "
        "predict the click probability of every impression of the other's: the item, its position, the user's "
        f"columns. ±: one standard deviation over {MEMBERS} fits to bootstraps of the sessions, and the binomial "
        "standard error of the observed rate. The 95% interval is for the observed rate, and has both in it.",
        "",
        "| fitted to | slates of | predicted | ± fits | ± binomial | interval | observed | holds it |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (fitted, other), found in predictions(folder, seed).items():
        figures = f"{found.predicted:.5f} | {found.between:.5f} | {found.binomial:.5f}"
        interval = f"{found.low:.5f} to {found.high:.5f} | {found.observed:.5f} | {'yes' if found.holds else 'no'}"
        lines.append(f"| {fitted} | {other} | {figures} | {interval} |")
    return "\n".join(lines)
