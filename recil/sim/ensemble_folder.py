"""Folders of several fitted users: an ensemble that is finished, and the workplace of one that is being fitted."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from recil.errors import InputError
from recil.logs.session_log import SessionLog
from recil.policies.tensor_folder import installed_version
from recil.random import Streams
from recil.sim.fit_checkpoint import check_identity, identity_of
from recil.sim.storage import USERS, load_users, save_users
from recil.sim.user_config import UserConfig
from recil.sim.users import UserModel

SCHEMA = 1
ENSEMBLE, FIT = "ensemble.json", "fit.json"
_REMEDY = "give a folder written by UserEnsemble.save"


def write_members(path: str | Path, users: Sequence[UserModel]) -> None:
    """Write the users, the central ones first, and what they are; whole or not at all, in place of an older ensemble.

    Raises InputError where `path` is something else or cannot be written.
    """
    path = Path(path)
    if path.exists() and not ((path / ENSEMBLE).is_file() or (path.is_dir() and not any(path.iterdir()))):
        raise InputError(_place(path), "exists and holds no ensemble", "give a new folder")
    unfinished, former = (path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("new", "old"))
    try:
        unfinished.mkdir(parents=True)
        folders = {}
        for number, each in enumerate(users):
            name = f"member-{number}" if number else "central"
            save_users(each, unfinished / name)
            folders[name] = _digest(unfinished / name)
        described = {"recil_ensemble": SCHEMA, "recil": installed_version(), "folders": folders}
        (unfinished / ENSEMBLE).write_text(json.dumps(described, indent=1), encoding="utf-8")
        if path.exists():
            path.replace(former)
        unfinished.replace(path)
    except OSError as error:
        if former.exists() and not path.exists():
            former.replace(path)
        raise InputError(_place(path), f"cannot be written ({error})", "give a folder to write to") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def read_members(path: str | Path) -> list[UserModel]:
    """The users that were saved there, the central ones first. InputError where one is missing, damaged or changed."""
    path = Path(path)
    try:
        described = json.loads((path / ENSEMBLE).read_text(encoding="utf-8"))
        schema, folders = described["recil_ensemble"], dict(described["folders"])
    except FileNotFoundError as error:
        raise InputError(_place(path), f"{ENSEMBLE} is missing", _REMEDY) from error
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(_place(path), f"cannot be read ({type(error).__name__}: {error})", _REMEDY) from error
    if schema != SCHEMA:
        raise InputError(
            _place(path), f"has schema {schema}, this version reads {SCHEMA}", "use the version that wrote it"
        )
    if len(folders) < 3 or list(folders) != [
        f"member-{number}" if number else "central" for number in range(len(folders))
    ]:
        raise InputError(
            _place(path), f"{ENSEMBLE} names other folders than those of central users and members", _REMEDY
        )
    users = [load_users(path / name) for name in folders]
    changed = [name for name, digest in folders.items() if _digest(path / name) != digest]
    if changed:
        raise InputError(_place(path), f"{', '.join(changed)}: not what was saved", "save the ensemble again")
    return users


@dataclass(frozen=True)
class WorkFolder:
    """Where an ensemble is fitted: users that are finished as folders, those under way as `<name>.fit`."""

    path: Path

    @staticmethod
    def of(path: str | Path, log: SessionLog, config: UserConfig, streams: Streams) -> WorkFolder:
        """The folder for this fit, made if it is not there. InputError where it is another fit's or something else."""
        path, wanted = Path(path), identity_of(log, config, streams)
        place = f"checkpoint folder {path}"
        try:
            path.mkdir(parents=True, exist_ok=True)
            if (path / FIT).exists():
                found = json.loads((path / FIT).read_text(encoding="utf-8"))
                check_identity(place, found, wanted, "give another folder, or delete this one to start afresh")
            elif any(path.iterdir()):
                raise InputError(place, f"exists and holds no {FIT}", "give a new folder")
            else:
                unfinished = path / f".{FIT}.{os.getpid()}"
                unfinished.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
                unfinished.replace(path / FIT)
        except InputError:
            raise
        except (OSError, ValueError, AttributeError) as error:
            problem = f"cannot be used ({type(error).__name__}: {error})"
            raise InputError(place, problem, "give a new folder") from error
        return WorkFolder(path)

    def users(self, name: str, fit: Callable[[Path], UserModel]) -> UserModel:
        """The users of this name: read where they are finished, else fitted, with a file to keep what is under way."""
        folder, under_way = self.path / name, self.path / f"{name}.fit"
        if (folder / USERS.description).is_file():
            return load_users(folder)
        users = fit(under_way)
        save_users(users, folder)
        under_way.unlink(missing_ok=True)
        return users


def _place(path: Path) -> str:
    return f"ensemble folder {path}"


def _digest(folder: Path) -> str:
    """Of what a folder of users holds, file by file."""
    digest = hashlib.blake2b(digest_size=16)
    for name in (USERS.description, USERS.tensors):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "blake2b").digest())
    return digest.hexdigest()
