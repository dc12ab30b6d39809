"""recil users fit, validate; and what is simulated with the users they leave behind."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient
from store_template import MLFLOW_WARNINGS, fresh_store

from recil.cli import main
from recil.evaluate.transfer import transfer
from recil.logs.read import read_log
from recil.logs.session_log import SessionLog
from recil.policies.baselines import uniform
from recil.policies.storage import save
from recil.sim.card import validate
from recil.sim.fit import fit_users
from recil.sim.generate import Settings, Truth
from recil.sim.storage import load_users
from recil.sim.user_config import UserConfig

pytestmark = MLFLOW_WARNINGS
SETTINGS = Settings(
    seed=5, sessions=1200, horizon=4, items=8, slate_size=2, types=2, click_rate=0.15, appeal_spread=1.2
)
SHORT = ("--types", 2, "--epochs", 6)
QUICK = ("--types", 1, "--epochs", 1)


@pytest.fixture(scope="module")
def log() -> SessionLog:
    return Truth(SETTINGS).log()


@pytest.fixture(scope="module")
def place(log, tmp_path_factory) -> Path:
    """A folder with the log, one of its world after a change of tastes, a policy, and users fitted by the command."""
    folder = tmp_path_factory.mktemp("users")
    log.save(folder / "log")
    changed(log).save(folder / "changed")
    save(uniform(log), folder / "policy")
    assert run("users", "fit", folder / "log", "--out", folder / "users", *SHORT) == 0
    return folder


def changed(log: SessionLog) -> SessionLog:
    """The log with times; in its last fifth, what was liked is disliked: items answer to each other's names."""
    times = np.repeat(np.arange(log.sessions), log.lengths)
    late = times >= 0.8 * log.sessions
    turned = np.where(log.items >= 0, log.catalogue - 1 - log.items, -1)
    order = np.argsort(np.bincount(log.items[log.items >= 0], log.reward[log.items >= 0]))
    turned[log.items >= 0] = order[log.catalogue - 1 - np.argsort(order)[log.items[log.items >= 0]]]
    return replace(log, items=np.where(late[:, None], turned, log.items).astype(np.int32), timestamp=times)


def run(*arguments: object) -> object:
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    return ended.value.code


@pytest.fixture
def recil(capsys):
    """Runs a command in this process: (exit code, standard output, standard error)."""

    def command(*arguments):
        capsys.readouterr()
        code = run(*arguments)
        streams = capsys.readouterr()
        return code, streams.out, streams.err

    return command


def test_users_are_fitted_and_saved_with_their_card(place, log) -> None:
    """The command does what the verbs do: fit, hold out, judge."""
    train, held_out = log.split(by="session", test=0.2, seed=0)
    by_hand = fit_users(train, UserConfig(types=2, epochs=6))
    found = load_users(place / "users")
    for name, value in by_hand.behaviour.state_dict().items():
        assert (found.behaviour.state_dict()[name] == value).all(), name
    assert json.loads((place / "users" / "card.json").read_text())["verdict"] == validate(by_hand, held_out).verdict
    assert {file.name for file in (place / "users").iterdir()} == {
        "users.json", "users.safetensors", "card.md", "card.html", "card.json"
    }  # fmt: skip


def test_refused_users_fail_the_command_and_are_kept_with_the_reason(place, recil, tmp_path) -> None:
    code, out, err = recil("users", "fit", place / "changed", "--out", tmp_path / "users", *QUICK)
    assert code == 1 and "refused on the held-out log" in err
    assert "verdict: refuse" in out and "trained in simulation, tested on real" in out
    card = json.loads((tmp_path / "users" / "card.json").read_text())
    assert card["verdict"] == "refuse" and card["reasons"]
    assert load_users(tmp_path / "users").behaviour.layout.types == 1


def test_held_out_by_time_where_there_are_times_or_as_asked(place, log, recil, tmp_path) -> None:
    fit = ("users", "fit", place / "changed", "--out", tmp_path / "users", *QUICK)
    for asked, by in (((), "time"), (("--held-out-by", "session"), "session")):
        _, out, _ = recil(*fit, *asked, "--test", 0.3, "--seed", 4)
        train, held_out = changed(log).split(by=by, test=0.3, seed=4)
        assert f"items in {held_out.sessions:,} sessions" in out
        assert f"on {train.sessions:,} sessions, tested on {held_out.sessions:,} real" in out
    code, _, err = recil("users", "fit", place / "log", "--out", tmp_path / "more", "--held-out-by", "time")
    assert code == 2 and "timestamp" in err and not (tmp_path / "more").exists()


