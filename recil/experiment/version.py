"""Which code made a result."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path


@cache
def code_version() -> str:
    """The package's version and 8 digits over its source: a result of other code is never taken for one of this.

    What only reports (the command line, MLflow, reports) does not count. Claims have versions of their own.
    """
    try:
        version = metadata.version("recil")
    except metadata.PackageNotFoundError:
        version = "unknown"
    folder = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(folder.rglob("*.py")):
        place = file.relative_to(folder)
        if place.parts[0] not in ("cli", "track", "report", "claims"):
            digest.update(place.as_posix().encode() + b"\0" + file.read_bytes())
    return f"{version}+{digest.hexdigest()[:8]}"
