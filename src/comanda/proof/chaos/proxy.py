"""TCP proxies that stand before one server each and hurt its traffic on command.

A connection through a proxy is accepted before the server is asked: a server that is down looks like one that resets.
"""

import asyncio
import contextlib
import json
import socket
from collections import Counter, deque
from collections.abc import Callable, Mapping
from http import HTTPStatus

from comanda.proof.chaos import http_wire, postgres_wire
from comanda.proof.chaos.link import Link, Shape, Stream
from comanda.proof.chaos.postgres_wire import Part

_BACKLOG = 4096
_ANSWER_SECONDS = 30.0
_FAILURE = {"code": "INJECTED", "message": "The proxy answers in place of the server"}


class Proxy:
    """One TCP proxy in front of one server. Everything may be changed while traffic flows.

    Args:
        upstream: asked anew for each connection, since a restarted server may have moved: host and port.
        name: for reports.
    """

    def __init__(self, upstream: Callable[[], tuple[str, int]], *, name: str) -> None:
        self.name = name
        self.port = 0
        self.cuts: Counter[str] = Counter()  # what it has done, by the word for it
        self._upstream = upstream
        self._shape = Shape()
        self._links: set[Link] = set()
        self._connecting: dict[Link, asyncio.Task[None]] = {}
        self._server: asyncio.Server | None = None
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._is_refusing = False
        self._is_swallowing = False

    @property
    def connections(self) -> int:
        """Open right now."""
        return len(self._links)

    async def start(self) -> int:
        """Listen on a free port of 127.0.0.1, and say which."""
        listener = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
        self.port = int(listener.getsockname()[1])
        self._server = await asyncio.get_running_loop().create_server(
            lambda: self._link().client, sock=listener, backlog=_BACKLOG
        )
        return self.port

    async def stop(self) -> None:
        """Reset every connection and listen no more. Returns when nothing of it is left."""
        if self._server is None:
            return
        self._server.close()
        self._is_refusing = True
        for _ in range(3):
            await asyncio.sleep(0)  # what the kernel has handed over already is still on its way here
        connecting = list(self._connecting.values())
        for task in connecting:
            task.cancel()
        await asyncio.gather(*connecting, return_exceptions=True)
        self._reset_all()
        await self._is_empty.wait()
        await self._server.wait_closed()
        self._server = None

    def delay(self, seconds: float) -> None:
        """Let each chunk come so much later, both ways, in order. 0: off, and what is late comes at once."""
        self._shape.delay = seconds
        self._reshape()

    def throttle(self, bytes_per_second: int | None) -> None:
        """Let each connection carry so much each way. None: no limit."""
        if bytes_per_second is not None and bytes_per_second < 1:
            raise ValueError("a stream needs one byte a second at least; swallow() stops all of them")
        self._shape.bytes_per_second = bytes_per_second
        self._reshape()

    def cut(self) -> int:
        """Reset every open connection now; how many there were."""
        count = self._reset_all()
        self.cuts["cut"] += count
        return count

    def refuse(self, *, is_refusing: bool) -> None:
        """Cut what is open, and reset new connections at once."""
        self._is_refusing = is_refusing
        if is_refusing:
            self.cut()

    def swallow(self, *, is_swallowing: bool) -> None:
        """Keep sockets open and forward nothing, as a network that loses everything does.

        New connections are accepted into the same silence. At its end, those that lost bytes are reset, for a stream
        with a hole is never continued; the others go on.
        """
        if is_swallowing is self._is_swallowing:
            return
        self._is_swallowing = is_swallowing
        for link in list(self._links):
            if is_swallowing:
                link.silence()
                continue
            self.cuts["swallowed"] += link.is_holed
            link.resume()
            if link.server.transport is None and not link.is_reset and link not in self._connecting:
                self._connect(link)

    def _link(self) -> Link:
        return Link(self._shape, when_opened=self._opened, when_closed=self._closed)

    def _opened(self, link: Link) -> None:
        self._links.add(link)
        self._is_empty.clear()
        if self._is_refusing:
            self.cuts["refused"] += 1
            link.reset()
        elif self._is_swallowing:
            link.silence()
        else:
            self._connect(link)

    def _closed(self, link: Link) -> None:
        self._links.discard(link)
        if not self._links:
            self._is_empty.set()

    def _connect(self, link: Link) -> None:
        task = asyncio.create_task(self._reach(link), name=f"proxy {self.name}")
        self._connecting[link] = task
        task.add_done_callback(lambda _: self._connecting.pop(link))

    async def _reach(self, link: Link) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: link.server, *self._upstream())
        except OSError:
            self.cuts["unreachable"] += 1
            if link.is_silent:
                link.lose()
            else:
                link.reset()
        except asyncio.CancelledError:
            link.closed(link.server)  # uvloop closes a connection that is given up while it is made, and tells nobody
            raise
        finally:
            if link.is_open:  # the server's end too, where the client has gone meanwhile
                self._links.add(link)
                self._is_empty.clear()

    def _reset_all(self) -> int:
        links = list(self._links)
        for link in links:
            link.reset()
        return len(links)

    def _reshape(self) -> None:
        for link in list(self._links):
            link.upward.pump()
            link.downward.pump()


