"""A running instance behind fault proxies, the customers who order there, and what a scenario can look at."""

import asyncio
import itertools
import json
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from comanda.db import Statement
from comanda.errors import DependencyFault, Fault
from comanda.proof.chaos.buyers import Buyers
from comanda.proof.chaos.demand import Demand, Intent
from comanda.proof.chaos.faults import BY_NAME, Happening
from comanda.proof.chaos.stage import COMANDA, Stage, environment
from comanda.proof.load.client import Api, Reply
from comanda.proof.load.plan import Good
from comanda.proof.matrix.pager import Pager

_PLAIN = 12
_PLENTY = 1_000_000
_POLL = 0.03
SCARCE, SCARCE_UNITS = "FAIL-scarce", 200

GOODS = [*(Good(f"FAIL-{n:02}", f"Product {n}", 500 + 10 * n) for n in range(_PLAIN)), Good(SCARCE, "Scarce", 900)]
DEMAND = Demand(GOODS, {good.sku: _PLENTY for good in GOODS} | {SCARCE: SCARCE_UNITS}, [])


class Missed(Fault):
    """What was waited for did not come in time."""


@dataclass
class Bought:
    """What single requests came to, of clients that don't try again."""

    replies: list[tuple[float, Reply]] = field(default_factory=list)
    shed: set[str] = field(default_factory=set)

    @property
    def statuses(self) -> dict[str, int]:
        return dict(Counter(reply.code if reply.status != 202 else "202" for _, reply in self.replies))

    @property
    def slowest(self) -> float:
        return max((reply.took for _, reply in self.replies), default=0.0)

    def failed(self) -> list[Reply]:
        return [reply for _, reply in self.replies if reply.status != 202]


