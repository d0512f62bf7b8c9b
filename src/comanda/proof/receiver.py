"""One of the shop's systems, for whoever looks at webhooks: it hears them, verifies them, and answers."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec
from aiohttp import web

from comanda.errors import ConfigurationFault
from comanda.proof.load import prepare
from comanda.proof.load.client import Api, unexpected
from comanda.proof.load.prepare import Person
from comanda.webhooks.model import is_signed, unshown

LOOPBACK = "127.0.0.1"
TAKEN, NOT_FORWARDED = 204, 502

_PATH = "/webhooks"
_CLOSING = 0.1  # seconds that requests under way may take at the end
_FORWARD_SECONDS = 10.0
_OF_THE_CONNECTION = frozenset({"connection", "content-length", "host", "keep-alive", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Heard:
    """One delivery. `at`: seconds since 1970; `order`: empty where it is about none."""

    at: float
    id: str
    type: str
    order: str
    is_signed: bool
    headers: Mapping[str, str]
    body: bytes


Answer = Callable[[Heard], Awaitable[int]]


class Receiver:
    """Listens on the loopback; enter it. Until it is told its secret it answers nobody.

    Args:
        answer: told what was heard; the status to answer with.
        port: 0 takes a free one.
    """

    def __init__(self, answer: Answer, *, port: int = 0) -> None:
        self._answer = answer
        self._port = port
        self._secret: bytes | None = None
        self._is_told = asyncio.Event()
        self._runner: web.ServerRunner | None = None

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return url_of(self._port)

    def learn(self, secret: str) -> None:
        """The secret of its endpoint, as it was shown."""
        self._secret = unshown(secret)
        self._is_told.set()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen; after a `stop` on the same port.

        Raises:
            ConfigurationFault: somebody else does.
        """
        if self._runner is not None:
            return
        runner = web.ServerRunner(web.Server(self._hear), shutdown_timeout=_CLOSING)
        await runner.setup()
        try:
            await web.TCPSite(runner, LOOPBACK, self._port).start()
        except OSError as refused:
            await runner.cleanup()
            raise ConfigurationFault(f"Nothing can listen on port {self._port}: {refused.strerror}") from None
        self._port = int(runner.addresses[0][1])
        self._runner = runner

    async def stop(self) -> None:
        """Listen no more: connections are refused, those that are open are closed."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _hear(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        await self._is_told.wait()
        headers = {name.lower(): value for name, value in request.headers.items()}
        return web.Response(status=await self._answer(self._heard(headers, body)))

    def _heard(self, headers: Mapping[str, str], body: bytes) -> Heard:
        now = time.time()
        is_ours = self._secret is not None and is_signed(self._secret, headers, body, now)
        told = _decoded(body)
        return Heard(
            now, headers.get("webhook-id", ""), str(told.get("type", "")), _order_of(told), is_ours, headers, body
        )


def url_of(port: int) -> str:
    """Of a receiver there, or of what passes its requests on."""
    return f"http://{LOOPBACK}:{port}/"


@asynccontextmanager
async def forwarding(url: str) -> AsyncIterator[Answer]:
    """Answers as that URL does: each request is sent there as it came."""
    timeout = aiohttp.ClientTimeout(total=_FORWARD_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False) as client:

        async def forward(heard: Heard) -> int:
            headers = {name: value for name, value in heard.headers.items() if name not in _OF_THE_CONNECTION}
            try:
                asked = client.post(url, data=heard.body, headers=headers, allow_redirects=False)
                async with asked as response:
                    return response.status
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
                return NOT_FORWARDED

        yield forward


async def taken(_heard: Heard) -> int:
    """Answers that it has it."""
    return TAKEN


@asynccontextmanager
async def signed_in(url: str, admin: Person) -> AsyncIterator[Api]:
    """A client of that instance, and the admin with a token."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        api = Api(session, url, Counter())
        await prepare.sign_in_admin(api, admin)
        yield api


async def register(
    api: Api, admin: Person, receiver: Receiver, *, description: str, types: Sequence[str] = (), url: str = ""
) -> str:
    """Make an endpoint of it, and tell it its secret; the endpoint's id. `url`: where it is reached, if not directly.

    Raises:
        ConfigurationFault: the instance sends nothing there.
        DependencyFault: it does not answer.
    """
    body = {"url": url or receiver.url, "description": description, "eventTypes": list(types)}
    # Once: a repeat would make a second one.
    reply = await api.ask("POST", _PATH, body, token=admin.token, patience=0)
    if reply.status == 422:
        wrong = "; ".join(error["message"] for error in reply.body.get("errors", ()))
        raise ConfigurationFault(f"The instance refuses {receiver.url}: {wrong or reply.body.get('detail')}")
    if reply.status != 201:
        raise unexpected("POST", _PATH, reply)
    receiver.learn(reply.body["secret"])
    return str(reply.body["id"])


async def remove(api: Api, admin: Person, endpoint_id: str) -> None:
    """Take the endpoint away, however long it was there.

    Raises:
        DependencyFault: the instance does not answer.
    """
    await prepare.sign_in_admin(api, admin)
    path = f"{_PATH}/{endpoint_id}"
    reply = await api.ask("DELETE", path, token=admin.token, patience=10)
    if reply.status not in {204, 404}:
        raise unexpected("DELETE", path, reply)


def _decoded(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}


def _order_of(told: Mapping[str, Any]) -> str:
    if told.get("aggregateType") == "order":
        return str(told.get("aggregateId", ""))
    data = told.get("data")
    return str(data.get("orderId") or "") if isinstance(data, dict) else ""
