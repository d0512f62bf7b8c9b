"""The first page: what needs a person now. And how open pages are told what has changed."""

import asyncio

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from comanda.console.ask import HEADERS, Ask, Refusal
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
    view = ask.asked("view")
    if view not in VIEWS:
        raise Refusal(404, "There is nothing at this address.")
    if ask.parts.is_draining():
        return Response(b"retry: 1000\n\n", 200, HEADERS, "text/event-stream")
    return _Stream(ask, view)


class _Stream(Response):
    """Pieces of a page until the browser goes away or is sent away."""

    media_type = "text/event-stream"

    def __init__(self, ask: Ask, view: str) -> None:
        super().__init__(None, 200, {**HEADERS, "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._desk = ask.desk
        self._view = view
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
        desk, clock = self._desk, asyncio.get_running_loop().time
        over, spoke, last = clock() + _OVER_AFTER, clock(), b""
        while clock() < over and not gone.done() and not desk.parts.is_draining():
            piece = desk.pieces.of(await desk.pulse.look(), self._language, self._view)
            if piece != last:
                await send(_chunk(piece))
                last, spoke = piece, clock()
            elif clock() - spoke > _ALIVE_EVERY:
                await send(_chunk(b": alive\n\n"))
                spoke = clock()
            await asyncio.wait([gone], timeout=max(desk.pulse.due_in, _SHORTEST_NAP))


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _chunk(content: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": content, "more_body": True}
