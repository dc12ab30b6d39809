"""The documentation names what there is."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from recil.config import load_experiment
from recil.config.kinds import KINDS
from recil.config.tables import EvaluateTable, LogTable, SplitTable, WorldTable

DOCS = Path(__file__).resolve().parents[1] / "docs"
REFERENCE = (DOCS / "experiment.md").read_text(encoding="utf-8")


def keys(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


def test_every_kind_of_method_and_each_of_its_keys_is_documented() -> None:
    rows = {row.split("|")[1].strip(" `"): row for row in REFERENCE.splitlines() if re.match(r"\| `(?!kind)", row)}
    assert set(rows) == set(KINDS)
    finetune = keys(rows["finetune"])
    for name, kind in KINDS.items():
        config = kind.settings() if kind.settings else None
        wanted = {field.name for field in dataclasses.fields(config)} if config else set()
        wanted |= {field for field, _, _ in kind.own}
        documented = keys(rows[name]) | (finetune if name in ("reinforce", "adversarial") else set())
        assert wanted <= documented, (name, wanted - documented)


def test_the_example_has_every_key_and_loads(tmp_path: Path) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```", REFERENCE, re.MULTILINE | re.DOTALL)
    data = tomllib.loads(example)
    assert set(data["log"]) == set(LogTable.model_fields)
    assert set(data["log"]["split"]) | {"at"} == set(SplitTable.model_fields)
    assert set(data["world"]) == set(WorldTable.model_fields)
    assert set(data["evaluate"]) == set(EvaluateTable.model_fields)
    (tmp_path / "experiment.toml").write_text(example, encoding="utf-8")
    assert load_experiment(tmp_path / "experiment.toml").name == "mine"


@pytest.mark.parametrize("page", ["runtime.md", "worlds.md", "learning.md"])
def test_the_pages_code_runs(page: str, capsys) -> None:
    names: dict[str, object] = {}
    for block in re.findall(
        r"^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    ):
        if "gym" in block:
            pytest.importorskip("gymnasium")
        exec(compile(block, page, "exec"), names)
    assert capsys.readouterr().out


def test_the_worlds_settings_file_writes_a_log(tmp_path: Path) -> None:
    from recil.sim.generate import Truth, load_settings
    from recil.sim.worlds.settings import WORLDS

    text = (DOCS / "worlds.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "settings.toml").write_text(example.replace("2000", "50"), encoding="utf-8")
    log = Truth(load_settings(tmp_path / "settings.toml")).log()
    assert (log.sessions, log.steps, log.catalogue) == (50, 500, 50)
    assert all(f"`{name}`" in text for name in WORLDS)


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*DOCS.rglob("*.md"), DOCS.parent / "README.md"]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
