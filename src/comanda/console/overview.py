"""The first page: what needs a person now. And how open pages are told what has changed."""

import asyncio
from typing import Any
from uuid import UUID

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from comanda.console import pictures
from comanda.console.ask import HEADERS, Ask, Refusal, uuid_or_none
from comanda.console.pulse import EVERY, Seen
from comanda.console.render import Language, clock_time

_ALIVE_EVERY = 15.0  # seconds without a change, then a comment is sent
_OVER_AFTER = 300.0  # seconds, then the browser comes back and is judged anew
_VIEWS = {"overview": "_overview.html", "queues": "_queues.html", "bulks": "_bulks.html", "bulk": "_bulk.html"}


async def show(ask: Ask) -> Response:
    """What is wrong, how much goes through and how fast, where money and goods are."""
    return ask.page("overview.html", **_values(await ask.desk.pulse.look()))


async def live(ask: Ask) -> Response:
    """A page's middle, each time that it has changed: server-sent events."""
    view, _, about = ask.asked("view").partition(".")
    bulk_id = uuid_or_none(about)
    if view not in _VIEWS or (bulk_id is not None) != (view == "bulk"):
        raise Refusal(404, "There is nothing at this address.")
    if ask.parts.is_draining():
        return Response(b"retry: 1000\n\n", 200, HEADERS, "text/event-stream")
    return _Stream(ask, view, bulk_id)


def _values(seen: Seen) -> dict[str, Any]:
    minutes = seen.minutes
    most = pictures.rounded_up(max((one.placed for one in minutes), default=0))
    slowest = pictures.rounded_up(max((one.seconds[2] for one in minutes if one.seconds), default=0))
    labels = [f"{clock_time(one.at)[11:16]} · {one.placed}" for one in minutes]
    newest = next((one for one in reversed(minutes) if one.seconds), None)
    return {
        "seen": seen,
        "placed": pictures.bars([float(one.placed) for one in minutes], labels, most),
        "most": most,
        "half": pictures.line([one.seconds[0] if one.seconds else None for one in minutes], slowest),
        "most_of_them": pictures.line([one.seconds[1] if one.seconds else None for one in minutes], slowest),
        "nearly_all": pictures.line([one.seconds[2] if one.seconds else None for one in minutes], slowest),
        "slowest": slowest,
        "in_the_hour": sum(one.placed for one in minutes),
        "newest": newest,
        "width": pictures.WIDTH,
        "height": pictures.HEIGHT,
    }


class _Stream(Response):
    """Pieces of a page until the browser goes away or is sent away."""

    media_type = "text/event-stream"

    def __init__(self, ask: Ask, view: str, bulk_id: UUID | None) -> None:
        super().__init__(None, 200, {**HEADERS, "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._ask = ask
        self._view = view
        self._bulk_id = bulk_id
        self._language: Language = ask.language

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["comanda.unhurried"] = True
        gone = asyncio.create_task(_gone(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send(_chunk(b"retry: 1000\n\n"))
            await self._tell(send, gone)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()

    async def _tell(self, send: Send, gone: "asyncio.Task[None]") -> None:
        desk, clock = self._ask.desk, asyncio.get_running_loop().time
        over, spoke, last = clock() + _OVER_AFTER, clock(), ""
        while clock() < over and not gone.done() and not desk.parts.is_draining():
            seen = await desk.pulse.look()
            piece = self._piece(seen)
            if piece and piece != last:
                lines = "".join(f"data: {line}\n" for line in piece.splitlines())
                await send(_chunk(f"event: piece\n{lines}\n".encode()))
                last, spoke = piece, clock()
            elif clock() - spoke > _ALIVE_EVERY:
                await send(_chunk(b": alive\n\n"))
                spoke = clock()
            await asyncio.wait([gone], timeout=EVERY / 2)

    def _piece(self, seen: Seen) -> str:
        """The middle of the page as it is now."""
        ask, one = self._ask, next((one for one in seen.bulks if one.id == self._bulk_id), None)
        values = {"may_act": ask.may_act, "csrf": ask.csrf, **_values(seen)}
        if self._view == "bulks":
            values |= {"rows": seen.bulks, "rates": seen.rates}
        elif self._view == "bulk":
            if one is None:  # it ended long ago, and the page shows that
                return ""
            values |= {"one": one, "rate": seen.rates.get(one.id)}
        return ask.desk.pages.render(self._language, _VIEWS[self._view], values)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _chunk(content: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": content, "more_body": True}
