"""A fit that was cut off goes on from its checkpoint and ends where it would have; nothing else is taken for one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.sim import fit_checkpoint
from recil.sim.fit import fit_users
from recil.sim.user_config import UserConfig
from recil.sim.users import UserModel

STEADY = UserConfig(types=2, dimension=2, epochs=4, batch=64, choice="multinomial")
# Held-out likelihood is best after the first epochs: where it goes on must know what was best, and when.
HASTY = replace(STEADY, epochs=30, learning_rate=0.5, patience=2, held_out=0.3)


class Interrupt(Exception):
    pass


@pytest.fixture(scope="module")
def log(train) -> SessionLog:
    return train.select(np.arange(100))


def assert_equal(one: UserModel, other: UserModel) -> None:
    first, second = one.behaviour.state_dict(), other.behaviour.state_dict()
    assert list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)
    assert torch.equal(one.starts.kinds, other.starts.kinds)
    assert one.report == other.report


def interrupted(log: SessionLog, config: UserConfig, path: Path, after: int) -> list[int]:
    """The epochs told before the fit was cut off after this one."""
    told: list[int] = []

    def tell(epoch: int, _) -> None:
        told.append(epoch)
        if epoch == after:
            raise Interrupt

    with pytest.raises(Interrupt):
        fit_users(log, config, on_metrics=tell, checkpoint=path)
    return told


@pytest.fixture(scope="module", params=[STEADY, HASTY], ids=["steady", "hasty"])
def straight(request, log, tmp_path_factory) -> tuple[UserConfig, UserModel, list[int], Path]:
    """A config, the users of a fit that nothing stopped, the epochs it told, and its checkpoint."""
    told: list[int] = []
    path = tmp_path_factory.mktemp("straight") / "checkpoint"
    users = fit_users(log, request.param, on_metrics=lambda epoch, _: told.append(epoch), checkpoint=path)
    return request.param, users, told, path


def test_a_checkpoint_changes_nothing(log, straight) -> None:
    config, users, _, _ = straight
    assert_equal(users, fit_users(log, config))


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_fit_that_was_cut_off_ends_as_if_it_had_not_been(log, tmp_path: Path, straight, share: float) -> None:
    config, users, told, checkpoint = straight
    before = interrupted(log, config, tmp_path / "cut", told[int(share * (len(told) - 1))])
    resumed = fit_users(log, config, on_metrics=lambda epoch, _: before.append(epoch), checkpoint=tmp_path / "cut")
    assert before == told
    assert_equal(users, resumed)
    # Adam's moments, the average and the last parameters too.
    assert (tmp_path / "cut").read_bytes() == checkpoint.read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["cut"]


def test_every_kind_of_column_and_of_parameter_is_kept(columns, tmp_path: Path) -> None:
    """Parameters that no gradient reaches have no moments: those of leaving, where sessions have one step."""
    single = replace(
        columns,
        items=columns.items[columns.offsets[:-1]],
        reward=columns.reward[columns.offsets[:-1]],
        propensity=None,
        offsets=np.arange(columns.sessions + 1),
        context={name: column.take(columns.offsets[:-1]) for name, column in columns.context.items()},
        feedback={name: column.take(columns.offsets[:-1]) for name, column in columns.feedback.items()},
        terminated=None,
    )
    for name, told in (("columns", columns), ("single", single)):
        short = replace(STEADY, epochs=2)
        interrupted(told, short, tmp_path / name, 1)
        assert_equal(fit_users(told, short), fit_users(told, short, checkpoint=tmp_path / name))


def test_a_finished_fit_is_only_read(log, tmp_path: Path) -> None:
    path = tmp_path / "new" / "fit"
    done = fit_users(log, HASTY, checkpoint=path)
    written = path.read_bytes()
    told: list[int] = []
    assert_equal(done, fit_users(log, HASTY, on_metrics=lambda epoch, _: told.append(epoch), checkpoint=path))
    assert told == [] and path.read_bytes() == written


def refused(log: SessionLog, path: Path, config: UserConfig = STEADY, seed: int = 0) -> str:
    before = path.read_bytes() if path.is_file() else None
    with pytest.raises(InputError) as caught:
        fit_users(log, config, seed, checkpoint=path)
    assert caught.value.place == f"checkpoint {path}" and caught.value.remedy
    assert before is None or path.read_bytes() == before
    return str(caught.value)


@pytest.fixture(scope="module")
def cut_off(log, tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("cut off") / "fit"
    interrupted(log, STEADY, path, 1)
    return path.read_bytes()


@pytest.fixture
def path(cut_off: bytes, tmp_path: Path) -> Path:
    (tmp_path / "fit").write_bytes(cut_off)
    return tmp_path / "fit"


def test_the_checkpoint_of_another_fit_is_refused(log, path: Path) -> None:
    reward = log.reward.copy()
    reward[0] = (1.0, 0.0) if reward[0, 0] == 0 else (0.0, 0.0)
    message = refused(replace(log, reward=reward), path)
    assert "another log ->" in message and "delete it to start afresh" in message
    assert "another seed ->" in refused(log, path, seed=1)
    assert "another users.batch, users.held_out ->" in refused(log, path, replace(STEADY, batch=32, held_out=0.2))


def test_a_damaged_checkpoint_is_refused(log, path: Path) -> None:
    whole = path.read_bytes()
    for content in (b"", b"no tensors at all", whole[:-100], whole[: len(whole) // 2]):
        path.write_bytes(content)
        assert "cannot be read" in refused(log, path)
    flipped = bytearray(whole)
    flipped[-7] ^= 1
    path.write_bytes(flipped)
    assert "is damaged" in refused(log, path) and "not those that were written" in refused(log, path)
    path.unlink()
    path.mkdir()
    assert "cannot be" in refused(log, path)


def test_a_checkpoint_with_parts_missing_is_refused(log, path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        described = json.loads(file.metadata()["described"])
    tensors = load_file(path)
    for name in ("now.appeal", "average.appeal", "kept.appeal"):
        fewer = {other: value for other, value in tensors.items() if other != name}
        told = described | {"digest": fit_checkpoint._digest(fewer)}
        save_file(fewer, path, metadata={"described": json.dumps(told)})
        assert "is damaged" in refused(log, path)
    save_file(tensors, path, metadata={"described": json.dumps(described | {"recil_fit": 99})})
    assert "has schema 99" in refused(log, path)
    save_file(tensors, path)
    assert "cannot be read" in refused(log, path)


def test_a_write_that_fails_leaves_the_older_checkpoint(log, path: Path, monkeypatch) -> None:
    def fail(content, name, metadata) -> None:
        Path(name).write_bytes(b"half")
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(fit_checkpoint, "save_file", fail)
        assert "no space left" in refused(log, path)
    assert [found.name for found in path.parent.iterdir()] == [path.name]
    assert_equal(fit_users(log, STEADY), fit_users(log, STEADY, checkpoint=path))
