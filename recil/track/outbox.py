"""The way out of a run: entries go to the store, or into a folder when the store is away, and from there later.

A folder holds one run: run.json (which store, which experiment, which run), entries.jsonl, and the files of artifacts.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from uuid import uuid4

from mlflow import MlflowClient

from recil.errors import InputError
from recil.random import stable_hash
from recil.track.entries import Entry, is_away, send
from recil.track.lock import file_lock
from recil.track.store import connect

logger = logging.getLogger("recil.track")
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0


@dataclass(frozen=True)
class RunAddress:
    """The run that entries belong to.

    run_id is None until the run has been found or created; started: milliseconds; key: names the run beside its id, so
    that a run whose creation was lost on the way, or which another process began, is found and not made twice.
    """

    store: str
    experiment_id: str
    name: str
    tags: dict[str, str]
    started: int
    run_id: str | None = None
    key: str = field(default_factory=lambda: uuid4().hex)

    def found_or_created(self, client: MlflowClient) -> tuple[RunAddress, bool, bool]:
        """The same address with its run, the one of this key if there is one.

        And whether it was created, and whether it is open and has these tags: then there is nothing to begin.
        """
        if self.run_id is not None:
            return self, False, False
        mark = {"recil.key": self.key}
        found = client.search_runs([self.experiment_id], f"tags.`recil.key` = '{self.key}'", max_results=1)
        run = found[0] if found else client.create_run(self.experiment_id, self.started, self.tags | mark, self.name)
        begun = run.info.status == "RUNNING" and self.tags.items() <= run.data.tags.items()
        return replace(self, run_id=run.info.run_id), not found, not found or begun

    @property
    def folder_name(self) -> str:
        return f"{self.key}-{stable_hash(self.store, self.experiment_id):016x}"


class Outbox:
    """Sends entries in order. folder: where runs' unsent entries are kept, each run in a folder of its own.

    refused: entries the store did not take; created: the run is new, this outbox made it.
    """

    def __init__(self, address: RunAddress, folder: Path) -> None:
        self.address = address
        self.folder = folder / address.folder_name
        self.refused = 0
        self._client: MlflowClient | None = None
        self.created = self._begun = False
        self._pause = 0.0
        self._not_before = 0.0
        self._held, self._holds = ExitStack(), False

    @property
    def waiting(self) -> bool:
        """Whether something is kept that has not reached the store."""
        return (self.folder / "entries.jsonl").exists()

    def put(self, entries: list[Entry], *, now: bool = False) -> None:
        """Sends these after all that waits; keeps them when the store is away. now: try even within the pause."""
        if self.waiting or time.monotonic() < self._not_before:
            self._keep(entries)
            entries = []
        if now or time.monotonic() >= self._not_before:
            self._drain() if self.waiting else self._send(entries)

    def close(self) -> None:
        """Releases what is kept, so that the next run (or `send_spooled`) can send it."""
        self._held.close()
        self._holds = False

    def _send(self, entries: list[Entry]) -> None:
        for position, entry in enumerate(entries):
            if not self._try(entry, Path()):
                self._keep(entries[position:])
                break

    def _drain(self) -> None:
        kept = self.folder / "entries.jsonl"
        lines = kept.read_text(encoding="utf-8").splitlines()
        for position, line in enumerate(lines):
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:  # the process died while it wrote this line
                logger.error("%s: line %d is torn and was left out", kept, position + 1)
                continue
            if not self._try(entry, self.folder):
                fresh = kept.with_suffix(".new")
                fresh.write_text("".join(f"{left}\n" for left in lines[position:]), encoding="utf-8")
                fresh.replace(kept)
                return
        kept.unlink()
        if not (self.folder / "refused.jsonl").exists():
            shutil.rmtree(self.folder)
        self.close()
        logger.info("%s is back: everything kept for run %s was sent", self.address.store, self.address.run_id)

    def _try(self, entry: Entry, files: Path) -> bool:
        """Sends one entry. False: the store is away. What the store refuses for good is set aside, with a message."""
        try:
            if self._client is None:
                self._client = connect(self.address.store)
            if self.address.run_id is None:
                self.address, self.created, self._begun = self.address.found_or_created(self._client)
            if "begin" in entry and self._begun:
                self._begun = False
            else:
                send(self._client, str(self.address.run_id), entry, files, self.created)
        except Exception as error:
            if is_away(error):
                self._wait(error)
                return False
            self._set_aside(entry, error)
        self._pause = self._not_before = 0.0
        return True

    def _wait(self, error: Exception) -> None:
        if not self._pause:
            reason = str(error).strip().splitlines()[0][:200]
            logger.warning("%s is away (%s); the job goes on and keeps its numbers", self.address.store, reason)
        self._pause = min(max(FIRST_PAUSE, 2 * self._pause), LONGEST_PAUSE)
        self._not_before = time.monotonic() + self._pause

    def _set_aside(self, entry: Entry, error: Exception) -> None:
        self.refused += 1
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "refused.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"entry": self._with_own_copy(entry), "error": str(error)}) + "\n")
        logger.error("%s refused an entry, set aside in %s: %s", self.address.store, self.folder, error)

    def _keep(self, entries: list[Entry]) -> None:
        if not entries:
            return
        (self.folder / "files").mkdir(parents=True, exist_ok=True)
        if not self._holds:
            self._held.enter_context(file_lock(self.folder.with_suffix(".lock"), seconds=10))
            self._holds = True
        header = self.folder / "run.json"
        header.with_suffix(".new").write_text(json.dumps(asdict(self.address)), encoding="utf-8")
        header.with_suffix(".new").replace(header)
        with (self.folder / "entries.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(self._with_own_copy(entry)) + "\n" for entry in entries)
            file.flush()
            os.fsync(file.fileno())

    def _with_own_copy(self, entry: Entry) -> Entry:
        """The entry with its artifact copied here: the original may be gone when the store is back."""
        original = Path(entry["artifact"]["file"]) if "artifact" in entry else Path()
        if not original.is_absolute():
            return entry
        copy = Path("files") / uuid4().hex / original.name
        (self.folder / copy).parent.mkdir(parents=True)
        (shutil.copytree if original.is_dir() else shutil.copy2)(original, self.folder / copy)
        return {"artifact": entry["artifact"] | {"file": copy.as_posix()}}


@dataclass(frozen=True)
class Sent:
    """What became of kept runs: sent in full, still waiting, and entries the store refused."""

    runs: int = 0
    waiting: int = 0
    refused: int = 0


def send_spooled(folder: Path) -> Sent:
    """Sends what earlier runs kept in this folder because the store was away. Runs in use elsewhere are left alone."""
    sent = waiting = refused = 0
    for header in sorted(folder.glob("*/run.json")):
        if not (header.parent / "entries.jsonl").exists():
            continue
        try:
            with file_lock(header.parent.with_suffix(".lock"), seconds=0):
                outbox = Outbox(RunAddress(**json.loads(header.read_text(encoding="utf-8"))), folder)
                outbox.put([], now=True)
        except InputError:  # its own process still holds it
            waiting += 1
            continue
        sent, waiting = (sent, waiting + 1) if outbox.waiting else (sent + 1, waiting)
        refused += outbox.refused
    return Sent(sent, waiting, refused)
