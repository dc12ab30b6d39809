"""Saved users come back equal in every part; anything else in their place is refused by name."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from known_users import ITEM_COLUMNS, log_with_columns, rich_behaviour
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recil.errors import InputError
from recil.policies import tensor_folder
from recil.random import Streams
from recil.sim.card import validate
from recil.sim.generate import Recommender
from recil.sim.predict import predict
from recil.sim.rates import Level, Rates
from recil.sim.storage import load_users, save_users
from recil.sim.users import Starts, UserModel
from recil.sim.world import World


def assert_same(one: Any, other: Any, place: str = "users") -> None:
    """Equal to the last bit, in type and order too."""
    assert type(one) is type(other) or isinstance(one, (dict, nn.Parameter)), place
    if isinstance(one, nn.Module):
        assert asdict(one.layout) == asdict(other.layout) and one.training == other.training
        assert_same(dict(one.state_dict()), dict(other.state_dict()), place)
    elif is_dataclass(one):
        for field in fields(one):
            assert_same(getattr(one, field.name), getattr(other, field.name), f"{place}.{field.name}")
    elif isinstance(one, dict):
        assert list(one) == list(other), place
        for name in one:
            assert_same(one[name], other[name], f"{place}.{name}")
    elif isinstance(one, (tuple, list)):
        assert len(one) == len(other), place
        for index, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_same(left, right, f"{place}.{index}")
    elif isinstance(one, Tensor):
        assert one.dtype == other.dtype and one.shape == other.shape, place
        assert one.detach().numpy().tobytes() == other.detach().numpy().tobytes(), place
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype and np.array_equal(one, other), place
    else:
        assert one == other, place


@pytest.fixture
def folder(fitted_to_columns, tmp_path: Path) -> Path:
    save_users(fitted_to_columns, tmp_path / "users")
    return tmp_path / "users"


def change(folder: Path, **parts: Any) -> None:
    described = json.loads((folder / "users.json").read_text())
    (folder / "users.json").write_text(json.dumps(described | parts))


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_users(folder)
    assert caught.value.place == f"users folder {folder}" and caught.value.remedy
    return str(caught.value)


def test_everything_comes_back(fitted, fitted_to_columns, tmp_path: Path) -> None:
    counts = np.array([2.0, 3.0])
    level = Level(("item", "position"), np.array([1, 4]), counts, counts + 0.5, 7.5)
    fitted = replace(fitted, baselines={**fitted.baselines, "own": Rates(1 / 3, (level,))})
    for name, users in (("plain", fitted), ("columns", fitted_to_columns)):
        save_users(users, tmp_path / name)
        assert_same(users, load_users(tmp_path / name))
        assert sorted(file.name for file in (tmp_path / name).iterdir()) == ["users.json", "users.safetensors"]
    assert fitted.item_ids.dtype.kind == "i" and fitted_to_columns.item_ids.dtype.kind == "U"
    assert fitted_to_columns.starts.context and fitted_to_columns.starts.user and fitted_to_columns.item_columns
    assert fitted_to_columns.baselines["item, tab"].levels and fitted_to_columns.report["epochs"]


def test_saved_users_predict_and_behave_the_same(folder: Path, fitted_to_columns, columns) -> None:
    again = load_users(folder)
    assert_same(predict(fitted_to_columns, columns), predict(again, columns))
    assert str(validate(fitted_to_columns, columns)) == str(validate(again, columns))
    policy = Recommender(torch.zeros(3), torch.zeros(3, 2), 0.0, 0.0)
    first, second = (
        World(users, 4).rollout(policy, torch.arange(50), Streams(0)) for users in (fitted_to_columns, again)
    )
    assert torch.equal(first.items, second.items) and torch.equal(first.reward, second.reward)


def test_precision_and_the_bare_minimum_come_back(tmp_path: Path) -> None:
    ids = np.array([5, 2, 9], dtype=np.int32)
    users = UserModel(rich_behaviour().requires_grad_(False), Starts(torch.ones(1, 2).double() / 2), ids, ITEM_COLUMNS)
    save_users(users, tmp_path / "users")
    again = load_users(tmp_path / "users")
    assert_same(users, again)
    assert again.behaviour.appeal.dtype == torch.float64 and again.item_ids.dtype == np.int32
    assert again.baselines == {} and again.starts.lengths is None


def test_saving_again_replaces_whole_and_loaded_users_keep_their_weights(folder: Path, fitted) -> None:
    (folder / "card.txt").write_text("of the users before")
    before = load_users(folder)
    weights = before.behaviour.item_vector.clone()
    save_users(fitted, folder)
    assert_same(fitted, load_users(folder))
    assert sorted(file.name for file in folder.iterdir()) == ["users.json", "users.safetensors"]
    assert torch.equal(before.behaviour.item_vector, weights)
    assert [file.name for file in folder.parent.iterdir()] == ["users"]


def test_saving_leaves_the_process_generators_alone(folder: Path) -> None:
    state = torch.get_rng_state()
    load_users(folder)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("occasion", ["first", "replacing"])
def test_a_save_that_fails_leaves_what_was_there(
    occasion: str, folder: Path, fitted, fitted_to_columns, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder if occasion == "replacing" else folder.with_name("new")

    def full(content: dict, path: Path, **options: Any) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(tensor_folder, "save_file", full)
    with pytest.raises(InputError, match=r"cannot be written.*no space left"):
        save_users(fitted, place)
    assert [file.name for file in folder.parent.iterdir()] == ["users"]
    assert_same(fitted_to_columns, load_users(folder))


def test_a_move_that_fails_brings_the_old_users_back(
    folder: Path, fitted, fitted_to_columns, monkeypatch: pytest.MonkeyPatch
) -> None:
    move = Path.replace

    def once(self: Path, target: Path) -> Path:
        if self.name.endswith(".new"):
            raise OSError("the disk went away")
        return move(self, target)

    monkeypatch.setattr(Path, "replace", once)
    with pytest.raises(InputError, match="the disk went away"):
        save_users(fitted, folder)
    assert [file.name for file in folder.parent.iterdir()] == ["users"]
    assert_same(fitted_to_columns, load_users(folder))


def test_what_is_not_users_is_not_overwritten(fitted, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    (tmp_path / "file").write_text("text")
    for name in ("mine", "file"):
        with pytest.raises(InputError, match=f"users folder .*{name}: exists and holds no users"):
            save_users(fitted, tmp_path / name)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear" and (tmp_path / "file").read_text() == "text"
    (tmp_path / "empty").mkdir()
    save_users(fitted, tmp_path / "empty")
    assert load_users(tmp_path / "empty").report == fitted.report


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_place_is_refused(fitted, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written"):
        save_users(fitted, tmp_path / "users")


def test_a_place_below_a_file_is_refused(fitted, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(InputError, match="cannot be written"):
        save_users(fitted, tmp_path / "file" / "users")


@pytest.mark.parametrize("file", ["users.json", "users.safetensors"])
def test_missing_and_truncated_files_are_named(folder: Path, file: str) -> None:
    content = (folder / file).read_bytes()
    for size in (0, 7, len(content) // 2, len(content) - 1):
        (folder / file).write_bytes(content[:size])
        assert "cannot be read" in refused(folder)
    (folder / file).unlink()
    assert f"{file} is missing" in refused(folder)
    shutil.rmtree(folder)
    assert "users.json is missing" in refused(folder)


@pytest.mark.parametrize("content", ["[]", "3", "null", '"text"', "{}", '{"recil_users": 99}'])
def test_other_json_is_refused(folder: Path, content: str) -> None:
    (folder / "users.json").write_text(content)
    assert "describes no users" in refused(folder) or "schema" in refused(folder)


@pytest.mark.parametrize("file", ["users.json", "users.safetensors"])
def test_a_pickle_is_refused_and_not_run(folder: Path, file: str, tmp_path: Path) -> None:
    torch.save({"behaviour.appeal": torch.zeros(())}, folder / file)
    assert "cannot be read" in refused(folder)


@pytest.mark.parametrize(
    "part",
    ["layout", "item_ids", "item_ids_type", "catalogue_digest", "item_columns", "user", "context", "baselines"],
)
def test_a_description_without_or_with_a_wrong_part_is_damaged(folder: Path, part: str) -> None:
    described = json.loads((folder / "users.json").read_text())
    for wrong in (None, 7, ["x"], {"x": 1}):
        change(folder, **{part: wrong})
        assert "is damaged" in refused(folder)
    del described[part]
    (folder / "users.json").write_text(json.dumps(described))
    assert "is damaged" in refused(folder)


def test_items_in_another_order_are_damaged(folder: Path) -> None:
    change(folder, item_ids=["b", "a", "c"])
    assert "the catalogue's ids" in refused(folder)


def test_another_layout_is_damaged(folder: Path) -> None:
    layout = json.loads((folder / "users.json").read_text())["layout"]
    for name, value in (("types", 3), ("catalogue", 4), ("dimension", 5), ("contexts", []), ("surprise", 1)):
        change(folder, layout=layout | {name: value})
        assert "is damaged" in refused(folder)


def test_tensors_that_do_not_belong_are_damaged(folder: Path) -> None:
    whole = load_file(folder / "users.safetensors")
    broken = [{name: value for name, value in whole.items() if name != missing} for missing in whole]
    broken += [whole | {"stranger": torch.zeros(1)}]
    broken += [
        whole | {name: torch.cat([whole[name], whole[name]])}
        for name in whole
        if whole[name].ndim and not name.startswith("baselines")
    ]
    broken += [whole | {"kinds": torch.ones(len(whole["kinds"]), 3)}]
    broken += [whole | {"baselines.1.0.clicks": torch.zeros(1, dtype=torch.float64)}]
    for tensors in broken:
        save_file(tensors, folder / "users.safetensors")
        assert "is damaged" in refused(folder)
    save_file(whole, folder / "users.safetensors")
    load_users(folder)


def test_users_and_policies_are_not_taken_for_each_other(folder: Path, fitted) -> None:
    from recil.policies.frequencies import uniform
    from recil.policies.storage import load, save

    with pytest.raises(InputError, match=r"policy\.json is missing"):
        load(folder)
    policy = folder.with_name("policy")
    save(uniform(log_with_columns(20)), policy)
    assert "users.json is missing" in refused(policy)
    with pytest.raises(InputError, match="exists and holds no users"):
        save_users(replace(fitted, report={}), policy)