class PostgresProxy(Proxy):
    """Understands as much of PostgreSQL's protocol as it takes to see commits and notifications.

    A commit is a COMMIT of a transaction that has written, or a statement outside a transaction that writes.
    """

    def __init__(self, upstream: Callable[[], tuple[str, int]], *, name: str) -> None:
        super().__init__(upstream, name=name)
        self.is_dropping = False
        self._volleys: deque[_Volley] = deque()

    async def cut_after_commit(self, count: int = 1, *, timeout: float) -> int:  # noqa: ASYNC109 - it answers, it does not raise
        """Let the server do the next `count` commits, and reset each connection before its client learns of it.

        Returns:
            how many there were within `timeout` seconds.
        """
        volley = _Volley(count)
        self._volleys.append(volley)
        try:
            async with asyncio.timeout(timeout):
                await volley.is_spent.wait()
        except TimeoutError:
            pass
        finally:
            if volley in self._volleys:
                self._volleys.remove(volley)
        return count - volley.left

    def drop_notifications(self, *, is_dropping: bool) -> None:
        """Let what NOTIFY sends vanish; all else flows."""
        self.is_dropping = is_dropping

    @property
    def is_armed(self) -> bool:
        """Whether the next commit is cut."""
        return bool(self._volleys)

    def shoot(self) -> bool:
        """Use up a shot; False: there is none."""
        if not self._volleys:
            return False
        volley = self._volleys[0]
        volley.left -= 1
        if volley.left <= 0:
            volley.is_spent.set()
            self._volleys.popleft()
        return True

    def _link(self) -> Link:
        return _PostgresLink(self, self._shape, when_opened=self._opened, when_closed=self._closed)


