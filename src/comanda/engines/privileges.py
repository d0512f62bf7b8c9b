"""Whom an embedded engine runs as. PostgreSQL refuses root, so as root it runs as an account without rights."""

import ctypes
import os
import pwd
import signal
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from comanda.errors import ConfigurationFault

CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_KILL, CAP_SETGID, CAP_SETUID = 0, 1, 5, 6, 7
_NEEDED = {
    CAP_CHOWN: "CAP_CHOWN",
    CAP_DAC_OVERRIDE: "CAP_DAC_OVERRIDE",
    CAP_KILL: "CAP_KILL",
    CAP_SETGID: "CAP_SETGID",
    CAP_SETUID: "CAP_SETUID",
}

_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
_CAPABILITY_VERSION_3 = 0x20080522

# Loaded before any fork: a child between fork and exec must not load libraries.
_LIBC = ctypes.CDLL(None, use_errno=True)
_HAS_PRCTL = hasattr(_LIBC, "prctl")
_CAP_HEADER = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITY_VERSION_3, 0))
_ONLY_DAC_OVERRIDE = ctypes.create_string_buffer(struct.pack("6I", *[1 << CAP_DAC_OVERRIDE] * 3, 0, 0, 0))

ADVICE = "start Comanda as an ordinary user, or set COMANDA_DATABASE_URL and COMANDA_REDIS_URL to servers of your own"


@dataclass(frozen=True)
class Account:
    """A user without rights; `reaching` lets it pass folders that are closed to it, instead of opening them to all."""

    uid: int
    gid: int
    reaching: bool


def account_for(folder: Path, program: Path) -> Account | None:
    """The account for an engine with its data in `folder`; None: the one that runs this process.

    As root it is the owner of the folder, so that a folder which an ordinary user made stays theirs, else `nobody`.

    Raises:
        ConfigurationFault: this process is root, but may not do what that takes.
    """
    if os.geteuid() != 0:
        try:
            pwd.getpwuid(os.geteuid())
        except KeyError:
            raise ConfigurationFault(
                f"PostgreSQL needs a user with a name, and user {os.geteuid()} has no entry in /etc/passwd: add one, "
                "or set COMANDA_DATABASE_URL and COMANDA_REDIS_URL to servers of your own"
            ) from None
        return None
    held = _capabilities()
    missing = [name for bit, name in _NEEDED.items() if not held >> bit & 1]
    if missing:
        raise ConfigurationFault(
            f"PostgreSQL refuses to run as root, and this root lacks what it takes to run it as another user "
            f"({', '.join(missing)}): {ADVICE}"
        )
    uid, gid = _owner(folder)
    reachable = _reachable(folder.parent / "x", uid, gid) and _reachable(program, uid, gid) and _readable(program, uid)
    return Account(uid, gid, reaching=not reachable)


def give(folder: Path, account: Account | None) -> None:
    """Make the account the owner of the folder and of all that is in it."""
    if account is None or not folder.exists():
        return
    for path in [folder, *folder.rglob("*")]:
        found = path.lstat()
        if (found.st_uid, found.st_gid) != (account.uid, account.gid):
            os.chown(path, account.uid, account.gid, follow_symlinks=False)


def before_exec(account: Account | None, death_signal: signal.Signals) -> Callable[[], None]:
    """What a child does between fork and exec: become the account, and ask to be told when its parent dies.

    The kernel forgets that request when the user changes, so it comes last. It fires when the *thread* that forked
    ends: fork from the main thread.
    """
    parent = os.getpid()

    def become() -> None:
        if account is not None:
            if account.reaching:
                _call("prctl", _PR_SET_KEEPCAPS, 1, 0, 0, 0)
            os.setgroups([])
            os.setresgid(account.gid, account.gid, account.gid)
            os.setresuid(account.uid, account.uid, account.uid)
            if account.reaching:
                _call("capset", _CAP_HEADER, _ONLY_DAC_OVERRIDE)
                _call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)
        if _HAS_PRCTL:
            _call("prctl", _PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
            if os.getppid() != parent:  # it died before we could ask
                os.kill(os.getpid(), signal.SIGKILL)

    return become


def _call(name: str, *arguments: object) -> None:
    if getattr(_LIBC, name)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), name)


def _capabilities() -> int:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return next((int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapPrm:")), 0)


def _owner(folder: Path) -> tuple[int, int]:
    if folder.exists() and folder.stat().st_uid != 0:
        return folder.stat().st_uid, folder.stat().st_gid
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise ConfigurationFault(
            f"PostgreSQL refuses to run as root, and there is no user `nobody`: {ADVICE}"
        ) from None
    return nobody.pw_uid, nobody.pw_gid


def _reachable(path: Path, uid: int, gid: int) -> bool:
    for folder in path.resolve().parents:
        found = folder.stat()
        bit = stat.S_IXUSR if found.st_uid == uid else stat.S_IXGRP if found.st_gid == gid else stat.S_IXOTH
        if not found.st_mode & bit:
            return False
    return True


def _readable(program: Path, uid: int) -> bool:
    found = program.stat()
    wanted = stat.S_IRUSR | stat.S_IXUSR if found.st_uid == uid else stat.S_IROTH | stat.S_IXOTH
    return found.st_mode & wanted == wanted
