"""A name that answers one thing when it is judged and another when it is connected to gains nothing."""

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from ipaddress import ip_network
from typing import Any
from uuid import uuid4

import pytest

from comanda.webhooks.sender import NotSent, Request, Sender

PUBLIC, OTHER_PUBLIC = "93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"
# Stands for a public address, so that no test sends anything out: it alone is allowed, and somebody listens there.
ALLOWED, LOOPBACK = "127.0.0.2", "127.0.0.1"
NAME = "receiver.example"


class Names:
    """A name server that gives each answer once, and the last one for ever. `asked`: what it was asked for."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    def look_up(self, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        self.asked.append(host)
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        families = [socket.AF_INET6 if ":" in one else socket.AF_INET for one in found]
        return [(kind, socket.SOCK_STREAM, 6, "", (one, port)) for kind, one in zip(families, found, strict=True)]


@asynccontextmanager
async def listening() -> AsyncIterator[tuple[int, Counter[str]]]:
    """A port at which somebody listens at both addresses, and who was connected to how often."""
    heard = Counter[str]()

    async def hear(at: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard[at] += 1
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    async with AsyncExitStack() as stack:
        port = 0
        for one in (ALLOWED, LOOPBACK):
            server = await stack.enter_async_context(await asyncio.start_server(partial(hear, one), one, port))
            port = server.sockets[0].getsockname()[1]
        yield port, heard


def sender(names: Names) -> Sender:
    return Sender(timeout=5, allowed=[ip_network(ALLOWED)], look_up=names.look_up)


def to(port: int) -> Request:
    return Request(f"http://{NAME}:{port}/", "message", "{}", (b"s" * 32,), uuid4())


async def test_a_name_that_turns_to_loopback_after_it_was_judged_is_looked_up_once() -> None:
    names = Names([ALLOWED], [LOOPBACK])
    async with listening() as (port, heard), sender(names) as one:
        assert (await one.post(to(port))).status == 204
        assert names.asked == [NAME], "who connects asks nobody again"
        assert heard == {ALLOWED: 1}
        with pytest.raises(NotSent, match="is not public"):
            await one.post(to(port))
        assert names.asked == [NAME, NAME], "the next connection is judged anew"
        assert heard == {ALLOWED: 1}


@pytest.mark.parametrize(
    "mixed",
    [
        [PUBLIC, LOOPBACK], [LOOPBACK, PUBLIC], [ALLOWED, LOOPBACK], [OTHER_PUBLIC, "::1"],
        [PUBLIC, "169.254.169.254"], [PUBLIC, OTHER_PUBLIC, "10.0.0.1"],
    ],
)  # fmt: skip
async def test_a_name_of_public_and_private_addresses_is_refused_altogether(mixed: list[str]) -> None:
    names = Names(mixed)
    async with listening() as (port, heard), sender(names) as one:
        with pytest.raises(NotSent, match="is not public"):
            await one.post(to(port))
        assert (names.asked, heard) == ([NAME], {})
