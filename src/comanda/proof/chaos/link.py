"""A connection through a proxy: a socket at each end, and a stream for each way between them."""

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import cast

_HIGH = 1 << 20  # bytes that wait in one stream before its source is read no further
_SLICES = 20  # a throttled stream sends so many pieces each second
_NO_LINGER = struct.pack("ii", 1, 0)


class Shape:
    """How slow the streams of a proxy are: seconds that each chunk is late, bytes a second for each stream."""

    delay: float = 0.0
    bytes_per_second: int | None = None


class Stream:
    """One way through a link. Chunks wait here for their time, for their share, or for a target to appear."""

    def __init__(self, shape: Shape, when_done: Callable[[], None]) -> None:
        self._shape = shape
        self._when_done = when_done
        self._loop = asyncio.get_running_loop()
        self._source: asyncio.Transport | None = None
        self._target: asyncio.Transport | None = None
        self._waiting: deque[tuple[float, memoryview]] = deque()
        self._size = 0
        self._free_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._is_target_full = False
        self._is_paused = False
        self._has_ended = False
        self.is_done = False

    def starts_at(self, source: asyncio.Transport) -> None:
        self._source = source

    def leads_to(self, target: asyncio.Transport) -> None:
        """Whatever came before is sent now."""
        self._target = target
        self.pump()

    def send(self, data: bytes | bytearray) -> None:
        shape = self._shape
        if self._target is not None and not self._waiting and not shape.delay and shape.bytes_per_second is None:
            self._write(data)
            return
        self._waiting.append((self._loop.time(), memoryview(data)))
        self._size += len(data)
        self.pump()

    def end(self) -> None:
        """The source has said its last byte. The target hears of it after all that waits."""
        self._has_ended = True
        self.pump()

    def drop(self) -> bool:
        """Forget what waits; whether there was any."""
        had_some = bool(self._waiting)
        self._waiting.clear()
        self._size = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._balance()
        return had_some

    def fill(self, *, is_full: bool) -> None:
        """The target can't take more for now, or can again."""
        self._is_target_full = is_full
        self._balance()

    def pump(self) -> None:
        """Send what is due. To be called too when the shape has changed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting and self._target is not None:
            came_at, chunk = self._waiting[0]
            rate = self._shape.bytes_per_second
            at = came_at + self._shape.delay
            if rate is not None:
                at = max(at, self._free_at)
            now = self._loop.time()
            if at > now:
                self._timer = self._loop.call_at(at, self.pump)
                break
            if rate is None or len(chunk) <= max(1, rate // _SLICES):
                piece = chunk
                self._waiting.popleft()
            else:
                piece = chunk[: max(1, rate // _SLICES)]
                self._waiting[0] = (came_at, chunk[len(piece) :])
            self._size -= len(piece)
            self._free_at = now + len(piece) / rate if rate is not None else 0.0
            self._write(piece)
        self._balance()
        if self._has_ended and not self._waiting and self._target is not None and not self.is_done:
            self.is_done = True
            if not self._target.is_closing():
                self._target.write_eof()
            self._when_done()

    def _write(self, data: bytes | bytearray | memoryview) -> None:
        if self._target is not None and not self._target.is_closing():
            self._target.write(data)

    def _balance(self) -> None:
        should_pause = self._is_target_full or self._size > _HIGH
        source = self._source
        if should_pause is self._is_paused or source is None or source.is_closing() or self._has_ended:
            return
        self._is_paused = should_pause
        if should_pause:
            source.pause_reading()
        else:
            source.resume_reading()


class End(asyncio.Protocol):
    """One socket of a link. `take` gets what comes out of it, `inward` is where that goes, `outward` leads here."""

    def __init__(self, link: "Link", take: Callable[[bytes], None], inward: Stream, outward: Stream) -> None:
        self._link = link
        self._take = take
        self._inward = inward
        self._outward = outward
        self.transport: asyncio.Transport | None = None
        self._is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._inward.starts_at(self.transport)
        self._outward.leads_to(self.transport)
        self._link.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._link.is_silent:
            self._link.lose()
        else:
            self._take(data)

    def eof_received(self) -> bool:
        if self._link.is_silent:
            self._link.lose()
        else:
            self._link.ended(self._inward)
        return True  # the other way stays open until it has ended too

    def pause_writing(self) -> None:
        self._outward.fill(is_full=True)

    def resume_writing(self) -> None:
        self._outward.fill(is_full=False)

    def connection_lost(self, fault: Exception | None) -> None:  # noqa: ARG002 - the protocol's
        self._is_lost = True
        self._link.closed(self)

    def reset(self) -> None:
        """Let the peer get a reset, not an orderly end."""
        transport = self.transport
        if transport is None or self._is_lost:
            return
        its_socket = transport.get_extra_info("socket")
        if its_socket is not None:  # uvloop has none any more between the end and the news of it
            with contextlib.suppress(OSError):
                its_socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        transport.abort()


class Link:
    """A client's connection and its counterpart to the server. Here everything passes as it comes.

    Args:
        shape: of both streams.
        when_opened: told when the client is there.
        when_closed: told when nothing of the link is left.
    """

    def __init__(
        self, shape: Shape, *, when_opened: Callable[["Link"], None], when_closed: Callable[["Link"], None]
    ) -> None:
        self.upward = Stream(shape, self._done)
        self.downward = Stream(shape, self._done)
        self.client = End(self, self.from_client, self.upward, self.downward)
        self.server = End(self, self.from_server, self.downward, self.upward)
        self.is_silent = False
        self.is_holed = False  # bytes are missing from it
        self.is_reset = False
        self._open: set[End] = set()
        self._when_opened = when_opened
        self._when_closed = when_closed

    @property
    def is_open(self) -> bool:
        """Whether there is a socket at either end."""
        return bool(self._open)

    def from_client(self, data: bytes) -> None:
        """What the client sends, in the order in which it came."""
        self.upward.send(data)

    def from_server(self, data: bytes) -> None:
        """What the server sends, in the order in which it came."""
        self.downward.send(data)

    def ended(self, stream: Stream) -> None:
        """The source of the stream sends no more."""
        stream.end()

    def silence(self) -> None:
        """Forward nothing from now on."""
        self.is_silent = True
        losses = [stream.drop() for stream in (self.upward, self.downward)]
        if any(losses):
            self.lose()

    def lose(self) -> None:
        """Something is missing now: the link can't be continued."""
        self.is_holed = True

    def resume(self) -> None:
        """End a silence. A stream with a hole is never continued."""
        self.is_silent = False
        if self.is_holed:
            self.reset()

    def reset(self) -> None:
        """End it at once, at both ends."""
        if self.is_reset:
            return
        self.is_reset = True
        self.upward.drop()
        self.downward.drop()
        self.client.reset()
        self.server.reset()

    def opened(self, end: End) -> None:
        self._open.add(end)
        if end is self.client:
            self._when_opened(self)
        elif self.is_reset or self.client not in self._open:
            end.reset()

    def closed(self, end: End) -> None:
        self._open.discard(end)
        if self.is_silent and not self.is_reset:
            self.lose()
        elif not (self.upward.is_done and self.downward.is_done):
            self.reset()
        if not self._open:
            self._when_closed(self)

    def _done(self) -> None:
        if self.upward.is_done and self.downward.is_done:
            for end in (self.client, self.server):
                if end.transport is not None:
                    end.transport.close()
