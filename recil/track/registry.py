"""Promotion: an alias of a registered model moves only to a policy that a paired comparison speaks for."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recil.errors import InputError
from recil.evaluate.compare import LOGGED, Comparison, Difference, compare
from recil.evaluate.verdict import VERDICTS, Verdict
from recil.logs.session_log import SessionLog
from recil.policies.environment import Environment
from recil.policies.protocol import Policy
from recil.track.model import log_policy
from recil.track.model_fetch import is_address, model_of_run, policy_at, run_of_saved, saved_in_run
from recil.track.model_store import on_store
from recil.track.run import RunWriter
from recil.track.serve import ServedPolicy
from recil.track.serve_columns import Columns
from recil.track.store import Store, connect, ensure_experiment

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

CANDIDATE = "candidate"
_LONGEST_TAG = 4000


@dataclass(frozen=True)
class Promotion:
    """What came of it.

    version     of the registered model that the alias names now; None where it names none
    moved       the alias is the candidate's now and was not before
    reasons     why it did not move; empty where the candidate has the alias
    comparison  what it was judged by; None where the candidate had the alias already
    """

    name: str
    alias: str
    version: str | None
    moved: bool
    reasons: tuple[str, ...]
    comparison: Comparison | None

    @property
    def holds(self) -> bool:
        """Whether the alias is the candidate's, now or before."""
        return not self.reasons

    def __str__(self) -> str:
        lines = [] if self.comparison is None else [str(self.comparison), ""]
        at = f"models:/{self.name}@{self.alias}"
        if self.moved:
            lines.append(f"{at} is version {self.version} now")
        elif self.holds:
            lines.append(f"{at} is this policy already, version {self.version}")
        else:
            kept = "names nothing" if self.version is None else f"stays with version {self.version}"
            lines += [f"{at} {kept}:", *(f"  {reason}" for reason in self.reasons)]
        return "\n".join(lines)


@dataclass(frozen=True)
class Gate:
    """What a promotion asks for. require: the worst verdict that will do; options: of `recil.compare`."""

    require: Verdict = "caution"
    options: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.require not in VERDICTS[:2]:
            raise InputError("--require", f"{self.require!r}", f"give one of {', '.join(VERDICTS[:2])}")

    def objections(self, comparison: Comparison, holder: str | None) -> tuple[str, ...]:
        """Why the candidate may not have the alias. holder: the row of the policy that has it, None where none has."""
        found = []
        for row in [comparison[CANDIDATE], *([] if holder is None else [comparison[holder]])]:
            worst = self.require if row.policy == CANDIDATE else "caution"
            if VERDICTS.index(row.verdict) > VERDICTS.index(worst):
                found.append(f"the verdict on the {row.policy} is {row.verdict}: {'; '.join(row.reasons)}")
        if found:
            return tuple(found)
        if holder is not None:
            apart = comparison.difference(CANDIDATE, holder)
            if not (apart.clear and apart.value > 0):
                return (f"it is not clearly better than the {holder}: {_shown(apart)}",)
        elif any(row.policy == LOGGED for row in comparison.rows):
            apart = comparison.difference(CANDIDATE, LOGGED)
            if apart.clear and apart.value < 0:
                return (f"it is clearly worse than the policy that wrote the log: {_shown(apart)}",)
        return ()


def promote(
    store: Store,
    source: str,
    name: str,
    judge: SessionLog | Environment,
    alias: str = "champion",
    gate: Gate | None = None,
    spool: Path = Path(".recil/spool"),
) -> Promotion:
    """Moves the alias to the policy that `source` names, if it is clearly better than the one that has it.

    source  a run's id, `models:/...`, or the folder of a saved policy
    judge   a log that neither policy was trained on, or a world; values are paired on it, and refused where they are
    Without a policy that has the alias, the verdict decides, and on a log the policy that wrote it is not to be better.
    Raises InputError for what cannot be found or compared; a candidate that is not good enough is no error.
    """
    gate = gate or Gate()
    _check_names(name, alias)
    uri = _address(store, source)
    holder = version_at(store, name, alias)
    with policy_at(uri, store) as folder:
        candidate = ServedPolicy.load(folder)
        former = None if holder is None else _loaded(store, name, holder)
        if former is not None and holder is not None and former.version == candidate.version:
            return Promotion(name, alias, str(holder.version), False, (), None)
        policies = _comparable({CANDIDATE: candidate} | ({} if former is None else {alias: former}), judge)
        comparison = compare(policies, judge, **dict(gate.options))
        reasons = gate.objections(comparison, None if former is None else alias)
        if reasons:
            return Promotion(name, alias, None if holder is None else str(holder.version), False, reasons, comparison)
        version = _registered(store, name, uri, folder, candidate, judge, spool)
    _move(store, name, alias, version, holder, comparison)
    return Promotion(name, alias, version, True, (), comparison)


