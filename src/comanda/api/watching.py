"""An order as it goes on: server-sent events, and a status that waits for news."""

import asyncio
import contextlib
from typing import Annotated
from uuid import UUID

from fastapi import Header, Query, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from comanda import telemetry
from comanda.accounts.accounts import STAFF, Account
from comanda.api.conditional import SEEN, Asked, header_of, is_known, tagged
from comanda.api.document import answers
from comanda.api.feed import Feed, Told, Watch
from comanda.api.order_answers import OrderStatusAnswer, status_answer
from comanda.api.parts import Given, Parts
from comanda.api.problems import Problem
from comanda.api.security import SignedIn, router
from comanda.api.visible import visible
from comanda.errors import DatabaseFault
from comanda.orders.reads import Status
from comanda.saga.transitions import ENDED

_ALIVE_EVERY = 15.0  # seconds without an event, then a comment is sent: proxies close what is silent
_JUDGED_ANEW_AFTER = 300.0  # seconds
_LONGEST_WAIT = 30
_MOST_OF_CUSTOMER = 50
_log = telemetry.log("watching")

routes = router("/orders", "orders")


class _Stream(Response):
    """Events until the client goes away or is sent away. A library's stream takes three tasks, this one two."""

    media_type = "text/event-stream"

    def __init__(self, feed: Feed, order_id: UUID, who: Account, last: UUID | None) -> None:
        super().__init__(None, 200, {"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._feed = feed
        self._order_id = order_id
        self._who = who
        self._last = last

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("comanda.is_head"):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": b""})
            return
        scope["comanda.unhurried"] = scope["comanda.is_stream"] = True
        clock = asyncio.get_running_loop().time
        over = clock() + _JUDGED_ANEW_AFTER
        with self._feed.watch(self._order_id, self._who.id, self._who.role) as watch:
            gone = asyncio.ensure_future(_gone(receive, watch))
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await send(_chunk(b"retry: 1000\n\n"))
                await self._begin(watch)
                while clock() < over and (news := await _next(watch)) is not None:
                    await send(_chunk(news))
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            finally:
                gone.cancel()

    async def _begin(self, watch: Watch) -> None:
        """Where that can't be, as PostgreSQL is away, the stream ends as any does, and the client comes again."""
        try:
            await self._feed.begin(watch, self._last)
        except DatabaseFault as fault:
            _log.warning("a stream ends before anything is told", order_id=str(self._order_id), error=str(fault))
            watch.end()


@routes.get(
    "/{order_id}/events",
    response_class=Response,
    responses={
        200: {
            "description": "Server-sent events: `id`, `event` (its type) and `data` (the event in JSON)",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        **answers("ORDER_NOT_FOUND", "OVERLOADED"),
    },
)
async def events(
    account: SignedIn,
    order_id: UUID,
    parts: Given,
    last_event_id: Annotated[
        UUID | None, Header(alias="Last-Event-ID", description="Of the last event that you have: go on after it")
    ] = None,
) -> Response:
    """What happens to an order, as it happens, from its beginning or from where you were cut off.

    A stream ends after some minutes: come back with `Last-Event-ID`, as browsers do, and be judged anew.
    """
    await visible(parts, account, order_id)
    if parts.is_draining():
        # Not refused, sent on: a browser comes back after an answer like this, and never after a 503.
        return Response(b"retry: 1000\n\n", media_type="text/event-stream")
    if not parts.feed.has_room(account.id, _most(account)):
        raise Problem("OVERLOADED")
    return _Stream(parts.feed, order_id, account, last_event_id)


@routes.get("/{order_id}/status", response_model=OrderStatusAnswer, responses=SEEN | answers("ORDER_NOT_FOUND"))
async def status(
    account: SignedIn,
    order_id: UUID,
    parts: Given,
    request: Asked,
    wait: Annotated[
        float, Query(ge=0, le=_LONGEST_WAIT, description="Seconds to wait for news: for its end, or for another ETag")
    ] = 0,
) -> Response:
    """Where an order stands. With `wait` the answer comes when it has ended, or when `If-None-Match` is out of date."""
    found = await visible(parts, account, order_id)
    known = header_of(request, "if-none-match")
    if wait and not _is_news(found, known) and parts.feed.has_room(account.id, _most(account)):
        request.scope["comanda.unhurried"] = request.scope["comanda.is_stream"] = True
        found = await _news(parts, account, request, found, known, wait)
    content = status_answer(found).model_dump_json(by_alias=True).encode()
    return tagged(request, _tag(found), content)


async def _news(
    parts: Parts, account: Account, request: Request, found: Status, known: str | None, wait: float
) -> Status:
    """The status once it is news, once time is over, or once nobody waits for it any more."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + wait
    with parts.feed.watch(found.id, account.id, account.role) as watch:
        gone = asyncio.ensure_future(_gone(request.receive, watch))
        try:
            await parts.feed.begin(watch, None, is_new_only=True)
            while True:
                found = await visible(parts, account, found.id)
                if _is_news(found, known) or (left := deadline - clock()) <= 0:
                    return found
                with contextlib.suppress(TimeoutError):
                    if await watch.next(left) is None:
                        return found
        finally:
            gone.cancel()


def _is_news(found: Status, known: str | None) -> bool:
    return found.saga_state in ENDED if known is None else not is_known(known, _tag(found))


def _tag(found: Status) -> str:
    # `updated_at` is when a transaction began: one that began earlier may have ended later.
    return f'"{found.updated_at.timestamp():.6f}-{found.state}-{found.saga_state}-{found.reached}"'


def _most(account: Account) -> int | None:
    """Streams that an account may have; staff watch for many."""
    return None if account.role in STAFF else _MOST_OF_CUSTOMER


async def _gone(receive: Receive, watch: Watch) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    watch.end()


async def _next(watch: Watch) -> bytes | None:
    try:
        event: Told | None = await watch.next(_ALIVE_EVERY)
    except TimeoutError:
        return b": alive\n\n"
    if event is None:
        return None
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (str(event.id).encode(), event.type.encode(), event.envelope)


def _chunk(content: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": content, "more_body": True}
