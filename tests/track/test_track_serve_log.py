"""What was served and what it brought make a log whose propensities are exactly those of the policy that served."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from served_policies import attentive, with_whole_number_ids

from recil.errors import InputError
from recil.evaluate import evaluate
from recil.policies.baselines import popular
from recil.policies.protocol import log_prob_of_sessions
from recil.policies.storage import save
from recil.track.serve import ServedPolicy
from recil.track.serve_log import ServedLog, rewards_file, served_log

ANSWERS = ("a", "b", "c", "d")


@pytest.fixture(scope="module")
def policy(tmp_path_factory) -> ServedPolicy:
    folder = tmp_path_factory.mktemp("served") / "policy"
    attentive(folder)
    return ServedPolicy.load(folder)


def serve_sessions(policy: ServedPolicy, file, sessions: int = 60, steps: int = 3, draw: str = "sample") -> None:
    """Clients that click by dice, tell what they clicked, and send their whole history with each request."""
    dice, table = np.random.default_rng(1), ServedLog(file, policy.columns)
    reader = policy.reader(k=2, draw=draw)
    for number in range(sessions):
        session = {"session_id": f"0{number}", "history": [], "user": {"user_kind": "low", "user_age": 30.0}}
        for step in range(steps):
            context = {"context_tab": "xyz"[int(dice.integers(3))]} if step else {}
            asked = reader.read(session | {"context": context})
            answers = policy.answer(asked)
            table.served(asked, answers)
            reward = (dice.random(2) < 0.3).astype(float).tolist()
            answer = [ANSWERS[int(dice.integers(4))], None]
            kept = {"session_id": f"0{number}", "step": step, "reward": reward, "feedback": {"answer": answer}}
            assert table.rewarded(kept) == 2
            shown = {"items": list(answers[0].items), "reward": reward, "context": context}
            session["history"].append(shown | {"feedback": {"answer": answer}})
    table.close()


def test_the_log_of_a_policy_gives_it_weights_of_one(policy, tmp_path):
    serve_sessions(policy, tmp_path / "served.csv")
    log = served_log(tmp_path / "served.csv", policy)
    assert (log.sessions, log.steps, log.catalogue) == (60, 180, 12) and not log.notes
    assert log.session_ids[0] == "00" and log.timestamp is not None
    # The policy looks at feedback, context and user: only if all come back as they were are its propensities the same.
    again = log_prob_of_sessions(policy.policy, log.batch()).exp().detach()
    batch = log.batch()
    assert torch.allclose(again[batch.shown], batch.propensity[batch.shown], rtol=1e-4)
    found = evaluate(policy.policy, log, estimators=["ips", "logged"], replicates=50)
    assert found["ips"].raw.value == pytest.approx(found["logged"].raw.value, rel=1e-4)
    assert found["ips"].ess == pytest.approx(60, rel=1e-4)
    assert log.reward.sum() > 30


def test_what_is_odd_is_counted(policy, tmp_path):
    file = tmp_path / "served.csv"
    serve_sessions(policy, file, sessions=6)
    reader, table = policy.reader(k=2), ServedLog(file, policy.columns)
    late = reader.read({"session_id": "00", "k": 3})  # step 0 again, though the session has gone on
    table.served(late, policy.answer(late))
    for k in (3, 2, 1):
        repeated = reader.read({"session_id": "new", "k": k})
        table.served(repeated, policy.answer(repeated))
    grown = reader.read({"session_id": "new", "history": [{"items": ["item 1"]}], "user": {"user_kind": "low"}})
    table.served(grown, policy.answer(grown))  # of another kind than a moment ago
    early = reader.read({"sessions": [{"session_id": "early", "history": [{"items": ["item 1"]}] * n} for n in (1, 0)]})
    table.served(early, policy.answer(early))  # the second slate before the first
    gap = reader.read({"session_id": "gap", "history": [{"items": ["item 1"]}]})
    table.served(gap, policy.answer(gap))
    best = reader.read({"session_id": "best", "draw": "greedy"})
    table.served(best, policy.answer(best))
    table.rewarded({"session_id": "nobody", "step": 0, "reward": [1.0]})
    table.rewarded({"session_id": "01", "step": 0, "reward": [5.0, 7.0]})  # corrects what was said before
    table.close()
    log = served_log(file, policy)
    assert log.sessions == 7 and log.slate_size == 2
    quarantine = [name for name in log.notes if "quarantined" in name or name.startswith("rows with")]
    assert {name: count for name, count in log.notes.items() if name not in quarantine} == {
        "slates asked for again, the last before the session went on counts": 4,
        "sessions left out, an earlier slate is not in the table": 2,
        "items shown without a reported reward": 5,
        "rewards of items that are not in the log": 1,
        "slates that were greedy: nothing can be learned of other items there": 1,
    }
    assert log.notes["rows quarantined"] == 3 and any("user_kind" in name for name in quarantine)
    assert "new" not in log.session_ids and "early" not in log.session_ids
    corrected = int(log.offsets[log.session_ids.tolist().index("01")])
    assert log.reward[corrected].tolist() == [5.0, 7.0]


def test_whole_number_ids_and_a_table_of_rewards_of_ones_own(tmp_path):
    folder = tmp_path / "popular"
    save(popular(with_whole_number_ids(attentive(tmp_path / "other"))), folder)
    policy = ServedPolicy.load(folder)
    table = ServedLog(tmp_path / "served.csv", policy.columns)
    asked = policy.reader(k=2).read({"sessions": [{"session_id": 7}, {"session_id": 8}]})
    answers = policy.answer(asked)
    table.served(asked, answers)
    table.close()
    pd.DataFrame({"session_id": [8], "step": [0], "position": [1], "click": [1]}).to_csv(tmp_path / "own.csv")
    log = served_log(tmp_path / "served.csv", policy, tmp_path / "own.csv")
    assert log.item_ids[log.items].tolist() == [list(answer.items) for answer in answers]
    assert log.reward.tolist() == [[0.0, 0.0], [0.0, 1.0]] and log.propensity.dtype == np.float32
    silent = served_log(tmp_path / "served.csv", policy)
    assert silent.notes == {"items shown without a reported reward": 4}


def test_bad_tables_are_named(policy, tmp_path):
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        served_log(tmp_path / "none.csv", policy)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="it has no column 'session_id'"):
        served_log(tmp_path / "other.csv", policy)
    serve_sessions(policy, tmp_path / "served.csv", sessions=1)
    with pytest.raises(InputError, match="it has no column 'session_id' -> give session_id, step, position, click"):
        served_log(tmp_path / "served.csv", policy, tmp_path / "other.csv")
    (tmp_path / "late.csv").write_text("\n".join((tmp_path / "served.csv").read_text().splitlines()[:1]) + "\n")
    with pytest.raises(InputError, match="no session is complete"):
        served_log(tmp_path / "late.csv", policy)
    text = rewards_file(tmp_path / "served.csv").read_text()
    assert text.startswith("session_id,step,position,click,answer,seconds\n") and len(text.splitlines()) == 7
