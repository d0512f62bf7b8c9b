"""The gateway's HTTP side: bare ASGI, because what the outside costs is taken from the same processors."""

import asyncio
import logging
import random
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeVar
from urllib.parse import parse_qs

import msgspec

from comanda.gateway import outcomes
from comanda.gateway.model import (
    Answer,
    Busy,
    Captured,
    CapturedUnheard,
    ChargeRequest,
    Charging,
    Declined,
    Finding,
    FindingRefund,
    Found,
    KeyVoided,
    Refunded,
    RefundRequest,
    Refusal,
    Replaying,
    Voided,
    VoidRequest,
)
from comanda.gateway.store import Store

MAX_BODY = 64 * 1024
MAX_LINES = 10_000
USUAL_LINES = 1_000
DROP = "comanda.drop"  # the ASGI extension that cuts the connection without an answer: see serve.py

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Body = TypeVar("Body")

_STATUS_OF_ANSWER: dict[type[Answer], int] = {
    Captured: 200,
    Voided: 200,
    Refunded: 200,
    Found: 200,
    Declined: 402,
    KeyVoided: 409,
    Busy: 503,
}
_STATUS_OF_REFUSAL = {
    "MALFORMED_BODY": 400,
    "UNKNOWN_CHARGE": 404,
    "UNKNOWN_KEY": 404,
    "UNKNOWN_ROUTE": 404,
    "METHOD_NOT_ALLOWED": 405,
    "BODY_TOO_LARGE": 413,
    "INVALID_BODY": 422,
    "INVALID_QUERY": 422,
    "KEY_REUSED": 422,
    "REFUND_EXCEEDS_CAPTURE": 422,
    "STORE_FAILED": 500,
}
_METHODS = {
    "/charges": ("GET", "POST"),
    "/void": ("POST",),
    "/refunds": ("GET", "POST"),
    "/ledger": ("GET",),
    "/health": ("GET",),
}
_NUMBER = re.compile(r"[0-9]{1,18}")

_charge_bodies = msgspec.json.Decoder(ChargeRequest)
_void_bodies = msgspec.json.Decoder(VoidRequest)
_refund_bodies = msgspec.json.Decoder(RefundRequest)
_encode = msgspec.json.Encoder().encode
logger = logging.getLogger(__name__)


class ClientGone(Exception):
    pass


