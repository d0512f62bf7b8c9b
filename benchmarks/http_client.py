"""What one call to the gateway costs its client: CPU µs with aiohttp, and with httpx where that is installed.

    python benchmarks/http_client.py [--calls 4000]

Prints one JSON line. Both clients keep 50 calls under way against the mock gateway without latency.
"""

import argparse
import asyncio
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from uuid import uuid4

import aiohttp
import msgspec
import programs
import uvloop
from harness import report, say

UNDER_WAY = 50
Send = Callable[[bytes], Awaitable[int]]


def body() -> bytes:
    return msgspec.json.encode(
        {"key": str(uuid4()), "orderId": str(uuid4()), "amount": 1000, "currency": "USD", "paymentMethod": "pm_success"}
    )


async def cost(send: Send, calls: int) -> float:
    """CPU microseconds of this process for each call."""

    async def some(count: int) -> None:
        for _ in range(count):
            assert await send(body()) == 200

    await asyncio.gather(*(some(5) for _ in range(UNDER_WAY)))
    began = time.process_time()
    await asyncio.gather(*(some(calls // UNDER_WAY) for _ in range(UNDER_WAY)))
    return 1e6 * (time.process_time() - began) / calls


async def with_aiohttp(url: str, calls: int) -> float:
    connector = aiohttp.TCPConnector(limit=UNDER_WAY)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as client:

        async def send(data: bytes) -> int:
            async with client.post(f"{url}/charges", data=data, headers={"Content-Type": "application/json"}) as answer:
                msgspec.json.decode(await answer.read())
                return answer.status

        return await cost(send, calls)


async def with_httpx(url: str, calls: int) -> float:
    import httpx  # noqa: PLC0415 - only where it is installed

    limits = httpx.Limits(max_connections=UNDER_WAY, max_keepalive_connections=UNDER_WAY)
    async with httpx.AsyncClient(limits=limits) as client:

        async def send(data: bytes) -> int:
            answer = await client.post(f"{url}/charges", content=data, headers={"Content-Type": "application/json"})
            msgspec.json.decode(answer.content)
            return int(answer.status_code)

        return await cost(send, calls)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--calls", type=int, default=4000)
    arguments.add_argument("--runs", type=int, default=3)
    asked = arguments.parse_args()
    if importlib.util.find_spec("httpx") is None:
        say("httpx is not installed: pip install httpx, or there is nothing to compare with")
        sys.exit(2)
    with tempfile.TemporaryDirectory() as folder:
        environment = {"COMANDA_GATEWAY_LATENCY_MS": "0", "PATH": "/usr/bin:/bin"}
        command = [sys.executable, "-m", "comanda", "gateway", "--data-dir", folder]
        gateway = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert gateway.stdout is not None
        url = gateway.stdout.readline().strip()
        try:
            ours, theirs = [], []
            for _ in range(asked.runs):
                ours.append(uvloop.run(with_aiohttp(url, asked.calls)))
                theirs.append(uvloop.run(with_httpx(url, asked.calls)))
        finally:
            programs.end(gateway)
    report("http_client", ours, theirs, 1.0, unit="CPU µs a call", under_way=UNDER_WAY, reference="httpx")


if __name__ == "__main__":
    main()
