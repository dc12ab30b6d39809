"""The experiment file: read in full, refused in the file's own words, all at once, before any work."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from recil.config import content_hash, load_experiment
from recil.errors import InputError
from recil.sim.user_config import UserConfig
from recil.train.clone import CloneConfig
from recil.train.finetune_config import FinetuneConfig

WHOLE = """
name = "demo"
seeds = [0, 1, 2]
[log]
path = "logs/demo"
format = "table"
reward = "like"
split = { by = "time", test = 0.3, at = 1700000000 }
[truth]
settings = "settings.toml"
[users]
types = 3
learning_rate = 1e-2
[world]
horizon = 8
[evaluate]
estimators = ["snips", "dr"]
[[methods]]
name = "uniform"
kind = "uniform"
[[methods]]
name = "clone"
kind = "clone"
epochs = 4
encoder = "gru"
[[methods]]
name = "finetuned"
kind = "finetune"
start = "clone"
source = "both"
cap = 5
[[methods]]
name = "scratch"
kind = "reinforce"
like = "clone"
"""


@pytest.fixture
def write(tmp_path):
    def to_file(text=WHOLE, *changes):
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "x.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return to_file


def _problems(path, *overrides):
    with pytest.raises(InputError) as caught:
        load_experiment(path, overrides)
    return [line.removeprefix(f"{path}: ") for line in str(caught.value).splitlines()]


def test_a_file_becomes_frozen_settings_with_the_learners_own_defaults(write):
    found = load_experiment(write())
    assert (found.name, found.seeds, found.world.horizon, found.world.sessions) == ("demo", (0, 1, 2), 8, 4000)
    assert (found.log.reward, found.log.split.by, found.log.split.at) == ("like", "time", 1700000000)
    assert found.evaluate.estimators == ("snips", "dr")
    assert found.users == UserConfig(types=3, learning_rate=0.01)
    assert [method.name for method in found.methods] == ["uniform", "clone", "finetuned", "scratch"]
    assert found.method("uniform").settings is None
    assert found.method("clone").settings == CloneConfig(epochs=4, encoder="gru")
    assert found.method("finetuned").settings == FinetuneConfig(cap=5)
    assert (found.method("finetuned").start, found.method("finetuned").own["source"]) == ("clone", "both")
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.name = "other"
    resolved = found.resolved()
    assert resolved["methods"]["finetuned"]["kl"] == FinetuneConfig().kl
    assert content_hash(resolved) == content_hash(load_experiment(write()).resolved())
    assert content_hash(resolved) != content_hash(load_experiment(write(), ["seeds=[3]"]).resolved())


def test_the_smallest_file_simulates_nothing(write):
    found = load_experiment(write('name = "a"\n[log]\npath = "x"\n[[methods]]\nname = "uniform"\nkind = "uniform"\n'))
    assert (found.users, found.truth, found.seeds, found.log.split.by) == (None, None, (0,), "session")


def test_overrides_are_typed_as_toml_types_them_and_name_methods_by_label(write):
    found = load_experiment(
        write(),
        [
            "seeds=[7, 8]", "log.path=other folder", "log.reward=\"3\"", "users.types = 5", "log.split.test=0.5",
            "methods.clone.epochs=9", "methods.finetuned.source=log", "evaluate.estimators=['ips']",
        ],
    )  # fmt: skip
    assert (found.seeds, found.log.path, found.log.reward, found.users.types) == ((7, 8), "other folder", "3", 5)
    assert found.log.split.test == 0.5
    assert found.method("clone").settings.epochs == 9
    assert found.method("finetuned").own["source"] == "log"
    assert found.evaluate.estimators == ("ips",)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs", "'epochs' is not of the form key=value"),
        ("methods.clown.epochs=1", "no method 'clown' .* the methods are uniform, clone, finetuned, scratch"),
        ("methods.clone=1", "sets a whole method"),
        ("name.first=1", "name is no table"),
        (".a=1", "not of the form"),
    ],
)
def test_overrides_that_name_nothing(write, override, message):
    with pytest.raises(InputError, match=f"--set: .*{message}"):
        load_experiment(write(), [override])


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("seeds =", "seds =", "seds: unknown key -> did you mean 'seeds'?"),
        ("epochs = 4", "epoch = 4", "methods.clone.epoch: unknown key -> did you mean 'epochs'?"),
        ("types = 3", "typs = 3", "users.typs: unknown key -> did you mean 'types'?"),
        ('by = "time"', 'bye = "time"', "log.split.bye: unknown key -> did you mean 'by'?"),
        ("types = 3", "sessions = 3", "users.sessions: unknown key -> 'sessions' belongs in [world]"),
        ("horizon = 8", "cap = 8", "world.cap: unknown key -> 'cap' belongs in a method of kind 'finetune'"),
        (
            "horizon = 8",
            "xyzzy = 8",
            "world.xyzzy: unknown key -> the keys here are horizon, sessions, members, reference",
        ),
        ("cap = 5", 'cap = "big"', 'methods.finetuned.cap = "big" -> expected a number'),
        ("cap = 5", "cap = true", "methods.finetuned.cap = true -> expected a number"),
        ("cap = 5", "cap = -1", "methods.finetuned.cap = -1.0 -> give a number above 0"),
        ("epochs = 4", "epochs = 4.5", "methods.clone.epochs = 4.5 -> expected a whole number"),
        ("epochs = 4", "epochs = 0", "methods.clone.epochs = 0 -> give a positive number"),
        ("types = 3", 'types = "3"', 'users.types = "3" -> expected a whole number'),
        ("types = 3", "types = 0", "users.types = 0: wanted at least 1"),
        ("seeds = [0, 1, 2]", "seeds = 3", "seeds = 3 -> expected a list in square brackets"),
        ("seeds = [0, 1, 2]", "seeds = []", "seeds = [] -> expected at least 1 of them"),
        ("seeds = [0, 1, 2]", "seeds = [1, 1]", "seeds = [1, 1] -> expected each seed once"),
        ("test = 0.3", "test = 1.0", "log.split.test = 1.0 -> expected a value below 1.0"),
        ('by = "time"', 'by = "day"', "log.split.by = \"day\" -> expected one of 'time', 'session' or 'user'"),
        ('reward = "like"', "reward = 3", "log.reward = 3 -> expected text in quotes"),
        ('path = "logs/demo"', "", "log.path: missing -> it must be given"),
        ('name = "demo"', 'name = "a/b"', "name = \"a/b\" -> expected letters, digits, '_' and '-' only, "
         "beginning with a letter or digit"),
        ('kind = "uniform"', "", "methods.uniform -> expected a key 'kind'"),
        ('start = "clone"', 'start = "clon"', 'methods.finetuned.start = "clon" -> expected the name of a clone '
         "above it: clone"),
        ('start = "clone"', "", "methods.finetuned.start: missing -> it must be given"),
        ('like = "clone"', 'like = "uniform"', 'methods.scratch.like = "uniform" -> expected the name of a clone'),
        ('name = "uniform"', 'name = "clone"', "methods: the name 'clone' stands twice"),
        ("[truth]", "truth = 1\n[truthful]", "truth = 1 -> expected a table"),
    ],
)  # fmt: skip
def test_each_mistake_is_said_in_the_files_own_words(write, old, new, line):
    if new.startswith("truth ="):
        path = write(
            WHOLE.replace("[truth]\nsettings", "[log.other]\nsettings").replace(
                'name = "demo"', 'name = "demo"\ntruth = 1'
            )
        )
    else:
        path = write(WHOLE, (old, new))
    assert line in _problems(path)


def test_a_kind_that_does_not_exist_names_those_that_do(write):
    (line,) = _problems(write(WHOLE, ('kind = "uniform"', 'kind = "unifrm"')))
    assert line.startswith("methods.uniform -> expected kind to be one of 'uniform', 'popular'")


def test_all_mistakes_are_named_at_once_each_with_the_file(write):
    path = write(WHOLE, ("seeds =", "seds ="), ("epochs = 4", 'epochs = "few"'), ("types = 3", "typs = 3"))
    with pytest.raises(InputError) as caught:
        load_experiment(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 3 and all(line.startswith(f"{path}: ") for line in lines)
    assert "pydantic" not in str(caught.value)


def test_what_acts_in_a_world_needs_users_to_fit_one(write):
    lines = _problems(write(WHOLE, ("[users]\ntypes = 3\nlearning_rate = 1e-2\n", "")))
    assert lines == [
        "methods.finetuned acts in a world -> expected a table [users] to fit one",
        "methods.scratch acts in a world -> expected a table [users] to fit one",
    ]


def test_files_that_are_none(tmp_path, write):
    assert _problems(tmp_path / "none.toml") == ["no such file -> give the path of an experiment file (TOML)"]
    assert "cannot be read" in _problems(tmp_path)[0]
    assert (
        "not a TOML file" in _problems(write("name = demo\n"))[0] and "line 1" in _problems(write("name = demo\n"))[0]
    )
    (tmp_path / "latin.toml").write_bytes(b'name = "caf\xe9"')
    assert _problems(tmp_path / "latin.toml") == ["not UTF-8 text (byte 11) -> save it as UTF-8"]


def test_paths_are_looked_for_beside_the_file_first(write, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    found = load_experiment(write())
    assert found.path("logs/demo") == elsewhere / "logs" / "demo"
    (tmp_path / "logs" / "demo").mkdir(parents=True)
    assert found.path("logs/demo") == tmp_path / "logs" / "demo"


def test_neither_the_package_nor_the_config_module_loads_torch_or_mlflow():
    program = "import sys, recil, recil.config; print({'torch', 'mlflow'} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "set()"
