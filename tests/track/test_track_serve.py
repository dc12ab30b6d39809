"""A policy that answers: the slates and propensities are the policy's own, and bad requests are told where and why."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from served_policies import attentive, requests_of, with_whole_number_ids

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.policies.baselines import markov, popular
from recil.policies.folder import read_folder
from recil.policies.storage import load, save
from recil.track.serve import ServedPolicy, policy_digest
from recil.track.serve_columns import Columns
from recil.track.serve_request import history_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("serve") / "policy"


@pytest.fixture(scope="module")
def log(folder) -> SessionLog:
    return attentive(folder)


@pytest.fixture(scope="module")
def served(log, folder) -> ServedPolicy:
    return ServedPolicy.load(folder)


def test_rewards_of_a_request_keep_their_value(served, log):
    worth = replace(log, reward=np.where(log.items >= 0, 16777217.0, 0.0))
    asked = served.reader().read({"sessions": requests_of(worth, 12)})
    mine, logs = history_of(asked, served.columns), worth.batch(np.arange(12))
    assert torch.equal(mine.reward, logs.reward) and mine.reward.max() == 16777217


def test_a_request_is_read_as_the_log_is(served, log):
    """What a client sends of logged sessions gives the log's own tensors, hence the policy's own slates."""
    asked = served.reader().read({"sessions": requests_of(log, 12)})
    mine, logs = history_of(asked, served.columns), log.batch(np.arange(12))
    assert mine.reward.dtype == logs.reward.dtype
    assert torch.equal(mine.items, logs.items) and torch.equal(mine.reward, logs.reward)
    assert torch.equal(mine.length, logs.length)
    shown, happened = logs.shown, logs.happened
    for name, values in logs.feedback.items():
        assert torch.equal(mine.feedback[name][shown], values[shown]), name
    for name, values in logs.context.items():
        assert torch.equal(mine.context[name][:, :-1][happened], values[happened]), name
    for name, values in logs.user.items():
        assert torch.equal(mine.user[name], values), name


def test_propensities_are_those_of_the_policy_for_the_slates_shown(served, log, folder):
    asked = served.reader(k=4).read({"sessions": requests_of(log, 30)})
    answers = served.answer(asked, seed=7)
    slates = torch.tensor([[served.index[item] for item in answer.items] for answer in answers])
    found = load(folder).log_prob(history_of(asked, served.columns), slates).exp().double()
    mine = torch.tensor([answer.propensity for answer in answers], dtype=torch.float64)
    assert torch.allclose(mine, found.detach(), rtol=1e-4)
    assert (mine[:, 0] < 0.99).any() and len({answer.items for answer in answers}) > 10
    assert [answer.step for answer in answers] == log.lengths[:30].tolist()


def test_an_answer_depends_on_seed_session_and_step_and_not_on_company(served, log):
    asked = served.reader().read({"sessions": requests_of(log, 20)})
    together = served.answer(asked)
    alone = [served.answer([session])[0] for session in asked]
    assert [answer.items for answer in together] == [answer.items for answer in alone]
    chances = [np.array([answer.propensity for answer in answers]) for answers in (together, alone)]
    assert np.allclose(*chances, rtol=1e-5)
    other = served.answer(asked, seed=1)
    renamed = served.answer([replace(session, session_id=session.session_id + "x") for session in asked])
    for differing in (other, renamed):
        assert sum(a.items != b.items for a, b in zip(together, differing, strict=True)) > 10


def test_missing_values_are_the_same_in_any_company(served):
    bare = {"session_id": "bare", "history": [{"items": ["item 1"], "reward": [1]}]}
    full = {
        "session_id": "full",
        "history": [],
        "user": {"user_age": 70.0, "user_kind": "low"},
        "context": {"context_hour": 3},
    }
    reader = served.reader()
    together = served.answer(reader.read({"sessions": [bare, full]}))
    alone = served.answer(reader.read(bare))
    assert together[0].items == alone[0].items
    assert np.allclose(together[0].propensity, alone[0].propensity, rtol=1e-5)
    # A number left out counts as its mean.
    mean = read_folder_config(served)["user_age"]
    said = served.answer(reader.read(bare | {"user": {"user_age": mean}}))
    assert np.allclose(said[0].propensity, alone[0].propensity, rtol=1e-5)


def read_folder_config(served: ServedPolicy) -> dict[str, float]:
    return {name: kind.absent for name, kind in served.columns if kind.categories is None}


def test_greedy_slates_are_the_most_probable_items_with_propensity_one(served, log, folder):
    asked = served.reader(k=3, draw="greedy").read({"sessions": requests_of(log, 10)})
    answers = served.answer(asked)
    best = load(folder).next_logits(history_of(asked, served.columns)).topk(3).indices
    assert [list(answer.items) for answer in answers] == served.item_ids[best.numpy()].tolist()
    assert all(answer.propensity == (1.0, 1.0, 1.0) and answer.draw == "greedy" for answer in answers)


def test_slates_of_several_sizes_and_kinds_in_one_pass_come_back_in_order(served, log):
    reader = served.reader()
    sessions = requests_of(log, 9)
    asked = [
        reader.read({**session, "k": 1 + place % 3, "draw": ("sample", "greedy")[place % 2]})[0]
        for place, session in enumerate(sessions)
    ]
    answers = served.answer(asked)
    assert [answer.session_id for answer in answers] == [session["session_id"] for session in sessions]
    assert [len(answer.items) for answer in answers] == [1 + place % 3 for place in range(9)]
    alone = [served.answer([session])[0] for session in asked]
    assert [answer.items for answer in answers] == [answer.items for answer in alone]


def test_the_version_changes_with_the_weights_and_only_with_what_the_policy_is(served, folder, tmp_path):
    save(load(folder), tmp_path / "again")
    assert ServedPolicy.load(tmp_path / "again").version == served.version
    parts = read_folder(folder)
    weights = {name: tensor.clone() for name, tensor in parts.tensors.items()}
    weights["bias.weight"][0, 0] += 1e-3
    assert policy_digest(parts._replace(tensors=weights)) != served.version
    assert policy_digest(parts._replace(item_ids=parts.item_ids[::-1])) != served.version


def test_without_names_categories_go_by_their_codes_and_a_log_names_them(log, tmp_path):
    attentive(tmp_path / "policy", named=False)
    coded = ServedPolicy.load(tmp_path / "policy")
    named = ServedPolicy.load(tmp_path / "policy", log)
    step = {"items": ["item 3"], "reward": [0]}
    by_code = coded.answer(
        coded.reader(k=3).read({"session_id": "a", "history": [step | {"feedback": {"answer": [2]}}]})
    )
    by_name = named.answer(
        named.reader().read({"session_id": "a", "history": [step | {"feedback": {"answer": ["c"]}}]})
    )
    assert by_code == by_name
    with pytest.raises(InputError, match="another catalogue"):
        ServedPolicy.load(tmp_path / "policy", with_whole_number_ids(log))


def test_baselines_with_whole_number_ids(log, tmp_path):
    log = with_whole_number_ids(log)
    save(popular(log), tmp_path / "popular")
    save(markov(log, feedback=("answer",)), tmp_path / "markov")
    asked = {"session_id": 5, "history": [{"items": [10, 20], "reward": [0, 1]}], "k": 2}
    for kind in ("popular", "markov"):
        served = ServedPolicy.load(tmp_path / kind)
        (answer,) = served.answer(served.reader().read(asked))
        assert answer.session_id == "5" and all(item % 10 == 0 for item in answer.items)
    assert list(served.columns.feedback) == ["answer"]


GOOD = {"history": [{"items": ["item 1"], "reward": [1]}]}
BAD = {
    "no object": ([], "request: list where an object was expected"),
    "unknown key": (GOOD | {"sesion_id": "a"}, "request.sesion_id: unknown key -> the keys here are session_id"),
    "k": (GOOD | {"k": 13}, "k: 13 -> give a whole number from 1 to 12"),
    "k true": (GOOD | {"k": True}, "k: True"),
    "draw": (GOOD | {"draw": "best"}, "draw: 'best' is unknown -> give one of sample, greedy"),
    "no sessions": ({"sessions": []}, "sessions: none given"),
    "session": ({"sessions": [GOOD, 3]}, r"sessions\[1\]: 3 where an object was expected"),
    "session_id": (GOOD | {"session_id": 1.5}, "request.session_id: 1.5"),
    "unprintable": (GOOD | {"session_id": "a\nb"}, "unprintable"),
    "history": ({"history": "item 1"}, "request.history: 'item 1' where a list was expected"),
    "no item": ({"history": [{"reward": [1]}]}, r"history\[0\].items: no item was shown"),
    "item": ({"history": [{"items": ["x"]}]}, r"history\[0\].items\[0\]: item 'x' is not in the catalogue"),
    "item null": ({"history": [{"items": [None]}]}, "item None is not in the catalogue"),
    "rewards": ({"history": [{"items": ["item 1"], "reward": [1, 0]}]}, "2 rewards for 1 items"),
    "reward": ({"history": [{"items": ["item 1"], "reward": ["yes"]}]}, "reward: 'yes' is no finite number"),
    "reward null": ({"history": [{"items": ["item 1"], "reward": [None]}]}, "give 0 where there was none"),
    "step key": ({"history": [{"item": ["item 1"]}]}, r"history\[0\].item: unknown key"),
    "feedback": ({"history": [{"items": ["item 1"], "feedback": {"mood": [1]}}]}, "mood: no such column"),
    "feedback count": ({"history": [{"items": ["item 1"], "feedback": {"seconds": []}}]}, "0 values for 1 items"),
    "category": (GOOD | {"user": {"user_kind": "high"}}, "'high' is no category of this column -> give one of 'low'"),
    "number": (GOOD | {"context": {"context_hour": "noon"}}, "'noon' is no finite number"),
    "column": (GOOD | {"user": {"user_name": "x"}}, "user_name: no such column -> the policy's are user_kind"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_are_told_where_and_why(case, served):
    body, message = BAD[case]
    before = copy.deepcopy(body)
    with pytest.raises(InputError, match=message) as caught:
        served.reader().read(body)
    assert caught.value.remedy and body == before


def test_columns_survive_their_file_and_damage_is_named(log, tmp_path):
    columns = Columns.of_log(log)
    columns.save(tmp_path)
    assert Columns.beside(tmp_path) == columns
    (tmp_path / "columns.json").write_text("{}")
    with pytest.raises(InputError, match=r"columns\.json: cannot be read"):
        Columns.beside(tmp_path)
