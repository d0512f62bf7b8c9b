"""`comanda restart`: each process of a running `comanda up` once, one after the other, without a failed request."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import typer
from rich.console import Console

from comanda.engines import data_folder
from comanda.engines.child import heeds
from comanda.engines.ports import answers
from comanda.engines.supervisor import REPLACE, REPLACE_FILE
from comanda.errors import ConfigurationFault, DependencyFault
from comanda.proof.instance import UP_FILE, written

_PATIENCE = 60.0  # seconds: a drain may take half of them
_LOOK_EVERY = 0.05
_KINDS = ("api", "relay", "worker")


async def restart(data_dir: Path, *, only: str | None, json: bool) -> None:
    """End each, and wait until its successor is ready before the next one's turn; an API's is there before it goes.

    Raises:
        ConfigurationFault: nothing runs in that folder, or nothing of that name.
        DependencyFault: a process did not come back.
    """
    written(data_dir)
    if not data_folder.is_locked(data_dir):
        # What it wrote down may be anybody's process by now.
        raise ConfigurationFault(
            f"Nothing runs in {data_dir}: its `comanda up` was killed and left {UP_FILE} behind. Start it again."
        )
    told = Console(stderr=True)
    ours = sorted(name for name in _processes(data_dir) if name.partition("-")[0] in _KINDS)
    chosen = [name for name in ours if only is None or only in {name, name.partition("-")[0]}]
    if not chosen:
        raise ConfigurationFault(f"--only {only!r}: there are {', '.join([*_KINDS, *ours])}")
    for name in chosen:
        began = time.monotonic()
        was, now = await _replaced(data_dir, name)
        seconds = time.monotonic() - began
        if json:
            typer.echo(_line(name, was, now, seconds))
        else:
            told.print(f"{name}: pid {was} drained, pid {now} is ready ({seconds:.1f} s)", highlight=False)


async def _replaced(data_dir: Path, name: str) -> tuple[int, int]:
    was = _processes(data_dir)[name]
    if name.startswith("api-"):
        # Side by side: with one API alone there would be nobody to answer meanwhile.
        data_folder.replace(data_dir / REPLACE_FILE, name)
        os.kill(int(_facts(data_dir)["pid"]), REPLACE)
    else:
        os.kill(was, signal.SIGTERM)
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        now = _processes(data_dir).get(name, was)
        if now != was and _is_gone(was) and await _is_ready(data_dir, name, now):
            return was, now
        await asyncio.sleep(_LOOK_EVERY)
    raise DependencyFault(f"{name} did not come back within {_PATIENCE:.0f} s: see its log")


async def _is_ready(data_dir: Path, name: str, pid: int) -> bool:
    """An API answers; the others have begun to listen to signals, which is after they have connected."""
    if name.startswith("api-"):
        url = str(_facts(data_dir)["api"])
        return bool(urlsplit(url).port) and await answers(f"{url}/api/v1/health/ready") and heeds(pid, signal.SIGTERM)
    return heeds(pid, signal.SIGTERM)


def _is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


def _processes(data_dir: Path) -> dict[str, int]:
    return {one["name"]: one["pid"] for one in _facts(data_dir)["processes"]}


def _facts(data_dir: Path) -> Mapping[str, Any]:
    facts: Mapping[str, Any] = json.loads((data_dir / UP_FILE).read_bytes())
    return facts


def _line(name: str, was: int, now: int, seconds: float) -> str:
    return json.dumps({"process": name, "was": was, "now": now, "seconds": round(seconds, 3)})
