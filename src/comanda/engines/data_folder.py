"""The data folder: made, locked, and the secrets that are kept in it."""

import contextlib
import fcntl
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

from comanda.errors import ConfigurationFault

SECRETS = "secrets.json"


def make(data_dir: Path) -> Path:
    """The folder's absolute path; it exists afterwards, with `logs` in it.

    Raises:
        ConfigurationFault: it can't be made or written.
    """
    try:
        folder = data_dir.expanduser().resolve()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "logs").mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError) as refused:
        why = refused.strerror if isinstance(refused, OSError) else str(refused)
        raise ConfigurationFault(
            f"The data folder {data_dir} can't be written ({why}): choose another --data-dir"
        ) from None
    return folder


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process alone; the kernel lets go of it however the process ends.

    Raises:
        ConfigurationFault: another process holds it.
    """
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as refused:
        raise ConfigurationFault(
            f"The data folder {folder} can't be locked ({refused.strerror}): choose another --data-dir"
        ) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationFault(
                f"Another `comanda up` uses {folder}: stop it first, or choose another --data-dir"
            ) from None
        yield
    finally:
        os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Whether a living process holds the folder."""
    try:
        descriptor = os.open(folder / "lock", os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def secret(folder: Path, name: str) -> str:
    """A secret by its name, made up when it is asked for the first time."""
    path = folder / SECRETS
    try:
        known = json.loads(path.read_bytes()) if path.exists() else {}
    except (OSError, ValueError) as broken:
        raise ConfigurationFault(f"{path} can't be read ({broken}): restore it") from None
    if name not in known:
        known[name] = secrets.token_urlsafe(32 if name == "secretKey" else 18)
        replace(path, known)
    return str(known[name])


def replace(path: Path, content: object) -> None:
    """Put JSON in the place of the file, whole or not at all, for its owner's eyes only."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
