"""All that an experiment has found, for those who report it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from recil.experiment.data import kept_log
from recil.experiment.gather import Found
from recil.experiment.plan import Setting
from recil.experiment.result import Result
from recil.logs.session_log import SessionLog
from recil.sim.card import SimulatorCard


@dataclass(frozen=True)
class Evidence:
    """found: of each unit that was judged, in the plan's order; card: of the fitted users, None where none were."""

    setting: Setting
    found: tuple[Found, ...]
    card: SimulatorCard | None
    result: Result

    def of(self, method: str) -> tuple[Found, ...]:
        """What was found of a method: a unit for each seed that is done."""
        return tuple(item for item in self.found if item.unit.method == method)

    @property
    def train(self) -> SessionLog:
        return kept_log(self.setting.data(self.setting.train))

    @property
    def test(self) -> SessionLog:
        return kept_log(self.setting.data(self.setting.test))

    @property
    def folder(self) -> Path:
        """Where reports of this very experiment lie: other settings or data have another."""
        return self.setting.folder / "reports" / self.setting.tags["recil.sweep"]


# Gives the report's files: name -> text.
Report = Callable[[Evidence], Mapping[str, str]]
