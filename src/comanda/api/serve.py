"""The HTTP server: uvicorn, with an end that fails no request, and with time-outs for clients that are slow on purpose.

At the end a connection is closed with the answer to its next request (`Connection: close`), not under a request that
is on its way. A client that sends its headers or its body a byte at a time, or never reads its answer, is cut off.
"""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from comanda.api.problems import problem_response

KEEP_ALIVE_SECONDS = 75  # longer than clients keep theirs, so that they never write into a connection being closed
DRAIN_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Times:
    """How long a client may take, in seconds.

    Args:
        headers: from the connection, or from a request's first byte, to the end of its headers.
        body: from there to the end of its body.
        unread: that an answer may wait for its reader.
        linger: at the end, that a connection may wait for its next request.
    """

    headers: float = 10.0
    body: float = 30.0
    unread: float = 30.0
    linger: float = 3.0


class Server(uvicorn.Server):
    """Serves an application until SIGTERM or SIGINT, then answers what comes in on open connections, and ends.

    Args:
        app: the application.
        host, port: where to listen;
        fd: or a listening socket that is shared with other processes: it is let go of at once, for them to accept.
        times: the clients' patience.
    """

    def __init__(self, app: ASGIApp, *, host: str, port: int, fd: int | None, times: Times = Times()) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                fd=fd,
                http=_Protocol,
                loop="uvloop",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                ws="none",
                backlog=4096,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=DRAIN_SECONDS,
            )
        )
        self._times = times
        self.server_state = _State(times)

    @property
    def is_draining(self) -> bool:
        return self.should_exit

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain. With a socket of its own it accepts on until whoever sends requests has seen that it is not ready."""
        assert isinstance(self.server_state, _State)
        self.server_state.is_draining = True
        if self.config.fd is not None:
            for server in self.servers:
                server.close()
        for connection in self.server_state.connections:
            if isinstance(connection, _Protocol):
                connection.close_after_answer()
        deadline = asyncio.get_running_loop().time() + self._times.linger
        # uvicorn's connections have no event to wait for.
        while self._has_work() and asyncio.get_running_loop().time() < deadline and not self.force_exit:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)

    def _has_work(self) -> bool:
        return self.config.fd is None or bool(self.server_state.connections)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would raise the signal again and die of it, before the pool is closed.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)


class _State(ServerState):
    def __init__(self, times: Times) -> None:
        super().__init__()
        self.times = times
        self.is_draining = False


class _Protocol(HttpToolsProtocol):
    """One connection."""

    # Seconds for what has begun to come; a timer is set for it only where it did not come whole.
    _within: float | None = None
    _deadline: asyncio.TimerHandle | None = None
    _reader_deadline: asyncio.TimerHandle | None = None

    @property
    def _state(self) -> _State:
        assert isinstance(self.server_state, _State)
        return self.server_state

    def close_after_answer(self) -> None:
        """The answer that is under way is the last one here."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_within(self._state.times.headers)

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget_deadlines()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._within is not None:
            self._expect_within(self._within)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._within = self._state.times.headers

    def on_headers_complete(self) -> None:
        self._within = self._state.times.body
        super().on_headers_complete()
        if self._state.is_draining:
            self.close_after_answer()

    def on_message_complete(self) -> None:
        self._forget_deadline()
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._reader_deadline = self.loop.call_later(self._state.times.unread, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._reader_deadline is not None:
            self._reader_deadline.cancel()
            self._reader_deadline = None

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - in words of our own
        """What is no HTTP is answered in the same form as everything else."""
        self._forget_deadlines()
        status, headers, body = problem_response(
            "MALFORMED_REQUEST", "This is no HTTP.", instance="", correlation_id=None
        )
        lines = [b"HTTP/1.1 %d Bad Request" % status, *(b"%s: %s" % header for header in headers)]
        self.transport.write(b"\r\n".join([*lines, b"connection: close", b"", b""]) + body)
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """An upgrade that is not offered is ignored, as HTTP says; it is nothing to warn of."""

    def _expect_within(self, seconds: float) -> None:
        self._forget_deadline()
        self._deadline = self.loop.call_later(seconds, self._cut_off)

    def _cut_off(self) -> None:
        logging.getLogger("http").debug("a client was too slow and is cut off")
        self.transport.abort()

    def _forget_deadline(self) -> None:
        self._within = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _forget_deadlines(self) -> None:
        self._forget_deadline()
        if self._reader_deadline is not None:
            self._reader_deadline.cancel()
            self._reader_deadline = None
