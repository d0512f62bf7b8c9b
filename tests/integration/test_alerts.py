"""The operator's webhook: taken is what was answered with 2xx, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_network
from uuid import uuid4

import pytest

from comanda.errors import DependencyFault
from comanda.notifications.alerts import Webhook
from comanda.webhooks.sender import NotSent, Request, Sender


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that keeps what it is asked, and says only this; nothing: it says nothing at all."""
    asked: list[bytes] = []
    hung: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        asked.append(head + await reader.readexactly(length))
        if not answer:
            hung.append(writer)
            return
        writer.write(answer + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook", asked
    finally:
        for writer in hung:
            writer.close()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("status", ["200 OK", "204 No Content"])
async def test_what_is_answered_with_2xx_is_taken(status: str) -> None:
    async with answering(f"HTTP/1.1 {status}".encode()) as (url, asked), Webhook(url, timeout=5) as webhook:
        await webhook.post(b'{"type": "saga.stuck"}', "key-1")
    assert len(asked) == 1
    assert b"webhook-id: key-1" in asked[0]
    assert asked[0].endswith(b'{"type": "saga.stuck"}')


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nlocation: /elsewhere",
        b"HTTP/1.1 400 Bad Request",
        b"HTTP/1.1 500 Oh",
        b"",
    ],
)
async def test_anything_else_is_tried_again_and_no_redirect_is_followed(answer: bytes) -> None:
    async with answering(answer) as (url, asked), Webhook(url, timeout=0.3) as webhook:
        with pytest.raises(DependencyFault, match="the alert webhook") as told:
            await webhook.post(b"{}", "key-1")
    assert len(asked) == 1
    assert not str(told.value).endswith(": "), "it says why"


async def test_nobody_there_is_said() -> None:
    async with Webhook("http://127.0.0.1:1/hook", timeout=1) as webhook:
        with pytest.raises(DependencyFault, match=r"does not answer: .+"):
            await webhook.post(b"{}", "key-1")


async def test_what_is_no_http_is_told_without_the_path_which_may_be_a_secret() -> None:
    """Viewers read it, at the queue and at the job; addresses are for admins alone."""
    async with answering(b"no such protocol") as (url, asked):
        secret = f"{url}/T0PSECRET?key=s3cr3t"
        async with Webhook(secret, timeout=5) as webhook, Sender(timeout=5, allowed=[ip_network("127.0.0.0/8")]) as one:
            with pytest.raises(DependencyFault, match=r"does not answer: .+http://127\.0\.0\.1:\d+") as alert:
                await webhook.post(b"{}", "key-1")
            with pytest.raises(NotSent, match=r"http://127\.0\.0\.1:\d+") as event:
                await one.post(Request(secret, "message", "{}", (b"s" * 32,), uuid4()))
    assert len(asked) == 2
    assert all(b"T0PSECRET" in one for one in asked)
    assert "SECRET" not in f"{alert.value} {event.value}"
    assert "s3cr3t" not in f"{alert.value} {event.value}"
