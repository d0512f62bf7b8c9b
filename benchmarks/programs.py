"""Programs that a benchmark starts: run to their end, and ended with all that they started, whatever comes between."""

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

import psutil

PATIENCE = 200.0  # seconds until whoever was asked to end is killed
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_running: set["subprocess.Popen[str]"] = set()


def clean() -> dict[str, str]:
    """The environment without what is set for a shop of the user's own: no benchmark may come near that."""
    return {name: value for name, value in os.environ.items() if not name.upper().startswith("COMANDA_")}


def hear() -> None:
    """From here on a signal to stop is a SystemExit, so that every `finally` runs. It comes once."""
    for number in STOPS:
        signal.signal(number, _stop)


def _stop(number: int, _frame: FrameType | None) -> None:
    for stop in STOPS:
        signal.signal(stop, lambda *_: None)  # what ends already is not to be disturbed
    for program in list(_running):  # a thread may wait for one
        for one in _family(program.pid):
            _send(one, signal.SIGTERM)
    raise SystemExit(128 + number)


def ran(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    seconds: float | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end: its exit code and what it said. It does not outlive this one.

    Raises:
        subprocess.TimeoutExpired: it took longer than so many seconds, and was ended.
    """
    process = subprocess.Popen(command, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    _running.add(process)
    try:
        output, errors = process.communicate(timeout=seconds)
    except BaseException:
        end(process)
        raise
    finally:
        _running.discard(process)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def end(process: "subprocess.Popen[bytes] | subprocess.Popen[str]", patience: float = PATIENCE) -> None:
    """Ask a program to end, and wait; after that it is killed with all that it started."""
    family = _family(process.pid)
    for one in family:  # whoever is stopped hears nothing
        _send(one, signal.SIGCONT)
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    for one in {*family, *_family(process.pid)}:
        if process.poll() is None or one.pid != process.pid:
            _send(one, signal.SIGKILL)
    process.wait()


def _family(pid: int) -> list[psutil.Process]:
    """It, and all that it started; nobody: it is gone."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    return []


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):  # nor is a pid that somebody else has by now
        process.send_signal(number)
