"""One child process: what it is, how it is started, watched and ended."""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comanda.engines.privileges import Account, before_exec
from comanda.errors import ConfigurationFault, Fault

POLL_SECONDS = 0.05
KILL_SECONDS = 5.0
TRIES = 6
LARGEST_LOG = 10_000_000

Process = subprocess.Popen[bytes]


async def nothing() -> None:
    """Nothing has to be prepared."""


async def at_once() -> bool:
    """Ready as soon as it runs."""
    return True


def unknown() -> str:
    """Nobody can say why it ended."""
    return ""


@dataclass(frozen=True, kw_only=True)
class Child:
    """A process to keep running.

    Args:
        argv: asked before each start.
        env: the whole environment; None is the parent's.
        prepare: runs before each start; a Fault says that it can't be started now.
        ready: asked again and again once it runs; a ConfigurationFault says that it never will be.
        reason: one sentence on why the last run ended, or nothing.
        kill_signal: what follows when the stop signal has not helped within `stop_timeout` seconds.
        death_signal: what it gets when the parent dies, however it dies.
        patience: seconds until it must be ready at the first start.
        fault: raised when it does not start.
        log: the file that takes its output, appended to; None is the parent's standard error.
        overlaps: it and its successor may run side by side, so that it can be replaced without a gap.
    """

    name: str
    argv: Callable[[], Sequence[str]]
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    pass_fds: tuple[int, ...] = ()
    account: Account | None = None
    log: Path | None = None
    overlaps: bool = False
    prepare: Callable[[], Awaitable[None]] = nothing
    ready: Callable[[], Awaitable[bool]] = at_once
    reason: Callable[[], str] = unknown
    stop_signal: signal.Signals = signal.SIGTERM
    kill_signal: signal.Signals = signal.SIGKILL
    death_signal: signal.Signals = signal.SIGTERM
    stop_timeout: float = 15.0
    patience: float = 60.0
    fault: type[Fault] = Fault


@dataclass(frozen=True)
class Running:
    """A child that answers. It belongs to no event loop: start and stop may run in different ones."""

    child: Child
    process: Process
    url: str

    @property
    def pid(self) -> int:
        return self.process.pid

    async def stop(self) -> None:
        await stop(self.child, self.process)


def spawn(child: Child) -> Process:
    """Start it in a session of its own, so that a terminal's Ctrl-C reaches the parent alone.

    Raises:
        ConfigurationFault: the system refuses to start it.
    """
    with contextlib.ExitStack() as open_files:
        output = 2 if child.log is None else open_files.enter_context(_appending(child.log))
        try:
            return subprocess.Popen(  # noqa: S603 - argv is a list made by this program, no shell reads it
                list(child.argv()),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=None if child.env is None else dict(child.env),
                cwd=child.cwd,
                pass_fds=child.pass_fds,
                start_new_session=True,
                preexec_fn=before_exec(child.account, child.death_signal),  # noqa: PLW1509 - it calls only the kernel
            )
        except (OSError, subprocess.SubprocessError) as refused:
            raise ConfigurationFault(f"{child.name} can't be started: {refused}") from refused


async def ended(process: Process) -> int:
    """Wait for its end; the exit code, negative for a signal."""
    try:
        handle = os.pidfd_open(process.pid)
    except (AttributeError, OSError):  # no Linux, or it is gone already
        while process.poll() is None:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(POLL_SECONDS)
        return process.returncode
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(handle, over.set)
    try:
        await over.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)
    return process.wait()


async def until_ready(child: Child, process: Process) -> bool:
    """True once it is ready, False when it ended before."""
    death = asyncio.ensure_future(ended(process))
    try:
        while True:
            probe = asyncio.ensure_future(child.ready())
            try:
                await asyncio.wait({death, probe}, return_when=asyncio.FIRST_COMPLETED)
                if death.done():
                    return False
                if probe.result():
                    return True
            finally:
                await _cancelled(probe)
            await asyncio.wait({death}, timeout=POLL_SECONDS)
    finally:
        await _cancelled(death)


async def stop(child: Child, process: Process, hurry: asyncio.Event | None = None) -> None:
    """End it: the stop signal, then the kill signal, then SIGKILL. `hurry` cuts the first wait short."""
    death = asyncio.ensure_future(ended(process))
    rush = asyncio.ensure_future((hurry or asyncio.Event()).wait())
    try:
        for number, seconds in ((child.stop_signal, child.stop_timeout), (child.kill_signal, KILL_SECONDS)):
            if hurry is not None and hurry.is_set() and number is child.stop_signal:
                continue
            _signal(process, number)
            waited = {death, rush} if number is child.stop_signal else {death}
            await asyncio.wait(waited, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if death.done():
                return
        _signal(process, signal.SIGKILL)
        await death
    finally:
        await _cancelled(rush)
        await _cancelled(death)


async def run(child: Child) -> int:
    """Run it to its end and answer its exit code. Cancelled, it is stopped first."""
    process = spawn(child)
    try:
        return await ended(process)
    finally:
        if process.poll() is None:
            await stop(child, process)


async def begin(child: Child) -> Process:
    """Start it and return when it is ready, with some tries.

    Raises:
        Fault: the child's own kind of fault, with the reason.
    """
    for attempt in range(TRIES):
        await asyncio.sleep(0.1 * attempt)
        await child.prepare()
        process = spawn(child)
        try:
            async with asyncio.timeout(child.patience):
                if await until_ready(child, process):
                    return process
        except TimeoutError:
            await stop(child, process)
            raise child.fault(f"{child.name} was not ready after {child.patience:.0f} s") from None
        except BaseException:
            await stop(child, process)
            raise
    raise child.fault(f"{child.name} does not start: {describe(child, process)}")


def describe(child: Child, process: Process) -> str:
    """Why it ended, in a few words."""
    code = process.returncode
    how = f"ended by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
    why = child.reason()
    return f"{how} ({why})" if why else how


def log_size(path: Path) -> int:
    """Where the output of the next run begins; a log that has grown large makes way for a new one."""
    if not path.exists():
        return 0
    if path.stat().st_size > LARGEST_LOG:
        path.replace(path.with_suffix(".1.log"))
        return 0
    return path.stat().st_size


def log_since(path: Path, offset: int) -> str:
    """What was written after `offset`, at most the last 64 KiB of it."""
    try:
        with path.open("rb") as file:
            file.seek(max(offset, path.stat().st_size - 65_536))
            return file.read().decode(errors="replace")
    except OSError:
        return ""


def engine_environment() -> dict[str, str]:
    """What an engine may know of ours: no secrets, no locale."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TMPDIR") if name in os.environ}
    return {"PATH": os.defpath, **kept, "LC_ALL": "C", "TZ": "UTC"}


@contextlib.contextmanager
def _appending(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def heeds(pid: int, number: signal.Signals) -> bool:
    """Whether it has a handler for that signal: a program of ours listens for SIGTERM once it is at its work."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return not Path("/proc/self").exists()  # where there is no /proc, nobody can tell
    caught = next((line for line in status.splitlines() if line.startswith("SigCgt:")), "SigCgt: 0")
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def _signal(process: Process, number: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(number)


async def _cancelled(task: asyncio.Future[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
