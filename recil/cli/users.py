"""recil users fit, validate: simulated users out of a log, and the card that says whether to believe them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from recil.cli.logs import read
from recil.cli.options import PATH, common, emit, say, seed
from recil.cli.progress import ProgressBar, Waiting
from recil.errors import GateError, InputError

if TYPE_CHECKING:
    import pandas as pd

    from recil.evaluate.transfer import Transfer
    from recil.logs.session_log import SessionLog
    from recil.sim.card import SimulatorCard
    from recil.sim.reference import ResponseReference
    from recil.sim.user_config import UserConfig
    from recil.sim.users import UserModel


@click.group()
def users() -> None:
    """Users: fit them to a log, and say whether they can be believed."""


def _reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """How the logs are read, and what in them counts as one."""
    for option in (
        click.option(
            "--cluster",
            metavar="NAME",
            help="What counts as one: user, session, or a column. Users when left out, where the log names them.",
        ),
        click.option("--reward", default="click", show_default=True, metavar="COLUMN"),
        click.option("--log-format", metavar="NAME", help="Format of the log; found out when left out."),
    ):
        command = option(command)
    return command


@users.command()
@click.argument("log", type=PATH)
@click.option("--out", type=PATH, required=True, metavar="FOLDER", help="Save the users and their card there.")
@click.option("--types", type=click.IntRange(1), help="Latent kinds of user; 6 when left out.")
@click.option("--epochs", type=click.IntRange(1), help="Most passes over the sessions; 40 when left out.")
@click.option(
    "--held-out-by",
    type=click.Choice(["time", "session", "user"]),
    help="By time where the log has times, when left out.",
)
@click.option("--test", default=0.2, show_default=True, help="Share of the log that is held out for the card.")
@click.option("--no-card", is_flag=True, help="Hold nothing out. What is simulated with such users is refused.")
@click.option("--members", type=click.IntRange(2), help="Fit so many more to bootstraps of the log, an ensemble.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Members fitted side by side.")
@click.option("--reference", is_flag=True, help="Show on the card what a neural response model learns of the log.")
@_reading
@seed
@common
def fit(
    log: Path,
    out: Path,
    types: int | None,
    epochs: int | None,
    held_out_by: Literal["time", "session", "user"] | None,
    test: float,
    no_card: bool,
    members: int | None,
    jobs: int,
    reference: bool,
    log_format: str | None,
    reward: str,
    cluster: str | None,
    seed: int,
    form: str,
) -> None:
    """Fit users to the LOG, save them with their card on its held-out part, and fail where the card refuses them.

    Refused users are saved all the same: their card says what is wrong.

    \b
    recil users fit my_log.csv --out users
    recil users fit my_log.csv --out users --members 5 --jobs 2
    """
    from recil.sim.card import validate as judge
    from recil.sim.user_config import UserConfig

    _check_place(out)
    usual = UserConfig()
    config = replace(usual, types=types or usual.types, epochs=epochs or usual.epochs, cluster=cluster)
    found = read(log, log_format, reward)
    by = held_out_by or ("session" if found.timestamp is None else "time")
    train, held_out = (found, None) if no_card else found.split(by=by, test=test, seed=seed, cluster=cluster)
    fitted = _fit(train, config, seed, members, jobs, out)
    if held_out is None:
        _say_fitted(form, fitted, out)
        return
    learnable = _reference(train, cluster, seed, out) if reference else None
    card = judge(fitted, held_out, reference=learnable, seed=seed, cluster=cluster)
    card.save(out)
    learned = _transfer(lambda: (train, held_out), fitted, seed)
    _answer(form, {"held-out": card}, learned)
    _gate(out, {"held-out": card})


@users.command()
@click.argument("folder", type=PATH)
@click.argument("log", type=PATH)
@click.option("--shift", type=PATH, metavar="LOG", help="A log of another policy: do the users hold for it, too?")
@click.option(
    "--report", type=PATH, metavar="FOLDER", help="Save the card there; in the users' own folder, it is theirs."
)
@_reading
@seed
@common
def validate(
    folder: Path,
    log: Path,
    shift: Path | None,
    report: Path | None,
    log_format: str | None,
    reward: str,
    cluster: str | None,
    seed: int,
    form: str,
) -> None:
    """Say whether the users in FOLDER can be believed on the sessions in LOG, and fail where they cannot.

    LOG must hold other sessions than those the users were fitted to, over the same catalogue.

    \b
    recil users validate users next_week.csv
    recil users validate users next_week.csv --shift of_another_policy.csv --report pages
    """
    from recil.logs.align import align
    from recil.sim.card import validate as judge
    from recil.sim.storage import load_users

    fitted, held_out = load_users(folder), read(log, log_format, reward)
    reference = _reference_beside(folder)
    with Waiting(f"judging the users by {log}"):
        cards = {"held-out": judge(fitted, held_out, reference=reference, seed=seed, cluster=cluster)}
    if shift is not None:
        shifted = align(read(shift, log_format, reward), held_out)
        with Waiting(f"judging the users by {shift}"):
            cards["shift"] = judge(fitted, shifted, reference=reference, seed=seed, cluster=cluster)
    learned = _transfer(lambda: _halves(held_out, cluster, seed), fitted, seed)
    if report is not None:
        for name, card in cards.items():
            card.save(report if name == "held-out" else report / name)
        if learned is not None:
            learned.save(report / "transfer.json")
    _answer(form, cards, learned)
    _gate(folder, cards)


def _check_place(out: Path) -> None:
    """Before hours of fitting: may the users be saved there?"""
    if out.exists() and not ((out / "users.json").is_file() or (out.is_dir() and not any(out.iterdir()))):
        raise InputError(f"users folder {out}", "exists and holds no users", "give a new folder")


def _fit(train: SessionLog, config: UserConfig, seed: int, members: int | None, jobs: int, out: Path) -> UserModel:
    """The users, saved at once: what is done next may fail. An older card there goes, for it was not theirs."""
    from recil.sim.fit import fit_users
    from recil.sim.storage import save_users

    with ProgressBar() as progress:
        found = fit_users(
            train, config, seed, on_metrics=lambda epoch, _: progress(epoch, config.epochs, "passes at most")
        )
    save_users(found, out)
    if members is not None:
        from recil.sim.ensemble import fit_ensemble

        with ProgressBar() as progress:
            fit_ensemble(
                train,
                config,
                seed,
                members=members,
                jobs=jobs,
                users=found,
                on_metrics=lambda number, _: progress(number, members, "members"),
            ).save(out / "ensemble")
    return found


def _reference(train: SessionLog, cluster: str | None, seed: int, out: Path) -> ResponseReference:
    """What is learnable, saved beside the users, where `recil users validate` finds it."""
    from recil.sim.reference import ReferenceConfig, fit_reference
    from recil.sim.reference_storage import save_reference

    config = ReferenceConfig(cluster=cluster)
    with ProgressBar() as progress:
        found = fit_reference(
            train, config, seed, on_metrics=lambda epoch, _: progress(epoch, config.epochs, "passes at most")
        )
    save_reference(found, out / "reference")
    return found


def _reference_beside(folder: Path) -> ResponseReference | None:
    from recil.sim.reference_storage import load_reference

    return load_reference(folder / "reference") if (folder / "reference").is_dir() else None


def _halves(held_out: SessionLog, cluster: str | None, seed: int) -> tuple[SessionLog, SessionLog]:
    """What response models learn from and what they are tested on; both are new to the users.

    Drawn by a seed of their own: with that of the split that made this log, all its sessions would be on one side.
    """
    from recil.random import stable_hash

    return held_out.split(by="session", test=0.5, seed=stable_hash("users.validate", seed), cluster=cluster)


def _transfer(parts: Callable[[], tuple[SessionLog, SessionLog]], users: UserModel, seed: int) -> Transfer | None:
    """What simulated clicks teach; None, and why, where there is nothing to learn or to test on.

    parts: what to learn from and to test on.
    """
    from recil.evaluate.transfer import transfer

    try:
        return transfer(*parts(), users, seed=seed)
    except InputError as error:
        say(f"not measured: {error}")
        return None


def _say_fitted(form: str, users: UserModel, out: Path) -> None:
    import pandas as pd

    frame = pd.DataFrame([{"users": str(out), **users.report, "verdict": "refuse"}])
    emit(form, f"users in {out}: no card yet; recil users validate {out} LOG --report {out}", frame)


def _answer(form: str, cards: Mapping[str, SimulatorCard], learned: Transfer | None) -> None:
    import pandas as pd

    text = "\n\n".join(f"on the {name} log:\n{card}" for name, card in cards.items())
    frames = [_rows(name, card) for name, card in cards.items()]
    if learned is not None:
        text += f"\n\ntrained in simulation, tested on real:\n{learned}"
        frames.append(learned.to_frame().assign(log="transfer"))
    emit(form, text, pd.concat(frames, ignore_index=True))


def _rows(name: str, card: SimulatorCard) -> pd.DataFrame:
    frame = card.to_frame().assign(verdict=card.verdict, reasons="; ".join(card.reasons))
    frame.insert(0, "log", name)
    return frame


def _gate(folder: Path, cards: Mapping[str, SimulatorCard]) -> None:
    refused = [name for name, card in cards.items() if card.verdict == "refuse"]
    if refused:
        raise GateError(f"{folder}: refused on the {' and the '.join(refused)} log")
