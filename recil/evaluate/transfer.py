"""Train in simulation, test on real: does what is learned from simulated clicks hold for logged ones?

Two response models are fitted by one learner to the same logged slates, one to the logged clicks on them and one to
simulated clicks; both predict the clicks of real sessions that neither saw. Slates and sessions are the same on both
sides, so that nothing but the clicks can make the difference (Esteban, Hyland & Rätsch 2017, "Real-valued (medical)
time series generation with recurrent conditional GANs": TSTR).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from scipy import stats

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.random import Streams
from recil.sim.calibration import area_under_curve
from recil.sim.optimise import by_length
from recil.sim.predict import check_fit_for
from recil.sim.rates import Rates, fit_rates, log_losses
from recil.sim.resolvers import Drawn
from recil.sim.runtime import TorchRuntime
from recil.sim.stories import logged_story
from recil.sim.users import UserModel

if TYPE_CHECKING:
    import pandas as pd


class Responses(Protocol):
    """A response model."""

    def predict(self, log: SessionLog) -> np.ndarray:
        """float64 [M]: probability of a click on each item shown, in row order."""
        ...


Learner = Callable[[SessionLog], Responses]


class Gap(NamedTuple):
    """A paired difference, trained on simulated less trained on real clicks, and its standard error over sessions."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:+.5f} ± {1.96 * self.error:.5f}"


@dataclass(frozen=True)
class Score:
    """How a response model predicts the test log. log_loss: nats per item shown; auc: area under the curve."""

    log_loss: float
    auc: float


@dataclass(frozen=True)
class Transfer:
    """What is lost by learning from simulated clicks in the place of logged ones.

    real, simulated  models trained on these clicks; constant: the logged click rate of the training sessions
    log_loss_gap     above 0: training on simulated clicks predicts worse; auc_gap: below 0
    trained_on, sessions, impressions  training sessions, test sessions, items shown in the latter
    """

    real: Score
    simulated: Score
    constant: Score
    log_loss_gap: Gap
    auc_gap: Gap
    trained_on: int
    sessions: int
    impressions: int

    @property
    def worse(self) -> bool:
        """Simulated clicks teach less than logged ones: the gap in log loss is above two standard errors."""
        return self.log_loss_gap.value > 2 * self.log_loss_gap.error

    @property
    def kept(self) -> float:
        """Share of the gain over the constant rate that simulated clicks teach; nan where logged ones teach nothing."""
        gain = self.constant.log_loss - self.real.log_loss
        return (self.constant.log_loss - self.simulated.log_loss) / gain if gain > 0 else float("nan")

    def to_frame(self) -> pd.DataFrame:
        """A row for each model: model, log_loss, auc."""
        import pandas as pd

        models = {"constant": self.constant, "real clicks": self.real, "simulated clicks": self.simulated}
        return pd.DataFrame([{"model": name, **vars(score)} for name, score in models.items()])

    def save(self, path: str | Path) -> None:
        """Write it as JSON, whole or not at all. InputError where that cannot be."""
        path = Path(path)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.new")
        content = {**asdict(self), "log_loss_gap": self.log_loss_gap._asdict(), "auc_gap": self.auc_gap._asdict()}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_text(json.dumps(content, indent=1), encoding="utf-8")
            unfinished.replace(path)
        except OSError as error:
            raise InputError(str(path), f"cannot be written ({error})", "give a folder to write to") from error

    def __str__(self) -> str:
        lines = [f"{'trained on':<18}{'log loss':>10}{'AUC':>8}"]
        for name, score in (("constant rate", self.constant), ("real clicks", self.real)):
            lines.append(f"{name:<18}{score.log_loss:>10.5f}{score.auc:>8.3f}")
        lines.append(f"{'simulated clicks':<18}{self.simulated.log_loss:>10.5f}{self.simulated.auc:>8.3f}")
        lines.append(f"simulated - real: log loss {self.log_loss_gap}, AUC {self.auc_gap}")
        lines.append(f"on {self.trained_on:,} sessions, tested on {self.sessions:,} real ones")
        return "\n".join(lines)


def position_rates(log: SessionLog) -> Rates:
    """Click rates of items by position, smoothed: the response model that is learned unless another is given.

    It is counted and not trained: no weights at random, no stopping rule, nothing to tune but its smoothing, which is
    chosen in the same way on both sides. What it cannot see (moods, types) it does not test; a sequence model such as
    recil.sim.reference.fit_reference does.
    """
    chain = (("item",),) if log.slate_size == 1 else (("position",), ("item",), ("item", "position"))
    return fit_rates(log, *chain)


