"""Keeps processes running: started in order, started again when they die, ended in the reverse order."""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from comanda.engines import data_folder
from comanda.engines.child import TRIES, Child, Process, describe, ended, heeds, spawn, stop, until_ready
from comanda.errors import ConfigurationFault, Fault

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 2.0
HEALTHY_SECONDS = 10.0
REPLACE = signal.SIGUSR1
REPLACE_FILE = "replace.json"
SAME_KEY_PRESS = 0.5  # make, npm and terminals may all pass on the same Ctrl-C


@dataclass
class _Kept:
    child: Child
    ready: asyncio.Future[None]
    process: Process | None = None
    healthy_at: float | None = None
    deaths: int = 0
    replaced: asyncio.Event = field(default_factory=asyncio.Event)
    others: set[Process] = field(default_factory=set)  # a successor that is coming, a predecessor that is leaving
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Supervisor:
    """Groups of children; a group starts once the one before it is ready.

    Args:
        log: gets one sentence for each restart, and what was started or ended.
    """

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._groups: list[list[_Kept]] = []
        self._asked_to_stop = asyncio.Event()
        self._asked_to_hurry = asyncio.Event()
        self._asked_at = 0.0
        self._published: tuple[Path, dict[str, object]] | None = None
        self._leaving: set[asyncio.Task[None]] = set()

    async def run(self, build: Callable[[], Awaitable[None]]) -> int:
        """Build up, wait for SIGTERM or Ctrl-C, drain. Nothing is left running, however it ends.

        Returns:
            0, or 1 when a second signal cut the drain short.
        """
        with self._signals():
            building = asyncio.ensure_future(build())
            stopping = asyncio.ensure_future(self._asked_to_stop.wait())
            try:
                await asyncio.wait({building, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if building.done() and not stopping.done():
                    building.result()
                    await stopping
            finally:
                for task in (building, stopping):
                    task.cancel()
                await asyncio.gather(building, stopping, return_exceptions=True)
                await self._drain()
        return 1 if self._asked_to_hurry.is_set() else 0

    def request_stop(self) -> None:
        """Begin to drain; asked again, kill."""
        moment = asyncio.get_running_loop().time()
        if not self._asked_to_stop.is_set():
            self._asked_at = moment
            self._asked_to_stop.set()
        elif moment - self._asked_at > SAME_KEY_PRESS:
            self._asked_to_hurry.set()

    def replace(self, name: str) -> None:
        """Start the successor of a child that may overlap with it; once that is ready, the child is ended."""
        for kept in (kept for group in self._groups for kept in group):
            if kept.child.name == name and kept.child.overlaps:
                kept.replaced.set()

    async def start(self, *children: Child) -> None:
        """Start a group together and return when all of it is ready.

        Raises:
            Fault: of a child that can't be started; from then on children are never given up.
        """
        loop = asyncio.get_running_loop()
        group = [_Kept(child, loop.create_future()) for child in children]
        self._groups.append(group)
        for kept in group:
            kept.task = asyncio.create_task(self._keep(kept), name=kept.child.name)
        try:
            await asyncio.gather(*(self._first_start(kept) for kept in group))
        finally:
            for kept in group:
                kept.ready.cancel()

    def publish(self, path: Path, facts: dict[str, object]) -> None:
        """Write the facts and all pids to this file, and keep it current until the drain begins."""
        self._published = (path, facts)
        self._write()

    def processes(self) -> list[dict[str, object]]:
        """Name and pid of each child, the last started group first."""
        return [
            {"name": kept.child.name, "pid": kept.process.pid}
            for group in reversed(self._groups)
            for kept in group
            if kept.process is not None
        ]

    async def _first_start(self, kept: _Kept) -> None:
        try:
            async with asyncio.timeout(kept.child.patience):
                await kept.ready
        except TimeoutError:
            raise kept.child.fault(f"{kept.child.name} was not ready after {kept.child.patience:.0f} s") from None

    async def _keep(self, kept: _Kept) -> None:
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE
        while True:
            kept.healthy_at = None
            try:
                why = await self._one_life(kept)
            except Exception as fault:  # noqa: BLE001 - whatever goes wrong with a child, it is tried again
                why = str(fault) if isinstance(fault, Fault) else repr(fault)
                if isinstance(fault, ConfigurationFault) and not kept.ready.done():
                    kept.ready.set_exception(fault)
                    return
            kept.deaths += 1
            if kept.deaths >= TRIES and not kept.ready.done():
                kept.ready.set_exception(kept.child.fault(f"{kept.child.name} does not start: {why}"))
                return
            if _was_healthy(kept, loop.time()):
                pause = FIRST_PAUSE
            self._log(f"{kept.child.name}: {why}; started again in {pause:.1f} s")
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _one_life(self, kept: _Kept) -> str:
        """From preparation to death; why it died."""
        child = kept.child
        await child.prepare()
        process = kept.process = spawn(child)
        self._write()
        try:
            if await until_ready(child, process):
                kept.healthy_at = asyncio.get_running_loop().time()
                if not kept.ready.done():
                    kept.ready.set_result(None)
            while await _is_replaced(kept, process):
                process = await self._succeeded(kept, process)
        except Exception:
            await stop(child, process)
            raise
        return f"pid {process.pid} {describe(child, process)}"

    async def _succeeded(self, kept: _Kept, process: Process) -> Process:
        """The successor, with the process on its way out; or still the process, if its successor did not come up."""
        child = kept.child
        kept.replaced.clear()
        try:
            await child.prepare()
            successor = spawn(child)
        except Fault as fault:
            self._log(f"{child.name} is not replaced: {fault}")
            return process
        kept.others.add(successor)

        async def is_ready() -> bool:
            # The one before it answers at the same address: at its work, a program of ours listens to this.
            return heeds(successor.pid, child.stop_signal) and await child.ready()

        try:
            async with asyncio.timeout(child.patience):
                await until_ready(replace(child, ready=is_ready), successor)
        except TimeoutError:
            await stop(child, successor)
        if successor.poll() is not None:
            kept.others.discard(successor)
            self._log(f"{child.name}: its successor {describe(child, successor)}; pid {process.pid} goes on")
            return process
        kept.others ^= {successor, process}
        kept.process, kept.healthy_at = successor, asyncio.get_running_loop().time()
        self._write()
        leaving = asyncio.create_task(self._leave(kept, process))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        return successor

    async def _leave(self, kept: _Kept, process: Process) -> None:
        await stop(kept.child, process, self._asked_to_hurry)
        kept.others.discard(process)

    async def _drain(self) -> None:
        if self._published is not None:
            path, _ = self._published
            self._published = None
            path.unlink(missing_ok=True)
        for group in reversed(self._groups):
            tasks = [kept.task for kept in group if kept.task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(self._end(kept) for kept in group))
        await asyncio.gather(*self._leaving)

    async def _end(self, kept: _Kept) -> None:
        alive = [one for one in (kept.process, *kept.others) if one is not None and one.poll() is None]
        await asyncio.gather(*(stop(kept.child, one, self._asked_to_hurry) for one in alive))

    def _replace_asked(self) -> None:
        """Whoever sends the signal has written down which child is meant."""
        if self._published is None:
            return
        path = self._published[0].with_name(REPLACE_FILE)
        try:
            name = json.loads(path.read_bytes())
            path.unlink()
        except (OSError, ValueError) as fault:
            self._log(f"nothing is replaced: {path} can't be read ({fault})")
            return
        self.replace(str(name))

    def _write(self) -> None:
        if self._published is not None:
            path, facts = self._published
            try:
                data_folder.replace(path, {**facts, "pid": os.getpid(), "processes": self.processes()})
            except OSError as refused:  # a full disk must not end what still works
                self._log(f"{path} can't be written: {refused}")

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = [signal.SIGTERM, signal.SIGINT]
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # not under nohup
            numbers.append(signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, self.request_stop)
        loop.add_signal_handler(REPLACE, self._replace_asked)
        numbers.append(REPLACE)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)


async def _is_replaced(kept: _Kept, process: Process) -> bool:
    """Wait until it ends (False) or is to be replaced (True)."""
    death = asyncio.ensure_future(ended(process))
    asked = asyncio.ensure_future(kept.replaced.wait())
    try:
        await asyncio.wait({death, asked}, return_when=asyncio.FIRST_COMPLETED)
        return not death.done()
    finally:
        for one in (death, asked):
            one.cancel()
        await asyncio.gather(death, asked, return_exceptions=True)


def _was_healthy(kept: _Kept, moment: float) -> bool:
    return kept.healthy_at is not None and moment - kept.healthy_at >= HEALTHY_SECONDS
