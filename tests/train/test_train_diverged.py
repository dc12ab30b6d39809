"""Every learner whose numbers go wrong names the checkpoint that is left; one without a checkpoint names none."""

from __future__ import annotations

from pathlib import Path

import pytest
from learners import LEARNERS

from recil.errors import InputError
from recil.train.checkpoint import load_checkpoint
from recil.train.diverged import Diverged, naming


@pytest.mark.parametrize("name", LEARNERS)
def test_the_last_good_checkpoint_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"

    def break_off(step: int, metrics: dict[str, float]) -> None:
        if path.exists():
            raise Diverged("step 7", "the loss is nan", "lower the learning rate")

    with pytest.raises(InputError) as caught:
        LEARNERS[name](on_metrics=break_off, checkpoint=path)
    assert (
        str(caught.value) == f"step 7: the loss is nan; the last good checkpoint is {path} -> lower the learning rate"
    )


def test_nothing_is_named_that_is_not_there_or_not_to_blame(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("")
    for checkpoint in (None, tmp_path / "absent"):
        with pytest.raises(Diverged, match=r"^here: nan$"), naming(checkpoint):
            raise Diverged("here", "nan")
    with pytest.raises(InputError, match=r"cannot be read .* -> delete it to start afresh$"), naming(there):
        load_checkpoint(there, {}, {})
