"""kill -9 at any row of metrics, then the same call again: weights, metrics and draws as if nothing had happened."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from learners import LEARNERS, run
from safetensors.torch import load_file

from recil.random import Streams

HERE = Path(__file__).parent
IN_THE_MAIN_SUITE = ("finetune_in_the_world", "dagger")


def rows(folder: Path) -> list:
    """Whole lines; a process that was killed may leave a part of one."""
    lines = (folder / "metrics").read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def killed_after(name: str, folder: Path, count: int) -> None:
    """Runs the learner in a process of its own and kills it once it has written `count` rows."""
    command = [sys.executable, str(HERE / "learners.py"), name, str(folder)]
    where = {"PYTHONPATH": str(HERE), "PATH": "", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=where, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 120
        while not (folder / "metrics").exists() or len(rows(folder)) < count:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize(
    "name", [name if name in IN_THE_MAIN_SUITE else pytest.param(name, marks=pytest.mark.slow) for name in LEARNERS]
)
def test_killed_and_started_again_is_straight_through(name: str, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        straight, killed = tmp_path / "straight", tmp_path / "killed"
        for folder in (straight, killed):
            folder.mkdir()
        run(name, straight)
        whole = rows(straight)
        stop = int(Streams(len(name)).numpy("killed").integers(1, len(whole)))
        killed_after(name, killed, stop)
        assert not (killed / "weights").exists(), "killed too late to show anything"
        before = len(rows(killed))
        # What a process that was killed left of a line is not a row.
        (killed / "metrics").write_text("".join(json.dumps(row) + "\n" for row in rows(killed)))
        run(name, killed)
        found, expected = load_file(killed / "weights"), load_file(straight / "weights")
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in found)
        assert rows(killed)[:before] == whole[:before]
        again = rows(killed)[before:]
        assert again == whole[len(whole) - len(again) :] and len(again) >= len(whole) - before
    finally:
        torch.set_num_threads(threads)
