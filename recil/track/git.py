"""The commit a run was made at. MLflow does not find it for programs started by a console script."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git_tags(folder: Path) -> dict[str, str]:
    """`mlflow.source.git.commit` and `.branch` of the work tree around `folder`; nothing where there is none."""
    questions = {
        "mlflow.source.git.commit": ["rev-parse", "HEAD"],
        "mlflow.source.git.branch": ["rev-parse", "--abbrev-ref", "HEAD"],
    }
    tags: dict[str, str] = {}
    for tag, arguments in questions.items():
        try:
            answer = subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return tags
        tags[tag] = answer.stdout.strip()
    return tags