class Gateway:
    """The ASGI application.

    Args:
        latency_ms: shortest and longest wait of a charge.
        outcomes: success, retryable failure, permanent decline, in per cent.
        draw: where chance comes from.
        closing: once set, charges that still wait are answered busy, uncharged.
    """

    def __init__(
        self,
        store: Store,
        *,
        latency_ms: tuple[int, int],
        outcomes: tuple[int, int, int],
        draw: random.Random,
        closing: asyncio.Event,
    ) -> None:
        self._store = store
        self._latency_ms = latency_ms
        self._outcomes = outcomes
        self._draw = draw
        self._closing = closing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (scope["method"], scope["path"]) == ("GET", "/ledger"):
            await self._ledger(scope, send)
            return
        try:
            answer = await self._answer(scope, receive)
        except ClientGone:
            return
        except Exception:
            # Whether it was stored is not known here; the caller's key makes a repeat harmless.
            logger.exception("%s %s failed", scope["method"], scope["path"])
            answer = Refusal("STORE_FAILED", "the store failed; ask again with the same key")
        if isinstance(answer, CapturedUnheard):
            await _drop(scope, receive)
        else:
            await _respond(send, answer, allow=_METHODS.get(scope["path"], ()))

    async def _answer(self, scope: Scope, receive: Receive) -> Answer | bytes:
        answer: Answer | None
        match scope["method"], scope["path"]:
            case "POST", "/charges":
                body = await _read(receive, _charge_bodies)
                return body if isinstance(body, Refusal) else await self._charge(body)
            case "POST", "/void":
                voiding = await _read(receive, _void_bodies)
                answer = voiding if isinstance(voiding, Refusal) else await self._store.submit(voiding)
            case "POST", "/refunds":
                refund = await _read(receive, _refund_bodies)
                answer = refund if isinstance(refund, Refusal) else await self._store.submit(refund)
            case "GET", "/charges":
                query = _query(scope, "key")
                answer = (
                    query if isinstance(query, Refusal) else await self._store.submit(Finding(query.get("key", "")))
                )
            case "GET", "/refunds":
                query = _query(scope, "key")
                answer = (
                    query
                    if isinstance(query, Refusal)
                    else await self._store.submit(FindingRefund(query.get("key", "")))
                )
            case "GET", "/health":
                return b'{"status":"ok"}'
            case _, path if path in _METHODS:
                return Refusal("METHOD_NOT_ALLOWED", f"only {', '.join(_METHODS[path])}")
            case _:
                return Refusal("UNKNOWN_ROUTE", "no such route")
        assert answer is not None
        return answer

    async def _charge(self, request: ChargeRequest) -> Answer:
        plan = outcomes.plan(
            request.payment_method, latency_ms=self._latency_ms, outcomes=self._outcomes, draw=self._draw
        )
        if plan.wait_ms:
            settled = await self._store.submit(Replaying(request))
            if settled is not None:
                return settled
            if await self._closes_within(plan.wait_ms / 1000):
                return Busy("SHUTTING_DOWN")
        # A void may have come meanwhile: the key is looked at again in the transaction that would capture.
        answer = await self._store.submit(Charging(request, plan))
        assert answer is not None
        return answer

    async def _closes_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._closing.wait()
        except TimeoutError:
            return False

    async def _ledger(self, scope: Scope, send: Send) -> None:
        query = _query(scope, "after", "limit")
        window = query if isinstance(query, Refusal) else _window(query)
        if isinstance(window, Refusal):
            await _respond(send, window)
            return
        after, limit = window
        # Page by page, so that a ledger of any length passes through little memory.
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        opening = b"["
        async for page in self._store.lines(after=after, limit=limit):
            await send({"type": "http.response.body", "body": opening + _encode(page)[1:-1], "more_body": True})
            opening = b","
        await send({"type": "http.response.body", "body": b"[]" if opening == b"[" else b"]"})


def _window(query: dict[str, str]) -> tuple[int, int | None] | Refusal:
    """After which line, and how many; the whole ledger where nothing is asked."""
    if not all(_NUMBER.fullmatch(value) for value in query.values()):
        return Refusal("INVALID_QUERY", "after and limit are whole numbers")
    if not query:
        return 0, None
    limit = int(query.get("limit", USUAL_LINES))
    if not 1 <= limit <= MAX_LINES:
        return Refusal("INVALID_QUERY", f"limit is at least 1 and at most {MAX_LINES}")
    return int(query.get("after", 0)), limit


def _query(scope: Scope, *names: str) -> dict[str, str] | Refusal:
    raw: bytes = scope["query_string"]
    fields = parse_qs(raw.decode("latin-1"), keep_blank_values=True)
    if not fields.keys() <= set(names) or any(len(values) > 1 for values in fields.values()):
        return Refusal("INVALID_QUERY", f"only {', '.join(names)}, each once")
    return {name: values[0] for name, values in fields.items()}


async def _read(receive: Receive, decoder: msgspec.json.Decoder[Body]) -> Body | Refusal:
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return Refusal("BODY_TOO_LARGE", f"at most {MAX_BODY} bytes")
        more = message.get("more_body", False)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as refused:
        return Refusal("INVALID_BODY", str(refused))
    except (ValueError, RecursionError) as refused:  # no JSON, no UTF-8, or nested without end
        return Refusal("MALFORMED_BODY", str(refused))


async def _respond(send: Send, answer: Answer | bytes, *, allow: tuple[str, ...] = ()) -> None:
    if isinstance(answer, bytes):
        status, body = 200, answer
    elif isinstance(answer, Refusal):
        status, body = _STATUS_OF_REFUSAL[answer.code], _encode(answer)
    else:
        status, body = _STATUS_OF_ANSWER[type(answer)], _encode(answer)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if status == 405:
        headers.append((b"allow", ", ".join(allow).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _drop(scope: Scope, receive: Receive) -> None:
    scope["extensions"][DROP]()
    # Returning before the server has noticed would make it answer 500.
    while (await receive())["type"] != "http.disconnect":
        pass
