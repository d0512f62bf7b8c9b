"""Run the gateway on a socket."""

import asyncio
import contextlib
import random
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from comanda.gateway.app import DROP, Gateway
from comanda.gateway.store import Store

DRAIN_SECONDS = 5
KEEP_ALIVE_SECONDS = 75  # longer than clients keep theirs, so that they never write into a connection being closed


async def serve(
    *,
    socket: socket.socket,
    data_dir: Path,
    latency_ms: tuple[int, int],
    outcomes: tuple[int, int, int],
    seed: int | None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return. Run it under uvloop, in the main thread.

    Args:
        socket: bound; it is closed at the end.
        data_dir: the folder of the store.
        latency_ms: shortest and longest wait of a charge.
        outcomes: success, retryable failure, permanent decline, in per cent.
        seed: makes what is drawn the same in each run; None draws anew.
    """
    store = await Store.open(data_dir)
    closing = asyncio.Event()
    draw = random.Random(seed)  # noqa: S311 - it plays a card network, it keeps no secret
    config = uvicorn.Config(
        Gateway(store, latency_ms=latency_ms, outcomes=outcomes, draw=draw, closing=closing),
        http=_DroppableProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    try:
        await _Server(config, closing).serve(sockets=[socket])
    finally:
        await store.close()


class _DroppableProtocol(HttpToolsProtocol):
    """Lets the application cut the connection, which ASGI has no word for."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope["extensions"] = {DROP: self.transport.abort}  # type: ignore[dict-item]


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, closing: asyncio.Event) -> None:
        super().__init__(config)
        self._closing = closing

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing.set()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would raise the signal again and die of it, before the store is closed.
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