class _Volley:
    """Shots that one caller waits for."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.is_spent = asyncio.Event()


class _PostgresLink(Link):
    def __init__(
        self,
        proxy: PostgresProxy,
        shape: Shape,
        *,
        when_opened: Callable[[Link], None],
        when_closed: Callable[[Link], None],
    ) -> None:
        super().__init__(shape, when_opened=when_opened, when_closed=when_closed)
        self._proxy = proxy
        self._session = postgres_wire.Session()
        self._held: list[bytes | bytearray] = []  # of an answer that is given only if the server does not commit

    def from_client(self, data: bytes) -> None:
        self._session.client_sent(data)
        self.upward.send(data)

    def from_server(self, data: bytes) -> None:
        passing: list[bytes | bytearray] = []
        for part, piece in self._session.server_sent(data):
            if part is Part.NOTIFICATION and self._proxy.is_dropping:
                self._proxy.cuts["notification_dropped"] += 1
            elif part is Part.COMMITTED and self._proxy.shoot():
                self._proxy.cuts["commit_cut"] += 1
                self.reset()
                return
            elif (part is Part.MAY_COMMIT and self._proxy.is_armed) or (part is Part.NOTIFICATION and self._held):
                self._held.append(piece)
            else:
                passing += [*self._held, piece]
                self._held.clear()
        self._pass(passing)

    def ended(self, stream: Stream) -> None:
        if stream is self.downward:
            self._pass([*self._held, self._session.server_ended()])
            self._held.clear()
        super().ended(stream)

    def _pass(self, pieces: list[bytes | bytearray]) -> None:
        """One write, whatever the number of pieces; a single one is not copied."""
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if data:
            self.downward.send(data)


class HttpProxy(Proxy):
    """Understands HTTP/1.1 of clients that wait for each answer before they send the next request.

    Bodies of requests are counted by content-length; answers pass as they come.
    """

    def __init__(self, upstream: Callable[[], tuple[str, int]], *, name: str) -> None:
        super().__init__(upstream, name=name)
        self.requests = 0  # so many came
        self._failing: frozenset[str] = frozenset()
        self._failure = b""
        self._failed_as = ""
        self._losing: Counter[str] = Counter()
        self._holding: Counter[str] = Counter()
        self._held: list[bytes] = []

    def fail(
        self, *paths: str, status: int = HTTPStatus.INTERNAL_SERVER_ERROR, body: Mapping[str, str] = _FAILURE
    ) -> None:
        """Answer requests with these paths (without a query) here, and keep them from the server.

        Without a path nothing fails; "*" fails all.
        """
        self._failing = frozenset(paths)
        self._failure = http_wire.answer(int(status), json.dumps(dict(body)).encode())
        self._failed_as = f"answered_{int(status)}"

    def lose_answers(self, count: int, path: str = "/charges") -> None:
        """Let the next `count` POSTs reach the server; its answer comes, and the client is reset instead."""
        self._losing[path] = count

    def hold(self, count: int, path: str = "/charges") -> None:
        """Keep the next `count` POSTs back. The client gets nothing, until its own patience ends."""
        self._holding[path] = count

    async def deliver_held(self) -> list[int]:
        """Send what was held to the server now, over connections of its own.

        Returns:
            the status of each answer, in the order in which the requests came; one without an answer is left out.
        """
        held, self._held = self._held, []
        answers = await asyncio.gather(*(self._deliver(raw) for raw in held))
        return [status for status in answers if status is not None]

    async def _deliver(self, raw: bytes) -> int | None:
        writer = None
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                reader, writer = await asyncio.open_connection(*self._upstream())
                writer.write(raw)
                await writer.drain()
                self.cuts["delivered_late"] += 1
                return http_wire.status_of(await reader.readuntil(b"\r\n\r\n"))
        except (OSError, EOFError, ValueError, TimeoutError):
            self.cuts["delivered_unanswered"] += 1
            return None
        finally:
            if writer is not None:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    def fails(self, request: http_wire.Request) -> bytes | None:
        """The answer with which this request fails, if it does."""
        if not request.method or not (request.path in self._failing or "*" in self._failing):
            return None
        self.cuts[self._failed_as] += 1
        return self._failure

    def holds(self, request: http_wire.Request) -> bool:
        """Whether the request was kept back."""
        if request.method != "POST" or self._holding[request.path] <= 0:
            return False
        self._holding[request.path] -= 1
        self._held.append(request.raw)
        self.cuts["held"] += 1
        return True

    def loses(self, request: http_wire.Request) -> bool:
        """Whether the answer to this request is to be lost."""
        if request.method != "POST" or self._losing[request.path] <= 0:
            return False
        self._losing[request.path] -= 1
        return True

    def _link(self) -> Link:
        return _HttpLink(self, self._shape, when_opened=self._opened, when_closed=self._closed)


class _HttpLink(Link):
    def __init__(
        self,
        proxy: HttpProxy,
        shape: Shape,
        *,
        when_opened: Callable[[Link], None],
        when_closed: Callable[[Link], None],
    ) -> None:
        super().__init__(shape, when_opened=when_opened, when_closed=when_closed)
        self._proxy = proxy
        self._requests = http_wire.Requests()
        self._is_answer_lost = False

    def from_client(self, data: bytes) -> None:
        for request in self._requests.cut(data):
            self._proxy.requests += bool(request.method)
            if (failure := self._proxy.fails(request)) is not None:
                self.downward.send(failure)
            elif not self._proxy.holds(request):
                self._is_answer_lost = self._proxy.loses(request)
                self.upward.send(request.raw)

    def from_server(self, data: bytes) -> None:
        if self._is_answer_lost:
            self._proxy.cuts["answer_lost"] += 1
            self.reset()
        else:
            self.downward.send(data)

    def ended(self, stream: Stream) -> None:
        if stream is self.upward and self._requests.rest:
            stream.send(self._requests.rest)
        super().ended(stream)
