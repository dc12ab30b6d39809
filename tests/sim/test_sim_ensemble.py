"""An ensemble: members are fitted to bootstraps of the log's sessions, each by its number alone, and kept whole."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from known_users import SMALL, sessions_of

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.sim import ensemble as fitting
from recil.sim import ensemble_folder
from recil.sim.ensemble import UserEnsemble, fit_ensemble
from recil.sim.fit import fit_users
from recil.sim.generate import Truth
from recil.sim.user_config import UserConfig
from recil.sim.users import UserModel

QUICK = UserConfig(types=2, dimension=2, epochs=2, batch=64, held_out=0.2)
SEED = 3


class Interrupt(Exception):
    pass


@pytest.fixture(scope="module")
def log() -> SessionLog:
    return sessions_of(Truth(SMALL), 100)


@pytest.fixture(scope="module")
def ensemble(log: SessionLog) -> UserEnsemble:
    return fit_ensemble(log, QUICK, SEED, members=3)


def same(one: UserModel, other: UserModel) -> bool:
    first, second = one.behaviour.state_dict(), other.behaviour.state_dict()
    return (
        list(first) == list(second)
        and all(torch.equal(first[name], second[name]) for name in first)
        and torch.equal(one.starts.kinds, other.starts.kinds)
        and torch.equal(one.starts.lengths, other.starts.lengths)
        and one.report == other.report
        and one.leaving_rate == other.leaving_rate
    )


def all_same(one: UserEnsemble, other: UserEnsemble) -> bool:
    pairs = zip((one.central, *one.members), (other.central, *other.members), strict=True)
    return all(same(left, right) for left, right in pairs)


def test_the_central_users_are_those_of_the_log_and_members_are_each_their_own(log, ensemble) -> None:
    assert same(ensemble.central, fit_users(log, QUICK, SEED))
    users = (ensemble.central, *ensemble.members)
    for name in ("item_appeal", "type_home", "hazard"):
        assert len({tuple(each.behaviour.state_dict()[name].flatten().tolist()) for each in users}) == 4
    assert len({each.leaving_rate for each in users}) == 4
    assert all(each.behaviour.layout == ensemble.central.behaviour.layout for each in users)
    assert not any(parameter.requires_grad for each in users for parameter in each.behaviour.parameters())


def test_a_member_depends_on_its_number_alone(log, ensemble) -> None:
    """Not on how many there are, who fitted the central users, or how many threads there were."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        fewer = fit_ensemble(log, QUICK, SEED, members=2, users=ensemble.central)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert all(same(one, other) for one, other in zip(fewer.members, ensemble.members, strict=False))
    other = fit_ensemble(log, QUICK, SEED + 1, members=2, users=ensemble.central)
    assert not any(same(one, another) for one, another in zip(other.members, ensemble.members, strict=False))


def test_processes_change_nothing(log, ensemble, tmp_path: Path) -> None:
    beside = fit_ensemble(log, QUICK, SEED, members=3, jobs=2, users=ensemble.central, checkpoint=tmp_path / "work")
    assert all_same(beside, ensemble)
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == [
        "fit.json",
        "member-1",
        "member-2",
        "member-3",
    ]


def test_sessions_are_drawn_again_after_the_split(log, ensemble, monkeypatch) -> None:
    """No copy of a session that was climbed on says when to stop. The split is the central users'."""
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    optimise = fitting.optimise

    def spy(behaviour, columns, told, parts, *rest):
        seen.append(parts)
        return optimise(behaviour, columns, told, parts, *rest)

    monkeypatch.setattr(fitting, "optimise", spy)
    found = fit_ensemble(log, QUICK, SEED, members=3, users=ensemble.central)
    train, held_out = fitting.split_sessions(log, QUICK, fitting.Streams(SEED))
    for (climbed, stopped), member in zip(seen, found.members, strict=True):
        assert len(climbed) == len(train) == 80 and len(stopped) == len(held_out) == 20
        assert set(climbed) < set(train) and set(stopped) < set(held_out)
        # 1 - 1/e of the sessions, 63%, on average; a share outside these bounds has a chance below 1e-6.
        assert 0.40 < len(set(climbed)) / len(train) < 0.85
        drawn = np.concatenate([climbed, stopped])
        assert member.starts.lengths.tolist() == log.lengths[drawn].tolist()
        ends = log.terminated[drawn].sum() / log.lengths[drawn].sum()
        assert member.leaving_rate == pytest.approx(ends)
    assert len({tuple(climbed) for climbed, _ in seen}) == 3


def test_metrics_are_told_of_the_central_fit_and_of_each_member(log, ensemble) -> None:
    told: list[tuple[int, list[str]]] = []
    fit_ensemble(log, QUICK, SEED, members=2, on_metrics=lambda number, values: told.append((number, list(values))))
    epochs = ["users/nll", "users/held_out_nll"]
    members = ["ensemble/epochs", "ensemble/held_out_nll"]
    assert told == [(1, epochs), (2, epochs), (1, members), (2, members)]


