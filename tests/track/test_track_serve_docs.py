"""What docs/serving.md shows is what the server takes and gives."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from recil.cli.main import cli
from recil.errors import InputError
from recil.policies.frequencies import Frequencies
from recil.policies.scored import ScoredPolicy
from recil.policies.storage import save
from recil.track.evaluator import _KEYS, MODEL_TYPE
from recil.track.serve import Answer, ServedPolicy
from recil.track.serve_columns import Columns, Kind
from recil.track.serve_log import SERVED

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")


@pytest.fixture
def served(tmp_path) -> ServedPolicy:
    ids = np.array(["a", "b", "c", "d"])
    save(ScoredPolicy(Frequencies(torch.zeros(4)), ids), tmp_path / "policy")
    tab = Kind(("home", "search"))
    Columns({"seconds": Kind()}, {"context_tab": tab}, {"user_kind": Kind(("new", "old"))}).save(tmp_path / "policy")
    return ServedPolicy.load(tmp_path / "policy")


def test_the_requests_and_answers_are_as_shown(served) -> None:
    request, answer, refusal = (json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", PAGE, re.M | re.S))
    (found,) = served.answer(served.reader().read(request))
    assert set(found.to_dict()) == set(answer) == {field.name for field in fields(Answer)}
    assert (found.step, len(found.items)) == (answer["step"], len(answer["items"]))
    with pytest.raises(InputError) as caught:
        served.reader().read({"history": [{"items": ["a", "x"]}]})
    assert {"error": str(caught.value), "place": caught.value.place, "remedy": caught.value.remedy} == refusal


def test_every_name_on_the_page_exists() -> None:
    commands = set(re.findall(r"`?recil (\w+)", PAGE)) - {"saved", "that"}
    assert commands <= set(cli.commands), commands - set(cli.commands)
    for command, option in re.findall(r"`recil (\w+) (--[\w-]+)`", PAGE):
        assert any(option in parameter.opts for parameter in cli.commands[command].params), (command, option)
    assert all(f"`{key}`" in PAGE for key in _KEYS) and MODEL_TYPE in PAGE
    assert all(column in PAGE for column in SERVED)
