"""An alias moves to the better policy, and to no other; the reason is said, and kept with what moved."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest
from mlflow import MlflowClient
from slot_machines import machine_log, save_choice
from store_template import MLFLOW_WARNINGS

from recil.errors import InputError
from recil.evaluate.compare import Compared, Comparison, Difference
from recil.evaluate.estimates import Interval
from recil.policies.baselines import uniform
from recil.policies.environment import Warrant
from recil.policies.storage import save
from recil.sim.generate import Settings, Truth
from recil.track import registry
from recil.track.model import log_policy
from recil.track.model_fetch import policy_at
from recil.track.registry import Gate, promote, version_at
from recil.track.run import RunWriter
from recil.track.serve import ServedPolicy
from recil.track.store import ensure_experiment

pytestmark = [MLFLOW_WARNINGS, pytest.mark.filterwarnings("ignore:.*Any type hint:UserWarning")]
FEW = Gate(options=(("replicates", 200),))


@pytest.fixture(autouse=True)
def own_address(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def offer(store, tmp_path):
    """Promotes a policy of these shares, judged on the log of the machines unless another judge is given."""

    def promoted(*shares, judge=None, gate=FEW, source=None):
        folder = save_choice(tmp_path / f"policy{shares}", *shares) if source is None else source
        return promote(store, str(folder), "machines", judge or machine_log(), gate=gate, spool=tmp_path / "spool")

    return promoted


def served_version(store) -> str:
    with policy_at("models:/machines@champion", store) as folder:
        return ServedPolicy.load(folder).version


def test_the_better_policy_becomes_champion_and_the_worse_does_not(store, offer, tmp_path):
    first = offer(0.25, 0.4, 0.35)
    assert first.moved and first.holds and first.version == "1"
    better = offer(0.1, 0.3, 0.6)
    assert better.moved and better.version == "2"
    assert served_version(store) == ServedPolicy.load(tmp_path / "policy(0.1, 0.3, 0.6)").version
    worse = offer(0.25, 0.4, 0.3501)
    assert not worse.moved and not worse.holds and worse.version == "2"
    assert worse.reasons[0].startswith("it is not clearly better than the champion: -0.")
    assert "models:/machines@champion stays with version 2" in str(worse)
    assert str(version_at(store, "machines", "champion").version) == "2"
    client = MlflowClient(store.uri)
    assert len(client.search_model_versions("name = 'machines'")) == 2  # what was turned down is not registered
    tags = client.get_model_version("machines", "2").tags
    assert tags["recil.promoted_over"] == "1" and "candidate" in tags["recil.comparison"]
    assert tags["recil.verdict"] in ("trust", "caution") and tags["recil.value"].startswith("0.4")


def compared(value: float, low: float, high: float, verdict="trust") -> Comparison:
    """A candidate that is better than the champion by so much, with this interval."""
    reasons = () if verdict == "trust" else ("few sessions",)
    rows = [
        Compared(name, Interval(1.0, 0.9, 1.1), "trust" if name == "champion" else verdict, reasons, 1)
        for name in ("candidate", "champion")
    ]
    return Comparison(tuple(rows), (Difference("candidate", "champion", value, low, high),), "pdis", 0.95)


def test_the_whole_interval_must_lie_above_zero():
    assert Gate().objections(compared(0.1, 0.01, 0.2), "champion") == ()
    (tie,) = Gate().objections(compared(0.1, -0.01, 0.2), "champion")
    assert tie == "it is not clearly better than the champion: +0.1 [-0.01, +0.2]"
    assert Gate().objections(compared(-0.1, -0.2, -0.01), "champion")
    assert Gate().objections(compared(0.1, 0.01, 0.2, "caution"), "champion") == ()
    (wary,) = Gate("trust").objections(compared(0.1, 0.01, 0.2, "caution"), "champion")
    assert wary == "the verdict on the candidate is caution: few sessions"


def test_a_tie_is_not_enough_and_the_champion_itself_needs_no_second_time(store, offer):
    offer(0.2, 0.3, 0.5)
    tie = offer(0.2, 0.3001, 0.4999)
    assert not tie.moved and "not clearly better" in tie.reasons[0]
    again = offer(0.2, 0.3, 0.5)
    assert not again.moved and again.holds and again.comparison is None
    assert "is this policy already, version 1" in str(again)


def test_what_is_not_to_be_believed_is_not_promoted(store, offer):
    wild = offer(0.3, 0.4, 0.3, judge=machine_log(20))
    assert not wild.moved and wild.reasons[0].startswith("the verdict on the candidate is refuse: 20 effective")
    assert "names nothing" in str(wild)
    wary = offer(0.02, 0.02, 0.96, gate=replace(FEW, require="trust"))
    assert not wary.moved and wary.reasons[0].startswith("the verdict on the candidate is caution")
    assert offer(0.02, 0.02, 0.96).moved


def test_the_first_champion_is_not_worse_than_what_wrote_the_log(offer):
    worse = offer(0.7, 0.2, 0.1)
    assert not worse.moved and worse.reasons[0].startswith(
        "it is clearly worse than the policy that wrote the log: -0."
    )


def test_a_world_judges_too_and_is_not_believed_when_it_is_refused(offer, tmp_path):
    truth = Truth(Settings(seed=1, sessions=200, horizon=3, items=6, slate_size=2, types=2, click_rate=0.2))
    log = truth.log()
    assert list(truth.world.item_ids) == list(log.item_ids)

    class Doubtful:
        catalogue, slate_size, horizon = truth.world.catalogue, truth.world.slate_size, truth.world.horizon
        item_ids, rollout = truth.world.item_ids, staticmethod(truth.world.rollout)
        warrant = Warrant("refuse", ("its clicks are not those of the log",))

    folder = tmp_path / "uniform"
    save(uniform(log), folder)
    few = Gate(options=(("sessions", 200),))
    refused = offer(source=folder, judge=Doubtful(), gate=few)
    assert not refused.moved and "its clicks are not those of the log" in refused.reasons[0]
    assert offer(source=folder, judge=truth.world, gate=few).moved


def test_runs_and_models_are_promoted_as_they_are(store, offer, tmp_path):
    folder = save_choice(tmp_path / "mine", 0.2, 0.3, 0.5)
    better = save_choice(tmp_path / "better", 0.1, 0.1, 0.8)
    experiment = ensure_experiment(store, "recil-runs")
    with RunWriter(store, experiment, "a", tmp_path / "spool") as run:
        run.flush()
        logged = log_policy(store, run, folder)
    assert offer(source=run.run_id).moved
    client = MlflowClient(store.uri)
    assert client.get_model_version("machines", "1").source == logged.uri
    with RunWriter(store, experiment, "b", tmp_path / "spool", {"recil.policy": str(better)}) as other:
        pass  # what an experiment leaves: where its policy lies
    assert offer(source=other.run_id).moved
    again = promote(store, "models:/machines@champion", "other", machine_log(), gate=FEW, spool=tmp_path / "spool")
    assert again.moved and again.version == "1" and again.name == "other"
    source = client.get_model_version("machines", "2").source
    assert source.startswith("models:/m-") and client.get_model_version("other", "1").source == source
    with RunWriter(store, experiment, "c", tmp_path / "spool") as empty:
        pass
    with pytest.raises(InputError, match="this run logged no policy"):
        offer(source=empty.run_id)
    with pytest.raises(InputError, match="no run of sqlite"):
        offer(source="nowhere")


def test_an_alias_that_somebody_else_moved_meanwhile_stays_theirs(store, offer, monkeypatch, tmp_path):
    offer(0.25, 0.4, 0.35)
    client, compare = MlflowClient(store.uri), registry.compare

    def slow(*given, **options):
        found = compare(*given, **options)
        client.delete_registered_model_alias("machines", "champion")
        return found

    monkeypatch.setattr(registry, "compare", slow)
    with pytest.raises(InputError, match="another process moved it meanwhile -> run again"):
        offer(0.1, 0.3, 0.6)
    assert version_at(store, "machines", "champion") is None


def test_other_catalogues_and_names_are_refused(store, offer, tmp_path):
    log = machine_log()
    renamed = replace(log, item_ids=np.array(["a", "b", "d"]))
    with pytest.raises(InputError, match="the candidate: its catalogue is not the one"):
        offer(0.3, 0.4, 0.3, judge=renamed)
    folder = str(tmp_path / "policy(0.25, 0.4, 0.35)")
    for name, alias, place in (("a/b", "champion", "--name"), ("a", "v1", "--to"), ("a", "latest", "--to")):
        with pytest.raises(InputError, match=place):
            promote(store, folder, name, log, alias)


def test_a_run_whose_policy_lies_there_as_files_gets_the_model_when_it_is_promoted(store, offer, tmp_path):
    folder = save_choice(tmp_path / "policy", 0.1, 0.3, 0.6)
    with RunWriter(store, ensure_experiment(store, "recil-x"), "clone-0", tmp_path / "spool") as run:
        run.tags({"recil.policy": "/another/machine/policy"})
        run.file(folder, "saved")
    version = ServedPolicy.load(folder).version
    shutil.rmtree(folder)
    client = MlflowClient(store.uri)
    assert client.search_logged_models(["1"]) == []  # files alone: cheap
    assert offer(source=run.run_id).moved and served_version(store) == version
    (model,) = client.search_logged_models([client.get_run(run.run_id).info.experiment_id])
    assert model.source_run_id == run.run_id and client.get_run(run.run_id).info.status == "FINISHED"
    registered = client.get_model_version_by_alias("machines", "champion")
    assert registered.run_id == run.run_id and registered.source == f"models:/{model.model_id}"
    assert offer(source=run.run_id).holds and len(client.search_model_versions("name = 'machines'")) == 1
    with RunWriter(store, ensure_experiment(store, "recil-x"), "empty", tmp_path / "spool") as bare:
        pass
    with pytest.raises(InputError, match="this run logged no policy"):
        offer(source=bare.run_id)
