"""The server's edge: clients that are slow on purpose, what is no HTTP, and an end that nobody notices."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.types import Receive, Scope, Send

from comanda.api.serve import Server, Times
from comanda.engines.ports import free_port
from shop import until

QUICK = Times(headers=0.3, body=0.3, unread=0.3, linger=0.5)
GET = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n"
LARGE = 32 * 1024 * 1024


async def _application(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body, then answers: `/large` with more than any buffer holds."""
    while (message := await receive()).get("more_body"):
        pass
    if message["type"] == "http.disconnect":
        return
    body = b"x" * LARGE if scope["path"] == "/large" else b"fine"
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def _served(times: Times = QUICK) -> AsyncIterator[tuple[Server, int]]:
    port = free_port()
    server = Server(_application, host="127.0.0.1", port=port, fd=None, times=times)
    serving = asyncio.create_task(server.serve())
    try:
        await until(lambda: asyncio.sleep(0, result=server.started))
        yield server, port
    finally:
        server.should_exit = True
        await serving


async def _rest_of(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def _end_of(port: int, *sent: bytes) -> bytes:
    """Everything that comes until the server closes the connection; b"" when it was reset."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in sent:
            writer.write(part)
            await writer.drain()
        async with asyncio.timeout(10):
            return await _rest_of(reader)
    finally:
        writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param([], id="nothing"),
        pytest.param([b"GET / HTTP/1.1\r\nhost: he"], id="half a header"),
        pytest.param([b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 10\r\n\r\n", b"12345"], id="half a body"),
    ],
)
async def test_who_does_not_come_to_an_end_is_cut_off(sent: list[bytes]) -> None:
    async with _served() as (server, port):
        assert await _end_of(port, *sent) == b""
        assert server.server_state.connections == set()


async def test_who_sends_a_byte_now_and_then_is_cut_off_too() -> None:
    async with _served() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def drip() -> None:
            writer.write(b"GET / HTTP/1.1\r\nx-slow: ")
            while not writer.is_closing():
                writer.write(b"x")
                await asyncio.sleep(0.05)

        dripping = asyncio.create_task(drip())
        async with asyncio.timeout(10):
            assert await _rest_of(reader) == b""
        dripping.cancel()
        writer.close()


async def test_who_does_not_read_the_answer_is_cut_off() -> None:
    async with _served() as (server, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(GET.replace(b"GET /", b"GET /large"))
        await until(lambda: asyncio.sleep(0, result=len(server.server_state.connections) == 1))
        await until(lambda: asyncio.sleep(0, result=not server.server_state.connections))
        writer.close()


async def test_a_connection_may_rest_between_two_requests() -> None:
    """Longer than its headers may take: that clock runs only from a request's first byte."""
    async with _served() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(GET)
            assert (await reader.readuntil(b"fine")).startswith(b"HTTP/1.1 200")
            async with asyncio.timeout(QUICK.headers * 2):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(QUICK.headers * 1.5):
                        await reader.read(1)
        writer.close()


async def test_what_is_no_http_is_a_problem_like_any_other() -> None:
    async with _served() as (_, port):
        head, _, body = (await _end_of(port, b"\x16\x03\x01 hello\r\n\r\n")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 400")
        assert b"content-type: application/problem+json" in head
        assert json.loads(body)["code"] == "MALFORMED_REQUEST"


async def test_an_upgrade_that_is_not_offered_is_ignored_and_not_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    asked = GET.replace(b"\r\n\r\n", b"\r\nconnection: upgrade, close\r\nupgrade: websocket\r\n\r\n")
    async with _served() as (_, port):
        assert (await _end_of(port, asked)).startswith(b"HTTP/1.1 200")
    assert not [line for line in caplog.messages if "WebSocket" in line or "upgrade" in line]


async def test_the_last_answer_on_a_connection_says_so_and_no_request_is_dropped() -> None:
    async with _served(Times(linger=10)) as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(GET)
        assert b"connection: close" not in await reader.readuntil(b"fine")
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: asyncio.sleep(0, result=getattr(server.server_state, "is_draining", False)))
        writer.write(GET)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer
        # Nobody knows yet that it is not ready: who comes now is answered.
        assert (await _end_of(port, GET)).startswith(b"HTTP/1.1 200")
        server.force_exit = True
        writer.close()
