"""One MLflow run, written to in batches and by its own id; a store that goes away does not stop the job."""

from __future__ import annotations

import getpass
import json
import logging
import math
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from recil.logs.session_log import SessionLog
from recil.track.dataset import SessionDataset
from recil.track.entries import METRICS_PER_BATCH, Entry
from recil.track.names import check_metric_name, flat
from recil.track.outbox import Outbox, RunAddress
from recil.track.store import Store

logger = logging.getLogger("recil.track")


class RunWriter:
    """Writes one run; use it as a context: it ends FINISHED, FAILED on an exception, KILLED on an interrupt.

    spool          folder for what cannot be sent
    run_id         an existing run to go on with instead of a new one
    key            a name of one's own: the experiment's run of this key is gone on with, and made when there is none
    ends           leaving the context ends the run; else another process goes on with it by its key
    record         a file that the metrics are appended to as well, for `replay`
    flush_seconds  the longest that metrics wait in memory while more are written
    """

    def __init__(
        self,
        store: Store,
        experiment_id: str,
        name: str,
        spool: Path,
        tags: Mapping[str, str] | None = None,
        run_id: str | None = None,
        key: str | None = None,
        ends: bool = True,
        record: Path | None = None,
        flush_seconds: float = 5.0,
    ) -> None:
        whole = {"mlflow.user": _user(), "mlflow.source.name": "recil", "mlflow.source.type": "LOCAL"}
        whole |= {"recil.state": "running"} | dict(tags or {})
        address = RunAddress(store.uri, experiment_id, name, whole, _now(), run_id, key or uuid4().hex)
        self._outbox = Outbox(address, Path(spool))
        self._ends, self._record = ends, record
        self._flush_seconds = flush_seconds
        self._metrics: list[list[Any]] = []
        self._params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self._datasets: list[dict[str, str]] = []
        self._flushed = time.monotonic()
        self._nonfinite: Counter[str] = Counter()
        self._outbox.put([{"begin": whole}])

    @property
    def run_id(self) -> str | None:
        """The run's id; None while the store has been away since the beginning."""
        return self._outbox.address.run_id

    @property
    def name(self) -> str:
        return self._outbox.address.name

    @property
    def waiting(self) -> bool:
        """Whether something is kept in the spool folder because the store is away."""
        return self._outbox.waiting

    @property
    def refused(self) -> int:
        """Entries the store refused; they are set aside in the spool folder."""
        return self._outbox.refused

    def metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Metrics `section/name` at a step. Values that are not finite are counted in `section/nonfinite` instead."""
        now = _now()
        for name, value in values.items():
            check_metric_name(name)
            number = float(value)
            if not math.isfinite(number):
                section = name.rpartition("/")[0]
                name = f"{section}/nonfinite" if section else "nonfinite"
                self._nonfinite[name] += 1
                number = float(self._nonfinite[name])
            self._metrics.append([name, number, now, int(step)])
        if len(self._metrics) >= METRICS_PER_BATCH or time.monotonic() - self._flushed > self._flush_seconds:
            self.flush()

    def replay(self, record: Path) -> None:
        """The metrics of a record, at their own times, unless another process has written them into this very run."""
        if record.exists() and (self._outbox.created or self.run_id is None):
            with record.open(encoding="utf-8") as lines:
                self._metrics += [json.loads(line) for line in lines if line.endswith("\n")]

    def params(self, config: Any) -> None:
        """A nested config as flat dotted parameters. What a resumed run already has stays as it is."""
        self._params |= flat(config)

    def tags(self, tags: Mapping[str, str]) -> None:
        self._tags |= {name: str(value) for name, value in tags.items()}

    def text(self, content: str, file: str) -> None:
        """An artifact of text; the ending of `file` (md, csv, json, toml, html) decides how MLflow shows it."""
        self._artifact(file, lambda path: path.write_text(content, encoding="utf-8"))

    def json(self, content: Any, file: str) -> None:
        self.text(json.dumps(content, indent=2, default=str) + "\n", file)

    def tables(self, files: Sequence[str]) -> None:
        """Marks JSON artifacts (`columns`, `data`) as tables that MLflow shows and compares."""
        self.tags({"mlflow.loggedArtifacts": json.dumps([{"path": file, "type": "table"} for file in files])})

    def figure(self, figure: Any, file: str) -> None:
        """A matplotlib figure (`file` ends in .png or .svg)."""
        self._artifact(file, lambda path: figure.savefig(path, dpi=120, bbox_inches="tight"))

    def file(self, path: Path, folder: str | None = None) -> None:
        """A file, or a folder with what is in it, as an artifact in `folder`."""
        self._outbox.put([{"artifact": {"file": str(Path(path).resolve()), "folder": folder}}])

    def dataset(self, log: SessionLog, name: str, context: str, source: str | Path) -> None:
        """The log this run was made from. context: what for (train, evaluate, demonstrations)."""
        self._datasets.append(SessionDataset(log, name, source).to_dict() | {"context": context})

    def flush(self) -> None:
        """Sends what was gathered so far, and what was kept while the store was away."""
        self._outbox.put(self._gathered())

    def _gathered(self) -> list[Entry]:
        """What was written since the last time, as entries."""
        if self._record is not None and self._metrics:
            with self._record.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(metric) + "\n" for metric in self._metrics)
        batch = {"metrics": self._metrics, "params": self._params, "tags": self._tags}
        entries: list[Entry] = [{"batch": batch}] if any(batch.values()) else []
        entries += [{"datasets": self._datasets}] if self._datasets else []
        self._metrics, self._params, self._tags, self._datasets = [], {}, {}, []
        self._flushed = time.monotonic()
        return entries

    def leave(self) -> None:
        """Sends what there is and lets go of the run without ending it: another process goes on with it by its key."""
        self.flush()
        self._outbox.close()

    def close(self, status: str = "FINISHED") -> None:
        """Ends the run. status: FINISHED, FAILED or KILLED."""
        self.tags({"recil.state": status.lower()})
        self._outbox.put([*self._gathered(), {"end": [status, _now()]}], now=True)
        if self.waiting:
            logger.warning("the store is still away: what it misses waits in %s for the next run", self._outbox.folder)
        self._outbox.close()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if kind is None:
            self.close() if self._ends else self.leave()
            return
        if issubclass(kind, Exception):
            self.tags({"recil.error": f"{kind.__name__}: {error}"[:5000]})
        self.close("FAILED" if issubclass(kind, Exception) else "KILLED")

    def _artifact(self, file: str, write: Any) -> None:
        place = PurePosixPath(file)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / place.name
            write(path)
            parent = str(place.parent)
            self._outbox.put([{"artifact": {"file": str(path), "folder": None if parent == "." else parent}}])


def _now() -> int:
    return int(time.time() * 1000)


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"
