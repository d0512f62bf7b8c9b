"""`POST /api/v1/orders`, as a thin ASGI route of its own: msgspec in, ready bytes out."""

import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Annotated, Any
from uuid import UUID

import msgspec

from comanda.accounts.tokens import Bearer
from comanda.api import language, strict_json
from comanda.api.admission import Admission
from comanda.api.problems import Problem, problem_response
from comanda.checkout.place_order import Accepted, PlaceOrder, Rejected, Wish
from comanda.clock import new_id
from comanda.errors import DependencyFault
from comanda.field_errors import FieldError, field_error, of_msgspec
from comanda.idempotency.model import is_key
from comanda.sentences import Sentence

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_MOST_BYTES = 1_048_576
_MOST_WAITING = 5_000  # requests of this process that wait for a commit
_MOST_UNITS = 1_000_000
_MOST_ADDRESS = 4096
_DEEPEST = 8


class Item(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    product_id: UUID
    quantity: Annotated[int, msgspec.Meta(ge=1, le=_MOST_UNITS)]


class Body(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    items: Annotated[list[Item], msgspec.Meta(min_length=1, max_length=1000)]
    payment_method: Annotated[str, msgspec.Meta(min_length=1, max_length=100)] | None = None
    shipping_address: dict[Annotated[str, msgspec.Meta(max_length=50)], Any] | None = None
    notes: Annotated[str, msgspec.Meta(max_length=2000)] | None = None
    idempotency_key: Annotated[str, msgspec.Meta(max_length=255)] | None = None


_decoder = msgspec.json.Decoder(Body)
_KEY = b"idempotency-key"
_BYTE = re.compile(r"\(byte (\d+)\)")
_JSON = (b"content-type", b"application/json")


class _Refusal(Exception):
    def __init__(self, code: str, detail: str, **more: Any) -> None:
        self.code, self.detail, self.more = code, detail, more


class PlaceOrderRoute:
    """The ASGI application of the one route.

    Args:
        placing: what accepts orders.
        bearer: reads tokens.
        admission: whether the workers keep up; while they don't, and while too many requests wait for a commit, the
            answer is a 503 at once.
        needs_verified: customers have to have verified their e-mail, as their tokens say.
    """

    def __init__(
        self,
        placing: PlaceOrder,
        bearer: Bearer,
        admission: Admission,
        *,
        needs_verified: bool = False,
    ) -> None:
        self._placing = placing
        self._bearer = bearer
        self._admission = admission
        self._needs_verified = needs_verified

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        correlation_id = scope.get("comanda.correlation_id") or str(new_id())
        try:
            self._let_in()
            verdict = await self._place(await self._wish(scope, receive, correlation_id))
        except _Refusal as refusal:
            status, headers, body = problem_response(
                refusal.code,
                refusal.detail,
                correlation_id=correlation_id,
                instance="/api/v1/orders",
                language=language.asked_for(scope["headers"]),
                **refusal.more,
            )
        except DependencyFault:
            status, headers, body = problem_response(
                "UNAVAILABLE",
                "The order could not be stored right now: send it again with the same Idempotency-Key.",
                correlation_id=correlation_id,
                instance="/api/v1/orders",
                language=language.asked_for(scope["headers"]),
            )
        else:
            status, headers, body = 202, _accepted_headers(verdict), verdict.answer
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _let_in(self) -> None:
        """Before anything is read: refusing must cost next to nothing."""
        if not self._admission.is_open or self._placing.backlog >= _MOST_WAITING:
            raise _Refusal("OVERLOADED", "Too many orders at once: try again in a second.")

    async def _place(self, wish: Wish) -> Accepted:
        verdict = await self._placing.place(wish)
        if isinstance(verdict, Rejected):
            raise _Refusal(verdict.code, verdict.detail)
        return verdict

    async def _wish(self, scope: Scope, receive: Receive, correlation_id: str) -> Wish:
        headers = dict(scope["headers"])
        if len(headers) != len(scope["headers"]) and sum(name == _KEY for name, _ in scope["headers"]) > 1:
            raise _Refusal("MALFORMED_REQUEST", "Send one Idempotency-Key: which of two is meant, nobody can tell.")
        claims = self._bearer.claims(headers.get(b"authorization"))
        if claims is None:
            raise _Refusal("UNAUTHENTICATED", "Sign in first: send `Authorization: Bearer <accessToken>`.")
        if self._needs_verified and not claims.is_verified and claims.role == "customer":
            raise _Refusal("EMAIL_UNVERIFIED", "Verify your e-mail, then refresh your access token.")
        raw = await _read(receive, headers)
        kind = headers.get(b"content-type", b"application/json").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            raise _Refusal("UNSUPPORTED_MEDIA_TYPE", "Send the order as application/json.")
        body = _parse(raw)
        key = _key(headers.get(_KEY), body.idempotency_key)
        quantities: dict[UUID, int] = {}
        for item in body.items:
            quantities[item.product_id] = quantities.get(item.product_id, 0) + item.quantity
        if max(quantities.values()) > _MOST_UNITS:
            raise _invalid(
                FieldError("items", Sentence("At most {most} units of a product", most=_MOST_UNITS), "TOO_LARGE")
            )
        body.idempotency_key = None
        address = None
        if body.shipping_address is not None:
            address = msgspec.json.encode(body.shipping_address).decode()
            if len(address) > _MOST_ADDRESS:
                raise _invalid(field_error("shippingAddress", "string_too_long", max_length=_MOST_ADDRESS))
        return Wish(
            claims.account_id,
            quantities,
            key,
            msgspec.json.encode(body),
            correlation_id,
            body.payment_method,
            address,
            body.notes,
            scope.get("comanda.traceparent"),
        )


def _accepted_headers(verdict: Accepted) -> list[tuple[bytes, bytes]]:
    headers = [
        _JSON,
        (b"content-length", str(len(verdict.answer)).encode()),
        (b"location", f"/api/v1/orders/{verdict.order_id}".encode()),
    ]
    if verdict.is_replay:
        headers.append((b"idempotent-replayed", b"true"))
    return headers


async def _read(receive: Receive, headers: Mapping[bytes, bytes]) -> bytes:
    """The whole body, up to 1 MiB."""
    declared = headers.get(b"content-length", b"0")
    if declared.isdigit() and int(declared) > _MOST_BYTES:
        raise _Refusal("BODY_TOO_LARGE", "A body may have 1 MiB.")
    chunks = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _Refusal("MALFORMED_BODY", "The body ended early.")
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > _MOST_BYTES:
            raise _Refusal("BODY_TOO_LARGE", "A body may have 1 MiB.")
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)


def _parse(raw: bytes) -> Body:
    try:
        body = _decoder.decode(raw)
    except msgspec.ValidationError as refused:
        raise _invalid(of_msgspec(str(refused))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as refused:
        raise _Refusal("MALFORMED_BODY", _unreadable(str(refused))) from None
    if _is_deeper(body.shipping_address, _DEEPEST):
        raise _invalid(field_error("shippingAddress", "too_deep", most=_DEEPEST))
    if not _names_once(raw, body):
        try:
            strict_json.read(raw)
        except Problem as problem:
            raise _Refusal(problem.code, problem.told or "", errors=problem.errors) from None
    if b"\\u0000" in raw and _has_nul(msgspec.to_builtins(body)):
        raise _invalid(field_error("body", "nul"))
    return body


def _names_once(raw: bytes, body: Body) -> bool:
    """Whether each field surely stands once: names are counted in the text. Where that is unclear, it is read again."""
    lines = len(body.items)
    return (
        b"\\u" not in raw  # a name may be spelt with it
        and raw.count(b'"productId"') == lines
        and raw.count(b'"quantity"') == lines
        and raw.count(b'"items"') == 1
        and raw.count(b'"paymentMethod"') <= 1
        and raw.count(b'"idempotencyKey"') <= 1
        and body.shipping_address is None
        and body.notes is None
    )


def _key(header: bytes | None, in_body: str | None) -> str | None:
    key = header.decode("latin-1") if header is not None else in_body
    if key is None:
        return None
    if not is_key(key):
        raise _invalid(field_error("Idempotency-Key", "key"))
    if in_body is not None and in_body != key:
        raise _invalid(FieldError("idempotencyKey", "This differs from the header Idempotency-Key"))
    return key


def _invalid(error: FieldError) -> _Refusal:
    detail = Sentence("{field}: {message}", field=error.field, message=error.message)
    return _Refusal("VALIDATION_FAILED", detail, errors=[error])


def _unreadable(why: str) -> str:
    """Where msgspec says that it is."""
    byte = _BYTE.search(why)
    if byte is None:
        return "The body is not readable as JSON."
    return Sentence("The body is not readable as JSON: look at byte {byte}.", byte=byte[1])


def _has_nul(value: Any) -> bool:
    match value:
        case str():
            return "\x00" in value
        case dict():
            return any(_has_nul(key) or _has_nul(inner) for key, inner in value.items())
        case list():
            return any(_has_nul(inner) for inner in value)
        case _:
            return False


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested deeper than so many levels. Looks no further than that."""
    match value:
        case dict():
            return levels == 0 or any(_is_deeper(inner, levels - 1) for inner in value.values())
        case list():
            return levels == 0 or any(_is_deeper(inner, levels - 1) for inner in value)
        case _:
            return False