def test_the_card_is_printed_and_both_logs_are_judged(place, log, recil, tmp_path) -> None:
    split = log.split(by="session", test=0.2, seed=0)
    split[1].save(tmp_path / "test")
    users = load_users(place / "users")
    code, out, err = recil("users", "validate", place / "users", tmp_path / "test")
    assert (code, err) == (0, "")
    assert str(validate(users, split[1])) in out and "simulated - real" in out
    changed(split[1]).save(tmp_path / "other")
    code, out, err = recil(
        "users", "validate", place / "users", tmp_path / "test", "--shift", tmp_path / "other",
        "--format", "json", "--report", tmp_path / "report",
    )  # fmt: skip
    rows = json.loads(out)
    assert {row["log"] for row in rows} == {"held-out", "shift", "transfer"}
    first = next(row for row in rows if (row["log"], row["model"]) == ("shift", "users"))
    assert first["log_loss"] == pytest.approx(validate(users, changed(split[1])).row("users").log_loss)
    assert code == (1 if first["verdict"] == "refuse" else 0)
    names = {str(file.relative_to(tmp_path / "report")) for file in (tmp_path / "report").rglob("*.*")}
    assert names == {"transfer.json"} | {
        f"{folder}card.{ending}" for folder in ("", "shift/") for ending in ("md", "html", "json")
    }
    assert json.loads((tmp_path / "report" / "transfer.json").read_text())["sessions"] < split[1].sessions


def test_the_transfer_of_a_fit_is_that_of_its_two_parts(place, log, recil, tmp_path) -> None:
    train, held_out = log.split(by="session", test=0.2, seed=0)
    code, out, _ = recil("users", "fit", place / "log", "--out", tmp_path / "users", *QUICK, "--format", "csv")
    rows = [row for row in csv.DictReader(io.StringIO(out)) if row["log"] == "transfer"]
    found = transfer(train, held_out, load_users(tmp_path / "users"))
    assert code in (0, 1) and rows[2]["model"] == "simulated clicks"
    assert float(rows[2]["log_loss"]) == pytest.approx(found.simulated.log_loss)


def test_users_who_are_named_are_what_counts_unless_told(log, recil, tmp_path) -> None:
    named = replace(log.select(np.arange(300)), user_ids=np.arange(300) // 10)
    named.save(tmp_path / "named")
    for cluster, more in (("user", ()), ("session", ("--cluster", "session"))):
        _, held_out = named.split(by="session", test=0.2, seed=0, cluster=cluster)
        recil("users", "fit", tmp_path / "named", "--out", tmp_path / cluster, *QUICK, *more)
        card = json.loads((tmp_path / cluster / "card.json").read_text())
        units = {"user": len(set(held_out.user_ids.tolist())), "session": held_out.sessions}[cluster]
        assert (card["cluster"], card["units"], card["sessions"]) == (cluster, units, held_out.sessions)
        _, out, _ = recil("users", "validate", tmp_path / cluster, tmp_path / "named", *more)
        assert ("300 sessions of 30 users" in out) == (cluster == "user")
    code, _, err = recil("users", "validate", tmp_path / "user", tmp_path / "named", "--cluster", "house")
    assert code == 2 and "'house' is no column of the log" in err


def test_users_of_another_catalogue_or_a_broken_card_are_bad_input(place, log, recil, tmp_path) -> None:
    replace(log, item_ids=log.item_ids + 1).save(tmp_path / "renamed")
    code, out, err = recil("users", "validate", place / "users", tmp_path / "renamed")
    assert (code, out) == (2, "") and "another catalogue" in err
    assert recil("users", "validate", tmp_path / "none", place / "log")[0] == 2
    fitted = load_users(place / "users")
    from recil.sim.storage import save_users

    save_users(fitted, tmp_path / "users")
    (tmp_path / "users" / "card.json").write_text('{"verdict": "tru')
    code, out, err = recil("simulate", place / "policy", "--users", tmp_path / "users")
    assert (code, out) == (2, "") and "card.json" in err


def test_what_is_no_users_folder_is_left_alone_before_any_work(place, recil) -> None:
    code, _, err = recil("users", "fit", place / "nowhere", "--out", place / "log")
    assert code == 2 and "holds no users" in err


def test_simulation_with_fitted_users_goes_by_their_card(place, recil, tmp_path, monkeypatch) -> None:
    """Trusted with the card, refused without; the run in MLflow says which."""
    monkeypatch.chdir(tmp_path)
    fresh_store(tmp_path)
    simulate = ("simulate", place / "policy", "--sessions", 100, "--track", "small", "--format", "json", "--users")
    verdict = json.loads((place / "users" / "card.json").read_text())["verdict"]
    code, out, _ = recil(*simulate, place / "users")
    (row,) = json.loads(out)
    assert code == 0 and row["verdict"] == verdict != "refuse" and row["low"] < row["value"] < row["high"]
    code, _, _ = recil("users", "fit", place / "log", "--out", "bare", *QUICK, "--no-card")
    assert code == 0 and not (tmp_path / "bare" / "card.json").exists()
    assert load_users("bare").report["sessions"] == 1200  # nothing was held out
    code, out, _ = recil(*simulate, "bare")
    (row,) = json.loads(out)
    assert code == 0 and row["verdict"] == "refuse" and row["value"] is None and "no card" in row["reasons"]
    code, out, _ = recil("simulate", place / "policy", "--sessions", 100, "--users", "bare")
    assert code == 0 and out.startswith("refuse: no card")
    code, out, _ = recil(
        "compare", f"a={place / 'policy'}", f"b={place / 'policy'}", "--users", "bare", "--sessions", 50
    )
    assert code == 0 and "refuse" in out.splitlines()[1]
    runs = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["1"])
    assert {run.data.tags["sim.verdict"] for run in runs} == {verdict, "refuse"}
    assert all("sim/return" in run.data.metrics for run in runs)