def test_what_cannot_be_an_ensemble_is_refused(log, ensemble) -> None:
    for wrong, message in (({"members": 1}, "members: 1 -> give 2"), ({"jobs": 0}, "jobs: 0 -> give 1")):
        with pytest.raises(InputError, match=message):
            fit_ensemble(log, QUICK, SEED, **wrong)
    with pytest.raises(InputError, match="users: are not of this log and config"):
        fit_ensemble(log, replace(QUICK, types=3), SEED, users=ensemble.central)
    with pytest.raises(InputError, match=r"ensemble.members: 1 ->"):
        UserEnsemble(ensemble.central, ensemble.members[:1])
    renamed = replace(ensemble.central, item_ids=ensemble.central.item_ids + 1)
    with pytest.raises(InputError, match="member 2: has another catalogue"):
        UserEnsemble(ensemble.central, (ensemble.members[0], renamed))
    wider = fit_users(log, replace(QUICK, types=3, epochs=1, choice="multinomial"))
    with pytest.raises(InputError, match="member 1: is of another shape"):
        UserEnsemble(ensemble.central, (wider, ensemble.members[0]))


def test_a_saved_ensemble_comes_back(ensemble, tmp_path: Path) -> None:
    path = tmp_path / "users"
    ensemble.save(path)
    assert all_same(UserEnsemble.load(path), ensemble)
    smaller = UserEnsemble(ensemble.members[2], ensemble.members[:2])
    smaller.save(path)
    assert all_same(UserEnsemble.load(path), smaller)
    assert [found.name for found in tmp_path.iterdir()] == ["users"]


def test_an_ensemble_is_written_whole_or_not_at_all(ensemble, tmp_path: Path, monkeypatch) -> None:
    path, written = tmp_path / "users", []
    ensemble.save(path)
    save_users = ensemble_folder.save_users

    def fail_at_the_third(users, folder) -> None:
        written.append(folder)
        if len(written) == 3:
            raise OSError("no space left")
        save_users(users, folder)

    monkeypatch.setattr(ensemble_folder, "save_users", fail_at_the_third)
    with pytest.raises(InputError, match="no space left"):
        UserEnsemble(ensemble.members[2], ensemble.members[:2]).save(path)
    assert all_same(UserEnsemble.load(path), ensemble)
    assert [found.name for found in tmp_path.iterdir()] == ["users"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="exists and holds no ensemble"):
        ensemble.save(tmp_path / "other")


def test_a_folder_that_is_not_the_saved_ensemble_is_refused(ensemble, tmp_path: Path) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(InputError) as caught:
            UserEnsemble.load(path)
        assert str(path) in caught.value.place and caught.value.remedy
        return str(caught.value)

    path = tmp_path / "users"
    assert "ensemble.json is missing" in refused(path)
    ensemble.save(path)
    described = json.loads((path / "ensemble.json").read_text())
    for change, message in (
        ({"recil_ensemble": 9}, "has schema 9"),
        ({"folders": {}}, "names other folders"),
        ({"folders": {**described["folders"], "../member-4": ""}}, "names other folders"),
        ({"folders": 5}, "cannot be read"),
    ):
        (path / "ensemble.json").write_text(json.dumps(described | change))
        assert message in refused(path)
    (path / "ensemble.json").write_text(json.dumps(described))
    shutil.copytree(path / "member-1", path / "member-2", dirs_exist_ok=True)
    assert "member-2: not what was saved" in refused(path)
    shutil.rmtree(path / "member-2")
    assert "users.json is missing" in refused(path)


def count_fits(monkeypatch) -> list[int]:
    """Grows by one with each member that is fitted in this process."""
    fits: list[int] = []
    optimise = fitting.optimise

    def spy(*rest):
        fits.append(1)
        return optimise(*rest)

    monkeypatch.setattr(fitting, "optimise", spy)
    return fits


def test_an_ensemble_that_was_cut_off_goes_on(log, ensemble, tmp_path: Path, monkeypatch) -> None:
    work, told = tmp_path / "work", []
    stops = [(1, "users"), (1, "ensemble")]

    def tell(number: int, values) -> None:
        told.append((number, next(iter(values)).split("/")[0]))
        if stops[:1] == told[-1:]:
            del stops[0]
            raise Interrupt

    fits = count_fits(monkeypatch)
    for _ in range(2):
        with pytest.raises(Interrupt):
            fit_ensemble(log, QUICK, SEED, members=3, on_metrics=tell, checkpoint=work)
    assert told == [(1, "users"), (2, "users"), (1, "ensemble")] and len(fits) == 1
    assert all_same(fit_ensemble(log, QUICK, SEED, members=3, on_metrics=tell, checkpoint=work), ensemble)
    assert told[3:] == [(1, "ensemble"), (2, "ensemble"), (3, "ensemble")] and len(fits) == 3
    assert all_same(fit_ensemble(log, QUICK, SEED, members=3, checkpoint=work), ensemble) and len(fits) == 3
    assert not list(work.glob("*.fit")) and not list(work.glob(".*"))


def test_a_workplace_of_another_fit_is_refused(log, ensemble, tmp_path: Path) -> None:
    work = tmp_path / "work"
    fit_ensemble(log, QUICK, SEED, members=2, users=ensemble.central, checkpoint=work)
    for changed, message in (
        ((log, QUICK, SEED + 1), "another seed"),
        ((log, replace(QUICK, batch=32), SEED), "another users.batch"),
        ((log.select(np.arange(90)), QUICK, SEED), "another log"),
    ):
        with pytest.raises(InputError, match=f"checkpoint folder .*{message} -> give another folder"):
            fit_ensemble(*changed, members=2, checkpoint=work)
    (work / "fit.json").write_text("{")
    with pytest.raises(InputError, match="cannot be used"):
        fit_ensemble(log, QUICK, SEED, members=2, checkpoint=work)
    (work / "fit.json").unlink()
    with pytest.raises(InputError, match=r"exists and holds no fit\.json"):
        fit_ensemble(log, QUICK, SEED, members=2, checkpoint=work)
