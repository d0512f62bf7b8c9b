"""A client of the running API, and the API to run."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import uvicorn
from pydantic import SecretStr
from starlette.types import ASGIApp

from comanda.accounts import accounts, passwords
from comanda.accounts.accounts import Account, Registration, Role
from comanda.accounts.tokens import Bearer
from comanda.api import app
from comanda.api.admission import Admission
from comanda.api.feed import Feed
from comanda.api.lists import Lists
from comanda.api.place_order import PlaceOrderRoute
from comanda.api.rate_limits import RateLimits
from comanda.assembly import assemble
from comanda.console import app as console
from comanda.db import Database
from comanda.settings import Settings

KEY = "0123456789abcdef-fedcba9876543210"
PASSWORD = "correct horse"
SLOW_MACHINE = 20.0  # seconds that a request may take where its patience is not the subject
BEARER = Bearer(KEY)


@dataclass(frozen=True)
class Reply:
    status: int
    body: Any
    headers: Any


@dataclass(frozen=True)
class Person:
    id: UUID
    token: str
    email: str


class Client:
    """Each call answers with status, body and headers; and asserts that an error is a problem with all its members."""

    def __init__(self, session: aiohttp.ClientSession, url: str, database: Database, lists: Lists) -> None:
        self._session = session
        self.url = url
        self.database = database
        self.lists = lists

    async def ask(self, method: str, path: str, *, token: str | None = None, **options: Any) -> Reply:
        headers = dict(options.pop("headers", {}))
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        async with self._session.request(method, self.url + path, headers=headers, **options) as response:
            is_json = response.content_type.endswith("json")
            reply = Reply(response.status, await (response.json() if is_json else response.text()), response.headers)
        assert reply.headers["X-Correlation-Id"]
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        if reply.status >= 400:
            assert response.content_type == "application/problem+json", reply
            assert reply.body["status"] == reply.status
            assert reply.body["correlationId"] == reply.headers["X-Correlation-Id"]
            assert {"type", "title", "detail", "code", "instance"} <= reply.body.keys()
        return reply

    def open(self, path: str, *, token: str) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """An answer that is read as it comes."""
        return self._session.get(self.url + path, headers={"Authorization": f"Bearer {token}"})

    async def get(self, path: str, *, token: str | None = None, **options: Any) -> Reply:
        return await self.ask("GET", path, token=token, **options)

    async def post(self, path: str, body: Any, *, token: str | None = None, **options: Any) -> Reply:
        return await self.ask("POST", path, token=token, json=body, **options)

    async def person(self, role: Role = "customer") -> Person:
        email = f"{role}-{uuid4().hex}@example.com"
        wanted = Registration(email, await passwords.hashed(PASSWORD), "Ana", "Ruiz", role=role)
        async with self.database.transaction() as tx:
            (made,) = await accounts.register(tx, [wanted])
        assert isinstance(made, Account)
        return Person(made.id, token_of(made.id, role), email)

    async def product(self, admin: Person, **fields: Any) -> dict[str, Any]:
        body = {"name": "Coffee", "sku": uuid4().hex, "price": 1250, **fields}
        reply = await self.post("/api/v1/products", body, token=admin.token)
        assert reply.status == 201, reply
        found: dict[str, Any] = reply.body
        return found


def token_of(account_id: UUID, role: str, seconds: int = 900) -> str:
    return BEARER.issue(account_id, role, timedelta(seconds=seconds))


@asynccontextmanager
async def served(application: ASGIApp) -> AsyncIterator[str]:
    """Run it under uvicorn in this loop; where it listens."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(application, lifespan="off", ws="none", log_config=None, http="httptools", proxy_headers=False)
    )
    running = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running
        listener.close()


@asynccontextmanager
async def running_api(
    database_url: str,
    redis_url: str,
    *,
    is_draining: Callable[[], bool] = lambda: False,
    is_limited: bool = False,
    **settings: Any,
) -> AsyncIterator[Client]:
    """The API on these engines, with a client of it. Nothing works on its orders. `is_limited`: by `RATE_…`."""
    chosen = Settings(
        database_url=database_url, redis_url=redis_url, secret_key=SecretStr(KEY),
        **{"gateway": "instant", "request_seconds": SLOW_MACHINE, **settings},
    )  # fmt: skip
    async with assemble(chosen, name="api", patience=chosen.request_seconds) as assembly:
        admission = Admission(assembly.database, most=chosen.max_backlog)
        route = PlaceOrderRoute(
            assembly.place_order,
            BEARER,
            admission,
            needs_verified=chosen.require_verified_email == "on",
        )
        feed, stop = Feed(assembly.database, assembly.streams, is_draining=is_draining), asyncio.Event()
        lists = Lists(assembly.database, assembly.replica, assembly.streams)
        rate_limits = RateLimits.of(chosen, BEARER, assembly.streams) if is_limited else None
        application = app.build(
            assembly,
            place_order=route,
            feed=feed,
            lists=lists,
            bearer=BEARER,
            rate_limits=rate_limits,
            is_draining=is_draining,
            console=None if chosen.console == "off" else console.build,
        )
        loops = [asyncio.create_task(one.run(stop)) for one in (feed, lists, rate_limits) if one is not None]
        async with served(application) as url, aiohttp.ClientSession() as session:
            yield Client(session, url, assembly.database, lists)
            stop.set()
            await asyncio.gather(*loops)
        await assembly.place_order.drain()