def transfer(
    train: SessionLog, test: SessionLog, users: UserModel, learner: Learner = position_rates, seed: int = 0
) -> Transfer:
    """Real and simulated clicks on the slates of `train` as lessons, real sessions in `test` as the examination.

    test should hold sessions that the users were not fitted to. Feedback beside the click is left out on both sides.
    Raises InputError where a log has another catalogue than the users, or not the columns they look at, and where
    `train` or `test` lacks clicks or non-clicks.
    """
    for place, log in (("train", train), ("test", test)):
        if not np.array_equal(log.item_ids, users.item_ids):
            raise InputError(f"transfer: {place}", "has another catalogue than the users", "split one log in two")
        clicks = log.reward[log.items >= 0] > 0
        if clicks.all() or not clicks.any():
            raise InputError(f"transfer: {place}", f"{int(clicks.sum())} clicks on {len(clicks)} items", "bring more")
    train, test = replace(train, feedback={}), replace(test, feedback={})
    answered = simulated_clicks(users, train, seed)
    shown = test.items >= 0
    clicked = (test.reward[shown] > 0).astype(np.float64)
    models = {"real": learner(train), "simulated": learner(answered), "constant": fit_rates(train)}
    found = {name: model.predict(test) for name, model in models.items()}
    scores = {
        name: Score(float(log_losses(p, clicked).mean()), area_under_curve(p, clicked)) for name, p in found.items()
    }
    losses = log_losses(found["simulated"], clicked) - log_losses(found["real"], clicked)
    session = np.repeat(np.arange(test.sessions), test.lengths)[np.nonzero(shown)[0]]
    return Transfer(
        **scores,
        log_loss_gap=_mean_gap(losses, session),
        auc_gap=_auc_gap(found["simulated"], found["real"], clicked, session),
        trained_on=train.sessions,
        sessions=test.sessions,
        impressions=len(clicked),
    )


@torch.no_grad()
def simulated_clicks(users: UserModel, log: SessionLog, seed: int = 0, *, batch: int = 1024) -> SessionLog:
    """The log with simulated clicks in the place of its own: the same slates, sessions as long as logged.

    A session's user is of a type drawn from the users' own mixture, and their mood follows their own clicks. A draw
    depends on the seed and the session's position in the log alone. Raises InputError where the log does not fit.
    """
    check_fit_for(users, log)
    streams, reward = Streams(seed), np.zeros_like(log.reward)
    edges = users.behaviour.type_log_prior().double().exp().cumsum(-1)
    for chosen in by_length(log, np.arange(log.sessions), batch):
        sessions = replace(log.batch(chosen), propensity=None, feedback={})
        uniforms = streams.uniform("transfer.type", sessions.session, dtype=torch.float64)[:, 0]
        kind = torch.searchsorted(edges, uniforms).clamp(max=len(edges) - 1)
        network = logged_story(users.behaviour, sessions, users.item_columns, kind)
        runtime = TorchRuntime(network, Drawn(streams, sessions.session))
        clicks = runtime.trajectory(sessions.steps, variables=("response",))["response"].get("clicks")
        rows, inside = log.rows(chosen)
        reward[rows[inside]] = clicks.transpose(0, 1).numpy()[inside]
    return replace(log, reward=np.where(log.items >= 0, reward, 0).astype(log.reward.dtype))


def _mean_gap(values: np.ndarray, session: np.ndarray) -> Gap:
    """Mean per item shown, with sessions as the independent units (delta method)."""
    mean = float(values.mean())
    apart = np.bincount(session, values - mean)
    return Gap(mean, float(np.sqrt((apart**2).sum())) / len(values))


def _auc_gap(first: np.ndarray, second: np.ndarray, clicked: np.ndarray, session: np.ndarray) -> Gap:
    """Difference of the areas under two models' curves, from what each session adds to it.

    DeLong, DeLong & Clarke-Pearson (1988); for clusters Obuchowski (1997), "Nonparametric analysis of clustered ROC
    curve data".
    """
    positive = clicked > 0
    n, m = int(positive.sum()), int((~positive).sum())
    apart = _placements(first, positive) - _placements(second, positive)
    gap = float(apart[positive].mean())
    parts = np.where(positive, (apart - gap) / n, (apart - gap) / m)
    return Gap(gap, float(np.sqrt((np.bincount(session, parts) ** 2).sum())))


def _placements(probability: np.ndarray, positive: np.ndarray) -> np.ndarray:
    """[M]: of each click, the share of non-clicks ranked below it; of each non-click, of clicks ranked above it."""
    n, m = int(positive.sum()), int((~positive).sum())
    below = stats.rankdata(probability)
    place = np.empty(len(probability))
    place[positive] = (below[positive] - stats.rankdata(probability[positive])) / m
    place[~positive] = 1 - (below[~positive] - stats.rankdata(probability[~positive])) / n
    return place
