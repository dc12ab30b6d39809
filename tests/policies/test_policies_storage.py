"""A saved policy is a folder that is whole or not there, and anything else in its place is refused by name."""

import json
import shutil

import pytest
import torch
from logs_for_policies import ITEMS, log_with_all_columns

from recil.errors import InputError
from recil.policies import folder, tensor_folder
from recil.policies.encoders import EncoderConfig
from recil.policies.frequencies import popular, uniform
from recil.policies.markov import markov
from recil.policies.neighbours import knn
from recil.policies.softmax import SoftmaxConfig, SoftmaxPolicy
from recil.policies.storage import load, save

LOG = log_with_all_columns()
POLICIES = {
    "softmax": lambda: SoftmaxPolicy.for_log(LOG, EncoderConfig("gru", 8)),
    "popular": lambda: popular(LOG),
    "knn": lambda: knn(LOG),
    "markov": lambda: markov(LOG, ("answer",)),
}


@pytest.fixture(params=POLICIES)
def saved(request, tmp_path):
    save(POLICIES[request.param](), tmp_path / "policy")
    return tmp_path / "policy"


def test_the_folder_holds_json_and_safetensors_and_nothing_else(saved):
    assert {file.name for file in saved.iterdir()} == {"policy.json", "weights.safetensors"}
    assert [file.name for file in saved.parent.iterdir()] == ["policy"]
    described = json.loads((saved / "policy.json").read_text())
    assert described["item_ids"] == LOG.item_ids.tolist()
    assert described["catalogue_digest"] == folder.catalogue_digest(LOG.item_ids)


@pytest.mark.parametrize("file", ["policy.json", "weights.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_refused(saved, file, share):
    content = (saved / file).read_bytes()
    (saved / file).write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"policy folder .*policy"):
        load(saved)


@pytest.mark.parametrize("file", ["policy.json", "weights.safetensors"])
def test_a_missing_file_is_named(saved, file):
    (saved / file).unlink()
    with pytest.raises(InputError, match=file):
        load(saved)


def test_weights_of_another_policy_are_refused(saved, tmp_path):
    SoftmaxPolicy(SoftmaxConfig(ITEMS + 1)).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "weights.safetensors", saved / "weights.safetensors")
    with pytest.raises(InputError, match="is damaged"):
        load(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "oracle"}, "kind 'oracle' is unknown"),
        ({"item_ids": ["another"]}, "the catalogue's ids are not those"),
        ({"config": {}}, "is damaged"),
        ({"config": None}, "is damaged"),
    ],
)
def test_a_changed_description_is_refused(saved, change, message):
    described = json.loads((saved / "policy.json").read_text()) | change
    (saved / "policy.json").write_text(json.dumps(described))
    with pytest.raises(InputError, match=message):
        load(saved)


def test_something_else_is_not_loaded_and_not_overwritten(tmp_path):
    with pytest.raises(InputError, match=r"policy.json is missing"):
        load(tmp_path / "nowhere")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "text.txt").write_text("mine")
    with pytest.raises(InputError, match="exists and holds no policy"):
        uniform(LOG).save(tmp_path / "notes")
    assert (tmp_path / "notes" / "text.txt").read_text() == "mine"


def test_saving_again_replaces_the_policy(saved):
    uniform(LOG).save(saved)
    assert (load(saved).scorer.weights == 0).all()
    assert [file.name for file in saved.parent.iterdir()] == ["policy"]


def test_a_failed_write_leaves_the_old_policy_and_nothing_half_written(saved, monkeypatch):
    before = (saved / "weights.safetensors").read_bytes()

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(tensor_folder, "save_file", full)
    with pytest.raises(InputError, match="No space left"):
        uniform(LOG).save(saved)
    assert (saved / "weights.safetensors").read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == ["policy"]


def test_ids_keep_their_type_and_may_be_absent(tmp_path):
    SoftmaxPolicy(SoftmaxConfig(3), item_ids=[7, 8, 9]).save(tmp_path / "numbers")
    SoftmaxPolicy(SoftmaxConfig(3)).save(tmp_path / "nameless")
    assert load(tmp_path / "numbers").item_ids.tolist() == [7, 8, 9]
    assert load(tmp_path / "nameless").item_ids is None


def test_what_was_learned_is_what_is_saved(tmp_path):
    policy = SoftmaxPolicy.for_log(LOG).at_temperature(0.5)
    with torch.no_grad():
        policy.bias.weight.add_(1.5)
    policy.save(tmp_path / "policy")
    loaded = load(tmp_path / "policy")
    assert loaded.config == policy.config
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in policy.state_dict().items())