@dataclass
class Scene:
    """One instance. `restarts`: what the supervisor of the stage said; `told`: whoever watches hears of progress."""

    stage: Stage
    session: aiohttp.ClientSession
    buyers: Buyers
    pager: Pager
    retried: Counter[str]
    restarts: list[str]
    told: Callable[[str], None]
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def intent(
        self, method: str = "pm_success", lines: Sequence[tuple[str, int]] = (), *, twice: bool = False
    ) -> Intent:
        """The next order."""
        n = next(self.numbers)
        chosen = lines or [(GOODS[n % _PLAIN].sku, 1), (GOODS[(n * 7 + 1) % _PLAIN].sku, 1)][: 1 + n % 2]
        return Intent(f"order-{n}", n % len(self.buyers.people), chosen, method, twice)

    async def buy(self, count: int, method: str = "pm_success", *, at_once: int = 32) -> list[str]:
        """Place so many orders, patiently; their ids."""
        slots = asyncio.Semaphore(at_once)
        already = len(self.buyers.asked)

        async def one() -> None:
            async with slots:
                await self.buyers.place(self.intent(method))

        await asyncio.gather(*(one() for _ in range(count)))
        return [one.answers[0][0] for one in self.buyers.asked[already:] if one.answers]

    @asynccontextmanager
    async def load(self, rate: float, method: str = "pm_success") -> AsyncIterator[None]:
        """So many orders a second, each sent until it is accepted; a few are sent twice at once."""
        enough = asyncio.Event()

        async def keep() -> None:
            async with asyncio.TaskGroup() as everybody:
                async for _ in _paced(rate, enough):
                    intent = self.intent(method)
                    everybody.create_task(self.buyers.place(intent))

        async with _running(keep(), enough):
            yield

    @asynccontextmanager
    async def single_requests(self, rate: float, bought: Bought) -> AsyncIterator[None]:
        """So many orders a second of clients that don't try again."""
        enough = asyncio.Event()

        async def one() -> None:
            intent = self.intent()
            reply = await self.buyers.once(intent)
            bought.replies.append((time.time(), reply))
            if reply.code == "OVERLOADED":
                bought.shed.add(intent.key)

        async def keep() -> None:
            async with asyncio.TaskGroup() as everybody:
                async for _ in _paced(rate, enough):
                    everybody.create_task(one())

        async with _running(keep(), enough):
            yield

    @asynccontextmanager
    async def crowd(self, clients: int, one: Callable[[int], Awaitable[None]]) -> AsyncIterator[None]:
        """So many clients, each with one request at a time."""
        enough = asyncio.Event()

        async def client(number: int) -> None:
            while not enough.is_set():
                await one(number)

        async def keep() -> None:
            async with asyncio.TaskGroup() as everybody:
                for number in range(clients):
                    everybody.create_task(client(number))

        async with _running(keep(), enough):
            yield

    @asynccontextmanager
    async def hurt(self, kind: str) -> AsyncIterator[Happening]:
        """One of the nemesis' faults.

        Raises:
            Missed: it did not happen.
        """
        what = Happening(0.4)
        async with BY_NAME[kind].hurt(self.stage, what):
            yield what
        if not what.has_happened:
            raise Missed(f"{kind} did not happen")

    def follow(self) -> None:
        """Go to where the API is now, after `up` has been started again."""
        self.buyers.api = Api(self.session, self.stage.api, self.retried)

    def accepted_after(self, moment: float) -> float | None:
        """Seconds from then until the next 202."""
        times = [one.accepted - moment for one in self.buyers.asked if one.accepted is not None]
        return min((seconds for seconds in times if seconds > 0), default=None)

    async def next_accepted(self, moment: float, within: float = 60.0) -> float:
        """The same, waited for."""
        await self.until(lambda: self.accepted_after(moment) is not None, within)
        return self.accepted_after(moment) or 0.0

    async def rows(self, statement: Statement, *arguments: Any) -> list[Any]:
        """Past the proxy."""
        async with self.stage.database() as tx:
            return list(await statement.rows(tx, *arguments))

    async def value(self, statement: Statement, *arguments: Any) -> Any:
        async with self.stage.database() as tx:
            return await statement.value(tx, *arguments)

    async def execute(self, script: str) -> None:
        async with self.stage.database() as tx:
            await tx.execute(script)

    async def until(self, holds: Callable[[], Awaitable[object] | object], within: float) -> float:
        """Seconds until it held; what can't be asked just now does not hold yet.

        Raises:
            Missed: it never did.
        """
        began = time.monotonic()
        while True:
            with suppress(DependencyFault, aiohttp.ClientError, OSError, TimeoutError):
                answer = holds()
                if await answer if isinstance(answer, Awaitable) else answer:
                    return time.monotonic() - began
            if time.monotonic() - began > within:
                raise Missed(f"what was waited for had not come after {within:g} s")
            await asyncio.sleep(_POLL)

    async def metric(self, name: str) -> float:
        """The sum of a metric's samples."""
        async with self.session.get(f"{self.stage.api}/metrics") as response:
            text = await response.text()
        lines = (line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{")))
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    async def status(self, path: str) -> tuple[int, float]:
        """Status of a GET, and the seconds that it took; 0: no answer."""
        began = time.monotonic()
        try:
            async with self.session.get(f"{self.stage.api}/api/v1{path}") as response:
                await response.read()
                return response.status, time.monotonic() - began
        except (aiohttp.ClientError, OSError, TimeoutError):
            return 0, time.monotonic() - began

    async def comanda(self, *arguments: str) -> list[Any]:
        """A command on this instance; with `--json` among its arguments, the objects that it prints.

        Raises:
            Fault: it failed.
        """
        argv = [*COMANDA, *arguments, "--data-dir", str(self.stage.up_folder)]
        process = await asyncio.create_subprocess_exec(
            *argv, env=environment(self.stage.settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = await process.communicate()
        if process.returncode:
            raise Fault(f"comanda {' '.join(arguments)}: {err.decode().strip()[-300:]}")
        return [json.loads(line) for line in out.splitlines() if line.startswith(b"{")]


@asynccontextmanager
async def _running(work: Any, enough: asyncio.Event) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    except BaseException:
        task.cancel()
        raise
    finally:
        enough.set()
        await asyncio.gather(task, return_exceptions=True)
    task.result()


async def _paced(rate: float, enough: asyncio.Event) -> AsyncIterator[int]:
    began = time.monotonic()
    for number in itertools.count():
        wait = began + number / rate - time.monotonic()
        if wait > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(enough.wait(), wait)
        if enough.is_set():
            return
        yield number