def version_at(store: Store, name: str, alias: str) -> ModelVersion | None:
    """The version of the registered model that has this alias; None where none has."""
    from mlflow.exceptions import MlflowException

    try:
        return connect(store.uri).get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _check_names(name: str, alias: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise InputError("--name", f"{name!r}", "give letters, digits, '_', '-' and '.' only")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", alias) or re.fullmatch(r"v\d+|latest", alias):
        raise InputError("--to", f"{alias!r} is no alias MLflow takes", "give a word such as champion")


def _address(store: Store, source: str) -> str:
    """Where the policy itself is: a logged model, or a folder."""
    if is_address(source) or Path(source).is_dir():
        return source
    found = model_of_run(store, source) or saved_in_run(store, source)
    if found is not None:
        return found
    folder = connect(store.uri).get_run(source).data.tags.get("recil.policy", "")
    if folder and Path(folder).is_dir():
        return folder
    raise InputError(source, "this run logged no policy, and its folder is not here", "give the folder of a policy")


def _loaded(store: Store, name: str, version: ModelVersion) -> ServedPolicy:
    with policy_at(f"models:/{name}/{version.version}", store) as folder:
        return ServedPolicy.load(folder)


def _comparable(served: dict[str, ServedPolicy], judge: SessionLog | Environment) -> dict[str, Policy]:
    """The policies, if they are over the catalogue they are judged on."""
    ids = getattr(judge, "item_ids", None)
    for label, policy in served.items():
        if ids is not None and not np.array_equal(policy.item_ids, np.asarray(ids)):
            remedy = "judge on a log of the catalogue that both policies know"
            raise InputError(f"the {label}", "its catalogue is not the one it would be judged on", remedy)
    return {label: policy.policy for label, policy in served.items()}


def _registered(
    store: Store,
    name: str,
    uri: str,
    folder: Path,
    policy: ServedPolicy,
    judge: SessionLog | Environment,
    spool: Path,
) -> str:
    """The version of the registered model that is this policy, made when there is none."""
    client = connect(store.uri)
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.tags.get("recil.policy_version") == policy.version:
            return str(version.version)
    run_id = run_of_saved(uri)
    if run_id is not None:  # the model belongs to the run that made the policy
        uri = log_policy(store, run_id, folder).uri
    elif not is_address(uri):
        experiment = ensure_experiment(store, f"recil-{name}")
        with RunWriter(store, experiment, "promote", spool, {"recil.stage": "promote"}) as run:
            run.flush()
            # A folder that brings no names of its own categories has those of the log that its codes were read in.
            named_by = judge if isinstance(judge, SessionLog) and Columns.beside(folder) is None else None
            uri = log_policy(store, run, folder, named_by).uri
    # MLflow reports on standard error what is answered here in full.
    with on_store(store), redirect_stderr(io.StringIO()):
        import mlflow

        tags = {"recil.policy_version": policy.version}
        return str(mlflow.register_model(_logged(store, uri), name, tags=tags).version)


def _logged(store: Store, uri: str) -> str:
    """The logged model behind a version or an alias: the new version then knows the run it comes from."""
    named = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+))", uri)
    if named is None:
        return uri
    name, alias, number = named.groups()
    client = connect(store.uri)
    version = client.get_model_version_by_alias(name, alias) if alias else client.get_model_version(name, number)
    source = version.source or ""
    return source if source.startswith("models:/") else uri


def _move(
    store: Store, name: str, alias: str, version: str, holder: ModelVersion | None, comparison: Comparison
) -> None:
    """The alias to the version, with what spoke for it; refused where somebody moved it since it was looked at."""
    client = connect(store.uri)
    now = version_at(store, name, alias)
    if (now and now.version) != (holder and holder.version):
        raise InputError(f"models:/{name}@{alias}", "another process moved it meanwhile", "run again")
    row = comparison[CANDIDATE]
    tags = {
        "recil.promoted_to": alias,
        "recil.promoted_over": "nothing" if holder is None else str(holder.version),
        "recil.verdict": row.verdict,
        "recil.value": f"{row.value:.6g} [{row.low:.6g}, {row.high:.6g}] by {comparison.method}",
        "recil.comparison": str(comparison)[:_LONGEST_TAG],
    }
    for key, value in tags.items():
        client.set_model_version_tag(name, version, key, value)
    client.set_registered_model_alias(name, alias, version)


def _shown(apart: Difference) -> str:
    return f"{apart.value:+.4g} [{apart.low:+.4g}, {apart.high:+.4g}]"
