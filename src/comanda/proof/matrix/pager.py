"""The operator's webhook: keeps what it is sent."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Pager:
    """`heard`: every body, in the order in which they came."""

    url: str = ""
    heard: list[dict[str, Any]] = field(default_factory=list)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(head.partition("content-length:")[2].partition("\r\n")[0] or 0)
            self.heard.append(json.loads(await reader.readexactly(length)))
            writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            await writer.drain()
        except (OSError, EOFError, ValueError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening() -> AsyncIterator[Pager]:
    """On a free port of this machine."""
    pager = Pager()
    server = await asyncio.start_server(pager._answer, "127.0.0.1", 0)  # noqa: SLF001
    pager.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/page"
    try:
        yield pager
    finally:
        server.close()
