"""recil init: a commented experiment file for a log of one's own."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from recil.cli.logs import read
from recil.cli.options import PATH, manners, say
from recil.errors import InputError

if TYPE_CHECKING:
    from recil.logs.session_log import SessionLog

_LONGEST_HORIZON = 50


@click.command()
@click.argument("log", type=PATH)
@click.option("--out", type=PATH, default=Path("experiment.toml"), show_default=True, help="The file to write.")
@click.option("--name", help="The experiment's name; that of the log when left out.")
@click.option("--reward", default="click", show_default=True, metavar="COLUMN", help="The column that is the reward.")
@click.option("--log-format", metavar="NAME", help="Format of the log; found out when left out.")
@manners
def init(log: Path, out: Path, name: str | None, reward: str, log_format: str | None) -> None:
    """Write an experiment file for the LOG, every choice with its reason beside it, and print its name.

    The log is read in full, so that what `recil run` would refuse is found now. Nothing is overwritten.

    \b
    recil init my_log.csv
    recil run experiment.toml
    """
    if out.exists():
        raise InputError(str(out), "is there already", "give another --out, or delete it")
    found = read(log, log_format, reward)
    text = experiment_text(found, _path_in(out, log), name or _name(log), reward, log_format)
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(str(out), f"cannot be written ({error.strerror})", "give another --out") from error
    from recil.config import load_experiment

    try:
        load_experiment(out)
    except InputError:
        out.unlink()
        raise
    click.echo(str(out))
    say(f"next: recil run {out}")


def experiment_text(log: SessionLog, path: str, name: str, reward: str, log_format: str | None) -> str:
    """The file's text. path: the log's, as the file should say it."""
    parts = [_head(log, name), _log_table(log, path, reward, log_format), _world(log), _evaluate(log), _methods(log)]
    return "\n".join(parts)


def _head(log: SessionLog, name: str) -> str:
    shown = f"{log.sessions:,} sessions, {log.steps:,} steps, {log.impressions:,} items shown out of {log.catalogue:,}"
    rewarded = int((log.reward != 0).sum())
    return f"""\
# {shown}; {rewarded:,} of them with reward.
# Every key: docs/experiment.md. Change one for a single run: recil run FILE --set methods.clone.epochs=5
name = {_text(name)}   # the MLflow experiment is recil-{name}
seeds = [0, 1, 2]               # what is trained, is trained once for each; more make narrower intervals
"""


def _log_table(log: SessionLog, path: str, reward: str, log_format: str | None) -> str:
    if log.timestamp is not None:
        by, why = "time", "the log has times: policies are judged on the last fifth of the sessions"
    else:
        whose = "sessions" if log.user_ids is None else "users"
        by, why = "session", f"the log has no times: policies are judged on a fifth of the {whose}, drawn by their ids"
    lines = [f"format = {_text(log_format)}"] if log_format else []
    lines += [f"reward = {_text(reward)}"] if reward != "click" else []
    return "\n".join(["[log]", f"path = {_text(path)}", *lines, f'split = {{ by = "{by}", test = 0.2 }}   # {why}', ""])


def _world(log: SessionLog) -> str:
    """Simulated users where there is something to fit them to."""
    longest = int(log.lengths.max())
    horizon = min(longest, _LONGEST_HORIZON)
    why = "the longest session" if horizon == longest else f"the longest session has {longest:,}"
    rewarded = _rewarded(log)
    hash_ = "" if rewarded else "# "
    reason = "fitted to the sessions learned from; their card says whether to believe them"
    if not rewarded:
        reason = "left out: no session has any reward, so there is nothing to fit users to"
    return f"""\
{hash_}[users]                         # {reason}
{hash_}types = 6                       # latent kinds of user

{hash_}[world]
{hash_}horizon = {horizon}   # most steps of a simulated session: {why}
{hash_}sessions = 4000                 # simulated for each value
"""


def _evaluate(log: SessionLog) -> str:
    if log.propensity is None:
        why = "# The log has no propensities: a clone of its recommender supplies them; verdicts end at caution.\n"
    else:
        why = "# The log has propensities: they are used as they are.\n"
    return f"""\
{why}[evaluate]
replicates = 1000               # of the bootstrap behind each interval
confidence = 0.95
"""


def _methods(log: SessionLog) -> str:
    rows: list[tuple[str, str, tuple[str, ...], str]] = [
        ("random", "uniform", (), "the floor"),
        ("popular", "popular", (), "what the most rewarded items are worth, whoever looks at them"),
        ("logged", "logged", (), "the recommender that wrote the log: what to beat"),
        ("clone", "clone", (), "learns to show what the log shows"),
    ]
    if _rewarded(log):
        rows.append(
            (
                "finetuned",
                "finetune",
                ('start = "clone"', 'source = "log"'),
                "the clone, improved on the logged rewards",
            )
        )
    parts = [
        "\n".join([f"[[methods]]                     # {why}", f'name = "{name}"', f'kind = "{kind}"', *keys, ""])
        for name, kind, keys, why in rows
    ]
    if _rewarded(log):
        parts.append(
            "# The clone, improved in the simulated world; for when the card of the users says `trust`.\n"
            '# [[methods]]\n# name = "finetuned-world"\n# kind = "finetune"\n# start = "clone"\n# source = "world"\n'
        )
    return "\n".join(parts)


def _rewarded(log: SessionLog) -> bool:
    return bool((log.reward > 0).any())


def _name(log: Path) -> str:
    """A name MLflow and the file take, out of the log's."""
    stem = log.resolve().name.partition(".")[0]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:60] or "mine"


def _path_in(out: Path, log: Path) -> str:
    """The log's path as a file at `out` names it: from beside the file where it lies there, else absolute."""
    place, target = out.resolve().parent, log.resolve()
    return target.relative_to(place).as_posix() if target.is_relative_to(place) else target.as_posix()


def _text(value: str) -> str:
    """A string as TOML writes it; JSON's escapes are TOML's."""
    return json.dumps(value, ensure_ascii=False)
