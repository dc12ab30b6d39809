"""How the command line behaves: help by sections with examples that parse, quiet, colour, completion, ends."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from small_experiment import FILE, write_experiment
from store_template import MLFLOW_WARNINGS, fresh_store

from recil.cli import main
from recil.cli.main import cli
from recil.cli.options import State
from recil.cli.progress import Waiting
from recil.experiment import plan

pytestmark = MLFLOW_WARNINGS
SHORT = FILE[: FILE.index("[truth]")] + '[[methods]]\nname = "random"\nkind = "uniform"\n'
DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(plan, "code_version", lambda: "test")


@pytest.fixture
def recil(capsys):
    def command(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        streams = capsys.readouterr()
        return ended.value.code, streams.out, streams.err

    return command


def commands(group: click.Group = cli, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def test_the_help_lists_every_command_once_under_a_heading(recil):
    code, out, _ = recil("--help")
    assert code == 0 and all(len(line) <= 100 for line in out.splitlines())
    headings = re.findall(r"^([A-Z][\w ]+):$", out, re.MULTILINE)
    assert headings == ["Options", "Experiments", "Logs and users", "Saved policies", "In use", "This machine"]
    listed = re.findall(r"^  ([a-z]+) {2,}\S", out[out.index("Experiments:") :], re.MULTILINE)
    assert sorted(listed) == sorted(cli.commands)
    assert "..." not in out[out.index("Experiments:") :], "a description was cut"
    assert "Exit codes: 0 fine, 1 a gate failed" in " ".join(out.split())


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=["-".join(path) for path, _ in commands()])
def test_each_commands_examples_are_there_and_parse(path, command):
    examples = re.findall(r"^ *(recil .*)$", (command.help or "").replace("\b", ""), re.MULTILINE)
    own = [line for line in examples if line.split()[1 : 1 + len(path)] == list(path)]
    assert own, "no example"
    for line in examples:
        words = shlex.split(line)[1:]
        found = cli
        while isinstance(found, click.Group):
            found = found.commands[words.pop(0)]
        found.make_context("recil", words, obj=State())  # raises what the user would see


def test_every_command_takes_quiet_and_debug():
    for path, command in commands():
        names = {name for option in command.params for name in option.opts}
        assert {"--quiet", "--debug"} <= names, path


def test_quiet_leaves_the_answer_and_what_is_wrong(recil, tmp_path):
    fresh_store(tmp_path)
    write_experiment(tmp_path, SHORT)
    code, out, err = recil("run", "experiment.toml", "--jobs", 1)
    assert code == 0 and "report: " in err and "MLflow: " in err and "charts: " in err
    quiet = recil("run", "experiment.toml", "--jobs", 1, "--quiet")
    assert quiet == (0, out, "")
    code, out, err = recil("run", "none.toml", "--quiet")
    assert (code, out) == (2, "") and err.startswith("recil: none.toml")


def on_a_terminal(*arguments: str, **environment: str) -> str:
    """What a command writes on standard error when that is a terminal."""
    outside, inside = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    program = subprocess.Popen(
        [sys.executable, "-m", "recil", *arguments], stderr=inside, stdout=subprocess.PIPE, env=kept | environment
    )
    os.close(inside)
    seen = b""
    while select.select([outside], [], [], 60)[0]:
        try:
            part = os.read(outside, 4096)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        seen += part
    program.communicate(timeout=60)
    os.close(outside)
    return seen.decode()


def test_colour_is_for_terminals_and_not_for_those_who_do_not_want_it():
    assert "\x1b[31m\x1b[1mrecil:" in on_a_terminal("run", "none.toml")
    plain = on_a_terminal("run", "none.toml", NO_COLOR="1")
    assert "\x1b" not in plain and plain.startswith("recil: none.toml")


def test_what_cannot_be_counted_says_for_how_long_it_has_gone_on(capsys, monkeypatch):
    with Waiting("reading", every=0.01):
        time.sleep(0.05)
    assert capsys.readouterr().err == ""  # a pipe
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Waiting("reading", every=0.01):
        time.sleep(0.1)
    err = capsys.readouterr().err
    assert "reading, 0 s" in err and err.endswith("\r\x1b[2K")
    with cli.make_context("recil", ["doctor"], obj=State(quiet=True)), Waiting("reading", every=0.01):
        time.sleep(0.05)
    assert capsys.readouterr().err == ""


def completed(words: str) -> list[str]:
    """What the shell is told when TAB is pressed after these words: kind,value a line."""
    script = Path(sys.executable).with_name("recil")
    if not script.exists():
        pytest.skip("not installed as a script")
    asked = {"_RECIL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    return subprocess.run([script], env=os.environ | asked, capture_output=True, text=True).stdout.split()


def test_the_shell_completes_commands_options_choices_and_files():
    assert completed("recil re") == ["plain,report"]
    assert completed("recil run --ba") == ["plain,--backend"]
    assert completed("recil run --backend r") == ["plain,ray"]
    assert [line.split(",")[0] for line in completed("recil run exp")] == ["file"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_documented_completion_scripts_are_there(shell):
    line = next(line for line in (DOCS / "serving.md").read_text().splitlines() if f"{shell}_source" in line)
    assert "_RECIL_COMPLETE=" in line or shell == "zsh"
    script = Path(sys.executable).with_name("recil")
    if not script.exists():
        pytest.skip("not installed as a script")
    asked = os.environ | {"_RECIL_COMPLETE": f"{shell}_source"}
    done = subprocess.run([script], env=asked, capture_output=True, text=True)
    # click asks bash for its version and is content without it.
    assert "_recil_completion" in done.stdout and "_RECIL_COMPLETE" in done.stdout


def test_a_cluster_that_is_not_there_is_said_before_any_work(recil, tmp_path, monkeypatch):
    fresh_store(tmp_path)
    write_experiment(tmp_path, SHORT)
    monkeypatch.setattr("recil.jobs.find_spec", lambda name: None)
    code, out, err = recil("run", "experiment.toml", "--backend", "ray", "--quiet")
    assert (code, out) == (2, "")
    assert err == "recil: --backend: ray is not installed -> pip install 'recil[ray]', or leave --backend out\n"
    assert not (tmp_path / ".recil").exists()
    code, _, err = recil("run", "experiment.toml", "--backend", "ray", "--jobs", 2)
    assert code == 2 and "leave --jobs out" in err


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="sends a signal")
def test_the_end_that_batch_systems_send_is_an_interrupt(tmp_path):
    from mlflow import MlflowClient

    store = fresh_store(tmp_path)
    slow = FILE.replace("epochs = 2\n[world]", "epochs = 400\npatience = 400\n[world]")
    write_experiment(tmp_path, slow)
    command = [sys.executable, "-m", "recil", "run", "experiment.toml", "--jobs", "1", "--quiet"]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    client, deadline = MlflowClient(store.uri), time.monotonic() + 120
    while not client.search_runs(["1"]) and time.monotonic() < deadline:
        time.sleep(0.2)
    program.send_signal(signal.SIGTERM)
    out, err = program.communicate(timeout=60)
    assert (program.returncode, out) == (130, ""), err
    assert err.strip() == "interrupted; the same command goes on from here"
    assert {run.info.status for run in client.search_runs(["1"])} == {"KILLED"}


def test_the_exit_codes_are_documented():
    text = (DOCS / "batch.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d+) \| (.+?) \|", text, re.MULTILINE))
    assert set(rows) == {"0", "1", "2", "130"}
