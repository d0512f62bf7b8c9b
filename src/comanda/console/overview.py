"""The first page: what needs a person now. And how open pages are told what has changed."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from comanda.console import attendance
from comanda.console.ask import HEADERS, Ask, Refusal, uuid_or_none
from comanda.console.pieces import VIEWS, values
from comanda.console.render import Language

_SHORTEST_NAP = 0.02  # seconds
_ALIVE_EVERY = 15.0  # seconds without a change, then a comment is sent
_OVER_AFTER = 300.0  # seconds, then the browser comes back and is judged anew


async def show(ask: Ask) -> Response:
    """What is wrong, how much goes through and how fast, where money and goods are."""
    return ask.page("overview.html", **values(await ask.desk.pulse.look()))


async def live(ask: Ask) -> Response:
    """A page's middle, each time that it has changed: server-sent events."""
    view, _, about = ask.asked("view").partition(".")
    bulk_id = uuid_or_none(about)
    if view not in VIEWS or (bulk_id is not None) != (view == "bulk"):
        raise Refusal(404, "There is nothing at this address.")
    if ask.parts.is_draining():
        return Response(b"retry: 1000\n\n", 200, HEADERS, "text/event-stream")
    return _Stream(ask, view, bulk_id)


class _Stream(Response):
    """Pieces of a page until the browser goes away or is sent away."""

    media_type = "text/event-stream"

    def __init__(self, ask: Ask, view: str, bulk_id: UUID | None) -> None:
        super().__init__(None, 200, {**HEADERS, "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._desk = ask.desk
        self._token = ask.token
        self._roles: Sequence[str] = ask.request.scope["route"].roles
        self._view = view
        self._bulk_id = bulk_id
        self._language: Language = ask.language

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["comanda.unhurried"] = scope["comanda.is_stream"] = True
        if scope.get("comanda.is_head"):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        away = asyncio.create_task(gone(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send(chunk(b"retry: 1000\n\n"))
            with self._desk.attendance.of(self._token):
                await self._tell(send, away)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            away.cancel()

    async def _tell(self, send: Send, away: "asyncio.Task[None]") -> None:
        desk, clock = self._desk, asyncio.get_running_loop().time
        over, spoke, last = clock() + _OVER_AFTER, clock(), b""
        while clock() < over and not away.done() and not desk.parts.is_draining():
            seen, may_stay = await asyncio.gather(desk.pulse.look(), desk.attendance.may_stay(self._token, self._roles))
            if not may_stay:
                return
            piece = desk.pieces.of(seen, self._language, self._view, self._bulk_id)
            if piece and piece != last:
                await send(chunk(piece))
                last, spoke = piece, clock()
            elif clock() - spoke > _ALIVE_EVERY:
                await send(chunk(b": alive\n\n"))
                spoke = clock()
            nap = min(max(desk.pulse.due_in, _SHORTEST_NAP), attendance.EVERY)
            await asyncio.wait([away], timeout=nap)


async def gone(receive: Receive) -> None:
    """Until the browser has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass


def chunk(content: bytes) -> dict[str, object]:
    """A piece of an answer that goes on."""
    return {"type": "http.response.body", "body": content, "more_body": True}
