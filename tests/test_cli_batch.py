"""The examples for schedulers, run with a stand-in for recil: which command they give, and how they end."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

EXAMPLES = Path(__file__).resolve().parents[1] / "examples" / "batch"
pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs an example where `recil` and `scontrol` write down how they were called; codes: command=code."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def example(name: str, codes: str = "run=0", **environment: str) -> tuple[int, list[str]]:
        said = tmp_path / "said.txt"
        said.write_text("")
        ends = f"for c in {codes}; do case $1 in ${{c%%=*}}) exit ${{c##*=}};; esac; done"
        for program, code in (("recil", ends), ("scontrol", "")):
            (programs / program).write_text(f'#!/bin/bash\necho "{program} $*" >>{said}\n{code}\n')
            (programs / program).chmod(0o755)
        path = {"PATH": f"{programs}:{os.environ['PATH']}"}
        done = subprocess.run(["bash", EXAMPLES / name], env=os.environ | path | environment, timeout=30)
        return done.returncode, said.read_text().splitlines()

    return example


def test_a_task_of_an_array_runs_its_own_file_and_goes_back_into_the_queue_when_interrupted(run, tmp_path):
    (tmp_path / "experiments").mkdir()
    for name in ("a", "b"):
        (tmp_path / "experiments" / f"{name}.toml").touch()
    place = {"MLFLOW_TRACKING_URI": "http://somewhere:5000", "SLURM_ARRAY_TASK_ID": "1", "SLURM_CPUS_PER_TASK": "4"}
    code, said = run("slurm.sh", "run=0", **place)
    assert (code, said) == (0, ["recil run experiments/b.toml --work .recil --jobs 4 --quiet --format csv"])
    job = {"SLURM_JOB_ID": "78", "SLURM_ARRAY_JOB_ID": "77"}
    code, said = run("slurm.sh", "run=130", **place, **job)
    assert code == 130 and said[1:] == ["scontrol requeue 77_1"]
    assert run("slurm.sh", "run=1", **place, **job)[1][1:] == []  # a gate: the answer would be the same
    assert run("slurm.sh", **place | {"SLURM_ARRAY_TASK_ID": "2"}) == (2, [])
    assert run("slurm.sh", SLURM_ARRAY_TASK_ID="0")[0] != 0  # no store named: every task would make its own


def test_the_nightly_job_promotes_what_is_better_and_is_content_without(run, tmp_path):
    (tmp_path / ".recil" / "shop" / "policies" / "abc" / "policy").mkdir(parents=True)
    code, said = run("cron.sh", "promote=1")
    assert code == 0 and [line.split()[1] for line in said] == ["log", "run", "promote"]
    assert said[2].startswith("recil promote .recil/shop/policies/abc/policy --name shop --log held_out")
    code, said = run("cron.sh", "log=2")
    assert code == 2 and len(said) == 1
    code, said = run("cron.sh", "promote=2")
    assert code == 2


def test_the_indexed_job_is_sound_yaml_and_stops_at_gates():
    (job,) = yaml.safe_load_all((EXAMPLES / "kubernetes.yaml").read_text())
    assert job["spec"]["completionMode"] == "Indexed"
    (rule,) = job["spec"]["podFailurePolicy"]["rules"]
    assert (rule["action"], rule["onExitCodes"]["values"]) == ("FailIndex", [1, 2])
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert "$JOB_COMPLETION_INDEX.toml" in container["args"][0] and "--quiet" in container["args"][0]
