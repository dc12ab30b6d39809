"""Units of work: the same numbers wherever they run, errors kept, interrupts that end the workers."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from recil.errors import InputError
from recil.jobs import Failure, run_units, usable_cores, working_on


def _sum(seed: int) -> tuple[float, int]:
    """A sum of many terms, whose last bits depend on how it is split over threads."""
    values = torch.rand(3_000_000, generator=torch.Generator().manual_seed(seed)) - 0.5
    return float(values.sum()), torch.get_num_threads()


def _fragile(number: int) -> int:
    if number == 1:
        raise InputError("log", "row 7", "mend it")
    if number == 2:
        raise ZeroDivisionError("by nothing")
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_numbers_are_the_same_whatever_the_number_of_processes():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        alone = dict(run_units(_sum, range(4), jobs=1))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    together = dict(run_units(_sum, range(4), jobs=2))
    assert alone == together
    assert {threads for _, threads in alone.values()} == {1}


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_unit_that_fails_is_returned_with_its_reason_and_the_others_go_on(jobs):
    results = dict(run_units(_fragile, [0, 1, 2, 4], jobs))
    assert (results[0], results[4]) == (0, 4)
    bad_input, broken = results[1], results[2]
    assert isinstance(bad_input, Failure) and isinstance(broken, Failure)
    assert (bad_input.message, bad_input.bad_input) == ("log: row 7 -> mend it", True)
    assert (broken.message, broken.bad_input) == ("ZeroDivisionError: by nothing", False)
    assert "in _fragile" in broken.trace


def test_a_process_that_is_killed_loses_no_unit_from_the_account():
    results = dict(run_units(_fragile, [0, 3, 5], jobs=2))
    assert set(results) == {0, 3, 5}
    killed = results[3]
    assert isinstance(killed, Failure) and "Terminated" in killed.message


def test_the_number_of_processes_is_checked():
    with pytest.raises(InputError, match="--jobs: 0"):
        list(run_units(_fragile, [0], jobs=0))
    assert usable_cores() >= 1


class RayDouble:
    """As much of Ray as `recil.jobs` uses: units are pickled, run when they are asked for, last one first."""

    def __init__(self) -> None:
        self.began, self.ended, self.cancelled, self.settings = 0, 0, [], {}

    def is_initialized(self) -> bool:
        return self.began > self.ended

    def init(self, **settings) -> None:
        self.began, self.settings = self.began + 1, settings

    def shutdown(self) -> None:
        self.ended += 1

    def remote(self, **_):
        def wrap(function):
            return SimpleNamespace(remote=lambda *arguments: RayTask(pickle.dumps((function, arguments))))

        return wrap

    def wait(self, tasks, num_returns):
        return [tasks[-1]], tasks[:-1]

    def get(self, task):
        function, arguments = pickle.loads(task.sent)
        if arguments[-1] == 3:
            raise RuntimeError("WorkerCrashedError: the machine is gone")
        return function(*arguments)

    def cancel(self, task, force) -> None:
        self.cancelled.append(task)


@dataclass(frozen=True, eq=False)
class RayTask:
    sent: bytes


@pytest.fixture
def ray(monkeypatch):
    double = RayDouble()
    monkeypatch.setitem(sys.modules, "ray", double)
    monkeypatch.setattr("recil.jobs.find_spec", lambda name: True)
    return double


def test_a_cluster_gives_what_this_process_gives_and_accounts_for_every_unit(ray):
    alone = dict(run_units(_sum, range(3)))
    with working_on("ray"):
        assert dict(run_units(_sum, range(3))) == alone
        results = dict(run_units(_fragile, [0, 1, 2, 3, 4]))
    assert (results[0], results[4]) == (0, 4)
    assert results[1].bad_input and results[1].message == "log: row 7 -> mend it"
    assert "the machine is gone" in results[3].message and not results[3].bad_input
    assert (ray.began, ray.ended, ray.cancelled) == (2, 2, [])
    assert "MALLOC_TRIM_THRESHOLD_" in ray.settings["runtime_env"]["env_vars"]
    assert dict(run_units(_sum, range(2), jobs=1)) == {seed: alone[seed] for seed in range(2)}
    assert ray.began == 2, "outside of `working_on` nothing goes to the cluster"


def test_an_interrupt_cancels_what_the_cluster_still_has(ray):
    with working_on("ray"), pytest.raises(KeyboardInterrupt):
        for number, _ in enumerate(run_units(_fragile, [0, 4, 5])):
            if number == 0:
                ray.wait = _interrupted
    assert len(ray.cancelled) == 2 and ray.ended == 1


def _interrupted(*_, **__):
    raise KeyboardInterrupt


def test_a_cluster_that_others_have_joined_is_left_running(ray):
    ray.init()
    with working_on("ray"):
        assert dict(run_units(_fragile, [0])) == {0: 0}
    assert ray.is_initialized()


def test_a_backend_that_is_not_there_is_said():
    with pytest.raises(InputError, match="give one of local, ray"), working_on("dask"):
        pass
    if find_spec("ray") is None:
        with pytest.raises(InputError, match=r"pip install 'recil\[ray\]'"), working_on("ray"):
            pass


_PROGRAM = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, {folder!r})
from recil.jobs import run_units
from sleeper import sleep

if __name__ == "__main__":
    try:
        list(run_units(sleep, [0, 1], jobs=2))
    except KeyboardInterrupt:
        sys.exit(130)
"""
_SLEEPER = """
import os, time
from pathlib import Path

def sleep(number):
    Path({folder!r}, f"worker-{{number}}").write_text(str(os.getpid()))
    time.sleep(120)
"""


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="reads /proc")
def test_an_interrupt_ends_the_workers(tmp_path):
    (tmp_path / "program.py").write_text(_PROGRAM.format(folder=str(tmp_path)))
    (tmp_path / "sleeper.py").write_text(_SLEEPER.format(folder=str(tmp_path)))
    program = subprocess.Popen([sys.executable, tmp_path / "program.py"], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("worker-*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    workers = [int(path.read_text()) for path in tmp_path.glob("worker-*")]
    assert len(workers) == 2 and all(map(_alive, workers))
    program.send_signal(signal.SIGINT)
    assert program.wait(30) == 130
    while any(map(_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(_alive, workers))
