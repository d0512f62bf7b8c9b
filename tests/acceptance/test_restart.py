"""A new release is rolled out: each process is replaced under load, and nobody notices."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp

from up import Up, basket, eventually, running


class Clients:
    """Who never repeats a request: each failure is one that a customer has seen."""

    def __init__(self, up: Up, headers: dict[str, str], product: str) -> None:
        self.answers: Counter[str] = Counter()
        self._up = up
        self._headers = headers
        self._body = basket(product)
        self._stop = asyncio.Event()

    async def run(self, count: int) -> None:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
            await asyncio.gather(*(self._one(session) for _ in range(count)))

    async def _one(self, session: aiohttp.ClientSession) -> None:
        url = f"{self._up.api}/api/v1/orders"
        while not self._stop.is_set():
            for method, body in (("POST", self._body), ("GET", None)):
                await self._ask(session, method, url, body)
            await asyncio.sleep(0.01)

    async def _ask(self, session: aiohttp.ClientSession, method: str, url: str, body: Any) -> None:
        try:
            async with session.request(method, url, json=body, headers=self._headers) as response:
                await response.read()
                self.answers[f"{method} {response.status}"] += 1
        except (aiohttp.ClientError, TimeoutError) as fault:
            self.answers[f"{method} {type(fault).__name__}: {fault}"] += 1

    def stop(self) -> None:
        self._stop.set()


async def test_a_rolling_restart_under_load_fails_no_request_and_leaves_no_lease(tmp_path: Path) -> None:
    settings = {"GATEWAY_LATENCY_MS": "0-300", "LEASE_SECONDS": "10"}
    async with running(tmp_path / "data", "--json", "--api", "2", "--workers", "2", **settings) as up:
        admin, customer = await up.signed_in(), await up.registered()
        product = await admin.product(stock=100_000)
        clients, before = Clients(up, customer.headers, product), up.processes
        load = asyncio.create_task(clients.run(6))
        await eventually(lambda: clients.answers["POST 202"] >= 20)
        restarted = await up.comanda("restart", "--json")
        assert restarted.code == 0, restarted.err
        seen = clients.answers["POST 202"]
        await eventually(lambda: clients.answers["POST 202"] >= seen + 20)
        clients.stop()
        await load
        assert set(clients.answers) == {"POST 202", "GET 200"}, clients.answers
        assert [row["process"] for row in restarted.rows] == ["api-1", "api-2", "relay", "worker-1", "worker-2"]
        after = up.processes
        assert {name for name in before if before[name] != after[name]} == {row["process"] for row in restarted.rows}
        await admin.all_ended()
        assert len(await customer.orders()) == clients.answers["POST 202"]
        metrics = await up.metrics()
        assert not [name for name in metrics if name.startswith("saga_attempts_total") and 'outcome="lost"' in name]
        assert (await up.comanda("doctor")).code == 0


async def test_one_process_alone_is_replaced_without_a_failed_request(tmp_path: Path) -> None:
    """Its successor answers before it goes."""
    async with running(tmp_path / "data", "--json", "--api", "1", "--workers", "1") as up:
        admin, customer = await up.signed_in(), await up.registered()
        product = await admin.product(stock=100_000)
        clients = Clients(up, customer.headers, product)
        load = asyncio.create_task(clients.run(4))
        await eventually(lambda: clients.answers["POST 202"] >= 20)
        restarted = await up.comanda("restart", "--only", "api", "--json")
        seen = clients.answers["POST 202"]
        await eventually(lambda: clients.answers["POST 202"] >= seen + 20)
        clients.stop()
        await load
        assert set(clients.answers) == {"POST 202", "GET 200"}, clients.answers
        assert [row["process"] for row in restarted.rows] == ["api-1"]
        nobody = await up.comanda("restart", "--only", "nonsense")
        assert (nobody.code, nobody.out) == (2, "")
        assert "there are api, relay, worker, api-1, relay, worker-1" in nobody.err
