"""The command `recil`: its sections, and how it ends. 0 fine, 1 a gate failed, 2 bad input, 130 interrupted."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import click

from recil.cli.doctor import doctor
from recil.cli.experiments import demo, run
from recil.cli.init import init
from recil.cli.logs import log
from recil.cli.options import State
from recil.cli.plan import plan
from recil.cli.policies import compare, evaluate, simulate
from recil.cli.promote import promote
from recil.cli.report import report
from recil.cli.sections import SectionedGroup
from recil.cli.serve import serve, served
from recil.cli.ui import ui
from recil.cli.users import users
from recil.errors import GateError, InputError


@click.group(cls=SectionedGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="recil", message="%(version)s")
def cli() -> None:
    """A recommender-system simulator for recommenders trained by imitation.

    \b
    recil demo                       the whole line on the log that comes with recil
    recil log check my_log.csv       what is in a log, and what is wrong with it
    recil init my_log.csv            an experiment file for it
    recil run experiment.toml        log to policies to what they are worth, in MLflow
    recil ui                         look at it

    Answers go to standard output, all else to standard error. Exit codes: 0 fine, 1 a gate failed (a verdict, a card, a
    promotion), 2 bad input, 130 interrupted. NO_COLOR is respected.
    """


cli.add_sections(
    {
        "Experiments": {
            demo: "The whole line on the log that comes with recil.",
            init: "Write an experiment file for a log.",
            run: "Run an experiment file and print the comparison.",
            report: "Write the page on what an experiment has found.",
            ui: "Serve the MLflow UI and print where to look.",
        },
        "Logs and users": {
            log: "Check logs, import, split and generate them.",
            users: "Fit users to a log; say whether to believe them.",
        },
        "Saved policies": {
            evaluate: "What a policy is worth, by a log of another.",
            simulate: "What a policy brings in a world.",
            compare: "Hold policies against each other, paired.",
            plan: "How much data an answer would take.",
        },
        "In use": {
            promote: "Make a policy the champion, if it is better.",
            serve: "Serve a policy over HTTP.",
            served: "Make a log out of what was served.",
        },
        "This machine": {doctor: "What is installed, and what would stop a run."},
    }
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command and exits: data on standard output, everything else on standard error."""
    state = State()
    try:
        code = cli.main(args=None if arguments is None else list(arguments), obj=state, standalone_mode=False)
    except click.ClickException as error:
        error.show(file=sys.stderr)
        code = 2
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted; the same command goes on from here", err=True)
        code = 130
    except GateError as error:
        code = _say(state, error, 1)
    except InputError as error:
        code = _say(state, error, 2)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stderr.close()
        code = 0
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        code = _say(state, f"{type(error).__name__}: {first} (run again with --debug for the traceback)", 2)
    sys.exit(code if isinstance(code, int) else 0)


def _say(state: State, error: object, code: int) -> int:
    name = "recil:" if os.environ.get("NO_COLOR") else click.style("recil:", fg="red", bold=True)
    click.echo(f"{name} {error}", err=True)  # click takes the colour out where this is no terminal
    if state.debug:
        click.echo(traceback.format_exc(), err=True, nl=False)
    return code