def test_a_card_saved_into_the_users_folder_is_theirs(place, log, recil, tmp_path) -> None:
    code, _, _ = recil("users", "fit", place / "log", "--out", tmp_path / "users", *QUICK, "--no-card", "--members", 2)
    assert code == 0
    log.split(by="session", test=0.2, seed=0)[1].save(tmp_path / "test")
    recil("users", "validate", tmp_path / "users", tmp_path / "test", "--report", tmp_path / "users")
    simulate = ("simulate", place / "policy", "--sessions", 50, "--users", tmp_path / "users", "--format", "json")
    (row,) = json.loads(recil(*simulate)[1])
    card = json.loads((tmp_path / "users" / "card.json").read_text())
    assert (row["verdict"], row["reasons"]) == (card["verdict"], "; ".join(card["reasons"]))
    assert row["verdict"] == "refuse" or row["between"] >= 0  # of the two members

    from recil.sim.ensemble import UserEnsemble

    ensemble = UserEnsemble.load(tmp_path / "users" / "ensemble")
    central, saved = ensemble.central.behaviour.state_dict(), load_users(tmp_path / "users").behaviour.state_dict()
    assert len(ensemble.members) == 2 and all((central[name] == saved[name]).all() for name in saved)


def test_users_fitted_anew_do_not_keep_an_older_card(place, recil, tmp_path) -> None:
    for more in ((), ("--no-card",)):
        recil("users", "fit", place / "log", "--out", tmp_path / "users", *QUICK, *more)
        assert (tmp_path / "users" / "card.json").exists() is not bool(more)


def test_users_fitted_on_the_spot_are_judged_on_the_spot(place, recil, monkeypatch) -> None:
    monkeypatch.setattr("recil.sim.fit.UserConfig", lambda: UserConfig(types=2, epochs=3))
    code, out, _ = recil("simulate", place / "policy", "--fit", place / "log", "--sessions", 50, "--format", "json")
    (row,) = json.loads(out)
    assert code == 0 and row["verdict"] in ("trust", "caution") and "no card" not in row["reasons"]


def test_the_log_is_read_as_asked(place, log, recil) -> None:
    frame = log.to_frame().rename(columns={"click": "liked"})
    frame.to_csv(place / "liked.csv", index=False)
    code, out, _ = recil("users", "fit", place / "liked.csv", "--out", place / "liked", *QUICK, "--reward", "liked")
    assert code in (0, 1) and "verdict" in out
    code, _, err = recil("users", "fit", place / "liked.csv", "--out", place / "none", *QUICK)
    assert code == 2 and "click" in err and not (place / "none").exists()
    assert read_log(place / "liked.csv", reward="liked").sessions == log.sessions


def test_the_reference_is_kept_beside_the_users_and_shown_again(place, log, recil, tmp_path) -> None:
    code, out, _ = recil("users", "fit", place / "log", "--out", tmp_path / "users", *QUICK, "--reference")
    assert code in (0, 1) and "what is learnable beyond the users" in out
    log.split(by="session", test=0.2, seed=0)[1].save(tmp_path / "test")
    _, again, _ = recil("users", "validate", tmp_path / "users", tmp_path / "test")
    line = "what is learnable beyond the users"
    assert [row for row in out.splitlines() if line in row] == [row for row in again.splitlines() if line in row]
