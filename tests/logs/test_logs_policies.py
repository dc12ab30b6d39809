"""Who logged a session: the columns `policy` and `propensity_<name>`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import recil
from recil.errors import InputError
from recil.logs.align import align
from recil.logs.read import read_log
from recil.logs.session_log import POLICY, SessionLog
from recil.policies.encoders import EncoderConfig
from recil.sim.fit import fit_users
from recil.sim.layout import layout_of
from recil.sim.rates import baselines_of
from recil.sim.user_config import UserConfig


def table(**columns: object) -> pd.DataFrame:
    base = {"session_id": [7, 7, 3], "step": [0, 1, 0], "item_id": [20, 10, 20], "click": [0, 1, 0]}
    own = {"policy": ["new", "new", "old"], "propensity_new": [0.5, 0.25, 0.0], "propensity_old": [0.1, 0.2, 0.3]}
    return pd.DataFrame({**base, **own, **columns})


def test_the_columns_are_read_by_session_and_by_item() -> None:
    log = SessionLog.from_frame(table())
    column = log.context[POLICY]
    assert column.categories == ("new", "old") and column.values.tolist() == [0, 0, 1]
    assert {name: values[:, 0].tolist() for name, values in log.propensity_of.items()} == {
        "new": [0.5, 0.25, 0.0],
        "old": [pytest.approx(0.1), pytest.approx(0.2), pytest.approx(0.3)],
    }
    assert not log.feedback and log.propensity is None
    assert "and under each of the policies new, old" in str(log.summary()) and log.summary().context == (POLICY,)
    numbered = SessionLog.from_frame(table(policy=[12, 12, 3]).rename(columns={"propensity_new": "propensity_12"}))
    assert set(numbered.context[POLICY].categories or ()) == {"3", "12"} and "12" in numbered.propensity_of


def test_it_comes_back_from_a_table_a_file_and_a_folder(tmp_path) -> None:
    log = SessionLog.from_frame(table())
    assert log.to_frame()["policy"].tolist() == ["new", "new", "old"]
    assert read_log(log.save(tmp_path / "log")) == log
    log.to_frame().to_csv(tmp_path / "log.csv", index=False)
    assert read_log(tmp_path / "log.csv") == log


def test_the_content_is_another_where_the_columns_are() -> None:
    log = SessionLog.from_frame(table())
    others = [
        table(policy=["old", "old", "new"]),
        table(propensity_old=[0.1, 0.2, 0.4]),
        table(policy=["n", "n", "old"]),
    ]
    assert len({log.digest, *(SessionLog.from_frame(other).digest for other in others)}) == 4


def test_parts_keep_who_served_them() -> None:
    log = SessionLog.from_frame(table())
    part = log.select([1])
    assert part.context[POLICY].values.tolist() == [1]
    assert part.propensity_of["old"].tolist() == [[pytest.approx(0.3)]]
    with pytest.raises(ValueError, match="propensity_of old"):
        replace(log, propensity_of={"old": part.propensity_of["old"]})


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"policy": ["new", "old", "old"]}, "'policy', row 1 .*session 7.*'old' is not the policy that the session"),
        ({"policy": ["new", None, "old"]}, "'policy', row 1 .*is null.*name the policy of every session"),
        ({"policy": [["x"], ["x"], ["x"]]}, "column 'policy' holds no names"),
        ({"propensity_old": [0.1, 1.5, 0.3]}, "'propensity_old', row 1 .*1.5 is not a probability in .0, 1."),
        ({"propensity_old": [0.1, np.nan, 0.3]}, "'propensity_old', row 1 .*is not a probability in .0, 1."),
    ],
)
def test_what_cannot_be_is_refused(columns, message) -> None:
    with pytest.raises(InputError, match=message):
        SessionLog.from_frame(table(**columns))


def test_a_propensity_of_nobody_is_noted() -> None:
    note = "rows whose propensity is not that under their policy"
    assert note not in SessionLog.from_frame(table(propensity=[0.5, 0.25, 0.3])).notes
    assert SessionLog.from_frame(table(propensity=[0.5, 0.2, 0.2])).notes[note] == 2


def test_neither_policies_nor_users_look_at_who_logged() -> None:
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"session_id": np.repeat(np.arange(60), 3), "step": np.tile([0, 1, 2], 60)})
    frame = frame.assign(item_id=random.integers(0, 4, 180), click=random.integers(0, 2, 180), terminated=True)
    plain = SessionLog.from_frame(frame.assign(context_tab=np.where(frame["step"] % 2, "x", "y")))
    named = frame.assign(policy=np.repeat(random.permutation(np.arange(60) % 2), 3), propensity_0=0.5, propensity_1=0.2)
    log = SessionLog.from_frame(named.assign(context_tab=np.where(frame["step"] % 2, "x", "y")))
    assert EncoderConfig().looking_at(log) == EncoderConfig().looking_at(plain)
    assert layout_of(log, UserConfig(), "multinomial") == layout_of(plain, UserConfig(), "multinomial")
    assert set(log.batch().context) == {"context_tab"} == set(log.known_context)
    only = SessionLog.from_frame(named)
    assert set(baselines_of(only)) == {"constant", "item rate"}
    config = recil.CloneConfig(epochs=1)
    one, other = recil.clone(plain, config), recil.clone(log, config)
    with torch.no_grad():
        assert torch.equal(one.log_prob_of_sessions(plain.batch()), other.log_prob_of_sessions(log.batch()))
    users = fit_users(log, UserConfig(types=1, epochs=1))
    assert set(users.starts.context) == {"context_tab"}


def test_a_log_in_the_words_of_another_keeps_its_own_policies() -> None:
    log = SessionLog.from_frame(table())
    plain = SessionLog.from_frame(table().drop(columns=["policy", "propensity_new", "propensity_old"]))
    assert align(log, plain).context == log.context and align(log, plain).propensity_of == log.propensity_of
    assert align(plain, log).context == {}
    renamed = SessionLog.from_frame(table(policy=["z", "z", "old"]))
    assert align(log, renamed).context[POLICY].categories == ("new", "old")
