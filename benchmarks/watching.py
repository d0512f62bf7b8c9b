"""Many who watch their orders: how soon after its commit a change is told, with 5,000 streams open at one API process.

    python benchmarks/watching.py [--streams 5000] [--seconds 20] [--rate 50]

Orders are shipped at a steady rate; each parcel is an event. Prints a JSON line: the p95 in ms from the event's time to
its arrival at the client, which shares the two cores, and beside it the memory of the process and what was missed.
"""

import argparse
import asyncio
import json
import random
import resource
import statistics
import time
from datetime import UTC, datetime
from http import HTTPStatus

import aiohttp
import psutil
from end_to_end import settle
from harness import Stand, ask, comanda_up, report, say, wrk

WITHIN = 100.0  # ms
_OPENED_AT_ONCE = 100


class Watchers:
    """Clients, each with a stream of its own."""

    def __init__(self, stand: Stand, session: aiohttp.ClientSession) -> None:
        self._stand = stand
        self._session = session
        self.delays: list[float] = []
        self.heard: set[str] = set()
        self.is_open = 0
        self.refused = 0

    async def watch(self, order_id: str) -> None:
        """Until cancelled; what happened before is not counted."""
        url = f"{self._stand.api}/api/v1/orders/{order_id}/events"
        headers = {"Authorization": f"Bearer {self._stand.token}"}
        while not await self._follow(url, headers):
            self.refused += 1
            await asyncio.sleep(1)  # as the answer says

    async def _follow(self, url: str, headers: dict[str, str]) -> bool:
        """Hear what is told; False: it has to come again."""
        async with self._session.get(url, headers=headers) as response:
            if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
                return False
            response.raise_for_status()
            async for line in response.content:
                if line.startswith(b"retry:"):
                    self.is_open += 1
                elif line.startswith(b"data: ") and b'"OrderShipped"' in line:
                    event = json.loads(line[6:])
                    told = datetime.fromisoformat(event["time"])
                    self.delays.append((datetime.now(UTC) - told).total_seconds() * 1000)
                    self.heard.add(event["aggregateId"])
        return True


async def ship(stand: Stand, session: aiohttp.ClientSession, order_id: str) -> None:
    url = f"{stand.api}/api/v1/orders/{order_id}/shipments"
    async with session.post(url, json={}, headers={"Authorization": f"Bearer {stand.token}"}) as response:
        response.raise_for_status()
        await response.read()


async def measure(stand: Stand, rows: list[str], seconds: float, rate: float) -> tuple[list[float], int, int]:
    """Delays in ms, MiB of the API process, and how many of the changes never arrived."""
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=None, sock_connect=30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        watchers = Watchers(stand, session)
        tasks = []
        for order_id in rows:
            tasks.append(asyncio.create_task(watchers.watch(order_id)))
            if len(tasks) % _OPENED_AT_ONCE == 0:
                while watchers.is_open < len(tasks):
                    for refused in (task for task in tasks if task.done()):
                        await refused
                    await asyncio.sleep(0.01)
        say("open", streams=watchers.is_open, came_again=watchers.refused)
        await asyncio.sleep(2)
        shipped = random.sample(rows, int(seconds * rate))
        began = time.monotonic()
        async with asyncio.TaskGroup() as shipping:
            for number, order_id in enumerate(shipped):
                await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
                shipping.create_task(ship(stand, session, order_id))
        await asyncio.sleep(3)
        memory = round(psutil.Process(stand.processes["api-1"]).memory_full_info().uss / 2**20)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return watchers.delays, memory, len(set(shipped) - watchers.heard)


def ask_ids(stand: Stand, count: int) -> list[str]:
    found = "SELECT id FROM orders WHERE state = 'CONFIRMED' ORDER BY id LIMIT $1"
    return [str(row["id"]) for row in ask(stand, found, count)]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--streams", type=int, default=5000)
    arguments.add_argument("--seconds", type=float, default=20)
    arguments.add_argument("--rate", type=float, default=50)
    arguments.add_argument("--runs", type=int, default=1)
    asked = arguments.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    p95, p50, memories, missed = [], [], [], 0
    for _ in range(asked.runs):
        with comanda_up("--workers", "1", GATEWAY="instant", MAX_BACKLOG="500000") as stand:
            while ask(stand, "SELECT count(*) AS n FROM orders")[0]["n"] < asked.streams:
                wrk(stand, connections=32, seconds=2)
            settle(stand)
            orders = ask_ids(stand, asked.streams)
            delays, memory, lost = asyncio.run(measure(stand, orders, asked.seconds, asked.rate))
        delays.sort()
        p95.append(delays[int(len(delays) * 0.95)])
        p50.append(statistics.median(delays))
        memories.append(memory)
        missed += lost
        say("told", changes=len(delays), p50=round(p50[-1], 1), p95=round(p95[-1], 1), missed=lost, mib=memory)
    report(
        "watching", p95, [WITHIN] * len(p95), 1, {"missed": 0}, unit="ms, p95 after the commit", streams=asked.streams,
        changes_a_second=asked.rate, p50_ms=round(statistics.median(p50), 1), missed=missed, api_mib=max(memories),
        reference="the goal",
    )  # fmt: skip
    if missed:
        raise SystemExit(f"{missed} changes never arrived")


if __name__ == "__main__":
    main()
