"""The API as a client that does not give up meets it."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from comanda.errors import DependencyFault

PREFIX = "/api/v1"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
_AGAIN = frozenset({429, 500, 502, 503, 504})
_IN_USE = "IDEMPOTENCY_KEY_IN_USE"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; `took` are the seconds of the request that got it. Status 0: there was none."""

    status: int
    body: Any
    took: float
    retry_after: float | None = None

    @property
    def code(self) -> str:
        """The problem's code."""
        code = self.body.get("code") if isinstance(self.body, dict) else None
        return str(code or ("NO_ANSWER" if self.status == 0 else self.status))


class Api:
    """One instance. Every request is one that may be repeated: a read, or a write that carries its own key.

    Args:
        session: of the HTTP client.
        url: without a path.
        retried: counts what was tried again, by why.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, retried: Counter[str]) -> None:
        self._session = session
        self._url = url.rstrip("/")
        self._retried = retried

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str = "",
        key: str = "",
        patience: float = 60.0,
        on_wait: Callable[[float], None] | None = None,
    ) -> Reply:
        """Send it until it is answered for good, for `patience` seconds; then the last answer there was.

        Args:
            method: of HTTP.
            path: under the prefix.
            body: JSON.
            token: of who asks.
            key: idempotency key.
            patience: seconds.
            on_wait: told when the server names a wait of some length.
        """
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if key:
            headers["Idempotency-Key"] = key
        data = None if body is None else msgspec.json.encode(body)
        give_up, pause = time.monotonic() + patience, _FIRST_PAUSE
        while True:
            reply = await self._once(method, path, data, headers)
            if reply.status not in _AGAIN and reply.status != 0 and reply.code != _IN_USE:
                return reply
            wait = max(pause, reply.retry_after or 0.0)
            if time.monotonic() + wait > give_up:
                return reply
            self._retried[str(reply.status) if reply.status else "no answer"] += 1
            if on_wait is not None and wait > _LONGEST_PAUSE:
                on_wait(wait)
            await asyncio.sleep(wait)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def expect(self, status: int, method: str, path: str, body: Any = None, **how: Any) -> Any:
        """The body of an answer that has to be there.

        Raises:
            DependencyFault: there was another answer, or none.
        """
        reply = await self.ask(method, path, body, **how)
        if reply.status != status:
            raise unexpected(method, path, reply)
        return reply.body

    async def _once(self, method: str, path: str, data: bytes | None, headers: Mapping[str, str]) -> Reply:
        began = time.perf_counter()
        try:
            async with self._session.request(method, self._url + PREFIX + path, data=data, headers=headers) as response:
                raw = await response.read()
                took = time.perf_counter() - began
                named = response.headers.get("Retry-After", "")
                return Reply(response.status, _decoded(raw), took, float(named) if named.isdigit() else None)
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            return Reply(0, {"detail": str(fault) or type(fault).__name__}, time.perf_counter() - began)


def unexpected(method: str, path: str, reply: Reply) -> DependencyFault:
    """A fault that says what was asked and what came back."""
    detail = reply.body.get("detail", "") if isinstance(reply.body, dict) else ""
    return DependencyFault(f"{method} {PREFIX}{path} was answered {reply.status or 'by nobody'}: {reply.code} {detail}")


def _decoded(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw) if raw else None
    except msgspec.DecodeError:
        return None
