"""Posts events to the shop's systems: to public addresses, or networks that were allowed; follows no redirect.

A name is looked up once for each connection, and the connection goes to the very addresses that were judged.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

import comanda
from comanda import tracing
from comanda.errors import DependencyFault
from comanda.failpoints import Boundary
from comanda.networks import Network, without_address
from comanda.webhooks.model import signature, wrong_address, wrong_url

POST = Boundary("webhook.post")

LookUp = Callable[..., Sequence[tuple[Any, ...]]]
"""What `socket.getaddrinfo` takes and answers; it is called in a thread."""

_LOOKUPS = 4  # names that are looked up at once
_QUESTIONS = 1000
_NOT_AGAIN_FOR = 5.0  # seconds
_MOST_ANSWER = 1000  # bytes of an answer that are kept


class Request(msgspec.Struct, frozen=True):
    """What is to be posted: `secrets` sign it."""

    url: str
    message_id: str
    body: str
    secrets: tuple[bytes, ...]
    endpoint_id: UUID


class Answered(msgspec.Struct, frozen=True):
    """What was answered, and which headers were sent."""

    status: int
    text: str
    headers: dict[str, str]
    duration_ms: float

    @property
    def is_taken(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_farewell(self) -> bool:
        """It wants nothing any more."""
        return self.status == HTTPStatus.GONE


class NotSent(DependencyFault):
    """Nobody answered, or nothing may be sent there."""

    def __init__(self, why: str, headers: dict[str, str], duration_ms: float) -> None:
        super().__init__(why)
        self.headers = headers
        self.duration_ms = duration_ms


class _Judged(AbstractResolver):
    """Only addresses that may be connected to."""

    def __init__(self, allowed: Sequence[Network], look_up: LookUp) -> None:
        self._allowed = allowed
        self._getaddrinfo = look_up
        # Threads of its own: a name server that does not answer must not keep the others (the gateway's) waiting.
        self._threads = ThreadPoolExecutor(_LOOKUPS, thread_name_prefix="webhook-names")
        self._asked: dict[str, asyncio.Future[Any]] = {}
        self._failed: dict[str, float] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._look_up(host, port, family)
        results = []
        for kind, _, proto, _, (address, *_) in found:
            why = wrong_address(ip_address(str(address).partition("%")[0]), self._allowed)
            if why is not None:
                raise OSError(None, why)  # one that is not public among others: somebody tries something
            results.append(
                ResolveResult(
                    hostname=host, host=str(address), port=port, family=kind, proto=proto, flags=socket.AI_NUMERICHOST
                )
            )
        return results

    async def _look_up(self, host: str, port: int, family: socket.AddressFamily) -> Any:
        """One question for a name at a time; one that failed is not asked again for some seconds."""
        if self._failed.get(host, 0.0) > time.monotonic():
            raise OSError(None, f"{host} could not be looked up a moment ago")
        asked = self._asked.get(host)
        if asked is None:
            if len(self._asked) >= _QUESTIONS:
                raise OSError(None, "too many names are being looked up")
            question = partial(self._getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM)
            asked = asyncio.get_running_loop().run_in_executor(self._threads, question)
            self._asked[host] = asked
            asked.add_done_callback(partial(self._answered, host))
        return [
            (kind, type_, proto, name, (address[0], port, *address[2:]))
            for kind, type_, proto, name, address in await asyncio.shield(asked)
        ]

    def _answered(self, host: str, asked: "asyncio.Future[Any]") -> None:
        self._asked.pop(host, None)
        if asked.cancelled() or asked.exception() is not None:
            if len(self._failed) >= _QUESTIONS:
                self._failed.clear()
            self._failed[host] = time.monotonic() + _NOT_AGAIN_FOR

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class Sender:
    """Sends requests; enter it before it is used.

    Args:
        timeout: seconds that a receiver may take.
        allowed: networks that are not public and may be sent to all the same.
        look_up: answers with the addresses of a name.
    """

    def __init__(self, *, timeout: float, allowed: Sequence[Network], look_up: LookUp = socket.getaddrinfo) -> None:
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=min(5, timeout))
        self._allowed = allowed
        self._look_up = look_up
        self._client: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(resolver=_Judged(self._allowed, self._look_up), use_dns_cache=False, limit=0)
        self._client = aiohttp.ClientSession(
            connector=connector, timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client is not None:
            await self._client.close()

    async def post(self, request: Request) -> Answered:
        """Post it, signed with the time of now.

        Raises:
            NotSent: nobody answered in time, or the address may not be sent to.
        """
        if self._client is None:
            raise RuntimeError("enter the sender before it is used: `async with Sender(...)`")
        began, timestamp, body = time.monotonic(), int(time.time()), request.body.encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"Comanda/{comanda.__version__}",
            "webhook-id": request.message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature(request.secrets, request.message_id, timestamp, body),
        }
        # As the client reads it: what it takes for an address is not looked up.
        why = wrong_url(str(URL(request.url)), self._allowed)
        if why is not None:
            raise NotSent(f"{urlsplit(request.url).hostname} {why}", headers, 0)
        try:
            about = {"http__request__method": "POST", "server__address": urlsplit(request.url).hostname or ""}
            with POST, tracing.outside("POST webhook", **about) as call:
                headers |= call.headers
                asked = self._client.post(request.url, data=body, headers=headers, allow_redirects=False)
                async with asked as response:
                    call.answered(response.status)
                    text = (await response.content.read(_MOST_ANSWER)).decode(errors="replace").replace("\x00", "")
                    return Answered(response.status, text, headers, (time.monotonic() - began) * 1000)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as fault:
            said = without_address(fault, request.url)
            raise NotSent(said, headers, (time.monotonic() - began) * 1000) from fault
