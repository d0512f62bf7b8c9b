"""What holds for every request, around the routes: limits, headers, a metric, a log line, an answer to any fault."""

import logging
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uuid_utils import uuid7

from comanda import telemetry, tracing
from comanda.api import deprecation, imports, language, problems
from comanda.api.problems import Problem
from comanda.api.rate_limits import RateLimits, Ruling, seen_through
from comanda.errors import DependencyFault
from comanda.networks import Network

MOST_BODY = 1024 * 1024
MOST_HEADERS = 32 * 1024
HOT = "/api/v1/orders"
IMPORTS = imports.routes.prefix
CONSOLE = "/admin"
_SAFE = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_.:"
_LONGEST_ID = 128
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_NOT_KEPT = (b"cache-control", b"no-store")  # unless a route says otherwise
_GUARDS = [
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
]


def is_console(scope: Scope) -> bool:
    """Whether the operators' pages are asked for."""
    path: str = scope.get("path", "")
    return path == CONSOLE or path.startswith(f"{CONSOLE}/")


class Edge:
    """What holds for every request: correlation id, limits, headers, metric, log line, and an answer to any fault."""

    def __init__(
        self,
        routes: ASGIApp,
        place_order: ASGIApp,
        rate_limits: RateLimits | None = None,
        proxies: Sequence[Network] = (),
        *,
        most_of_import: int = MOST_BODY,
        has_console: bool = False,
    ) -> None:
        self._routes = routes
        self._place_order = place_order
        self._rate_limits = rate_limits
        self._proxies = proxies
        self._most_of_import = most_of_import
        self._has_console = has_console
        self._log = telemetry.log("http")
        self._logger = logging.getLogger("http")
        self._observe_hot = telemetry.REQUESTS.labels(HOT, "POST").observe
        self._counters: dict[tuple[str, str, int], Callable[[], None]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._routes(scope, receive, send)
            return
        began = perf_counter()
        if scope["method"] == "HEAD":
            scope = {**scope, "method": "GET", "comanda.is_head": True}  # the server leaves the body out
        if self._proxies:
            scope = seen_through(scope, self._proxies)
        most = self._most_of_import if scope["path"] == IMPORTS else MOST_BODY
        correlation_id, refusal, is_measured, authorization = _look_at(scope["headers"], most)
        if not is_measured:
            receive = _limited(receive, most)
        ruling = self._rate_limits.rule(scope, authorization) if self._rate_limits is not None else None
        refusal = self._ruled(ruling, scope, refusal)
        answer = _Answer(scope, send, correlation_id, ruling)
        traced = tracing.request(scope["method"], scope["headers"])
        if scope["path"] == HOT and scope["method"] == "POST":
            scope["comanda.correlation_id"] = correlation_id
            if traced is not None:
                scope["comanda.traceparent"] = traced.traceparent
            await self._serve(self._place_order, scope, receive, answer, refusal)  # it has a clock of its own
            took = perf_counter() - began
            self._observe_hot(took)
            self._count(HOT, "POST", answer.status)
            if traced is not None:
                traced.end("POST", HOT, answer.status, correlation_id)
            if self._logger.isEnabledFor(logging.DEBUG):
                with tracing.within(traced.traceparent if traced else None):
                    self._tell(self._log.debug, scope, HOT, answer.status, took, correlationId=correlation_id)
            return
        with telemetry.correlated(correlation_id), tracing.within(traced.traceparent if traced else None):
            await self._serve(self._routes, scope, receive, answer, refusal)
            took = perf_counter() - began
            template = getattr(scope.get("route"), "path", None) or "unmatched"
            method = scope["method"] if scope["method"] in _METHODS else "OTHER"
            if not scope.get("comanda.is_stream"):  # who stays for news is not kept waiting
                telemetry.REQUESTS.labels(template, method).observe(took)
            self._meet(scope)
            self._count(template, method, answer.status)
            if traced is not None:
                traced.end(method, template, answer.status, correlation_id)
            self._tell(self._log.info, scope, template, answer.status, took)

    async def _serve(
        self, app: ASGIApp, scope: Scope, receive: Receive, answer: "_Answer", refusal: str | None
    ) -> None:
        try:
            if refusal is None:
                await app(scope, receive, answer)
                return
            code = refusal
        except Problem as problem:
            code = problem.code
        except DependencyFault as fault:
            self._log.warning("A dependency does not answer", error=str(fault), kind=type(fault).__name__)
            code = "UNAVAILABLE"
        except Exception:  # noqa: BLE001 - nothing may get past here unanswered
            self._log.exception("A request failed", method=scope["method"], correlationId=answer.correlation_id)
            code = "INTERNAL"
        if answer.status == 0:
            await answer.refuse(code, scope)

    def _ruled(self, ruling: Ruling | None, scope: Scope, refusal: str | None) -> str | None:
        """Why a request is refused, if it is; who asks too often of the console is told so there, on a page."""
        if ruling is None or ruling.is_in:
            return refusal
        if self._has_console and is_console(scope):
            scope["comanda.is_limited"] = True
            return refusal
        return "TOO_MANY_REQUESTS"

    def _meet(self, scope: Scope) -> None:
        if self._rate_limits is not None and "comanda.session" in scope:
            self._rate_limits.meet(*scope["comanda.session"])

    def _count(self, template: str, method: str, status: int) -> None:
        # Their labels are looked up once: this is on the way of every order.
        count = self._counters.get((template, method, status))
        if count is None:
            count = telemetry.RESPONSES.labels(template, method, str(status)).inc
            self._counters[template, method, status] = count
        count()

    @staticmethod
    def _tell(say: Callable[..., Any], scope: Scope, path: str, status: int, took: float, **more: str) -> None:
        if "comanda.user" in scope:
            more["userId"] = scope["comanda.user"]
        say("Request", method=scope["method"], path=path, status=status, durationMs=round(took * 1000, 2), **more)


class _Answer:
    """`send`, with the headers of every answer; `status` is 0 until one has begun."""

    __slots__ = ("_ruling", "_scope", "_send", "correlation_id", "status")

    def __init__(self, scope: Scope, send: Send, correlation_id: str, ruling: Ruling | None) -> None:
        self._scope = scope
        self._send = send
        self._ruling = ruling
        self.correlation_id = correlation_id
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), (b"x-correlation-id", self.correlation_id.encode("ascii"))]
            if self._ruling is not None:
                headers += self._ruling.headers
            headers += deprecation.told(self._scope)
            said = {name for name, _ in headers}
            headers += [guard for guard in (*_GUARDS, _NOT_KEPT) if guard[0] not in said]
            message["headers"] = headers
        await self._send(message)

    async def refuse(self, code: str, scope: Scope) -> None:
        """Answer a request with a problem."""
        status, headers, body = problems.problem_response(
            code,
            instance=scope["path"],
            correlation_id=self.correlation_id,
            language=language.asked_for(scope["headers"]),
        )
        await self({"type": "http.response.start", "status": status, "headers": headers})
        await self({"type": "http.response.body", "body": body})


def _look_at(headers: list[tuple[bytes, bytes]], most: int) -> tuple[str, str | None, bool, bytes | None]:
    """What the headers alone say.

    The correlation id, a problem's code where they are refused, whether the body's length is known, and the
    authorization.

    Args:
        headers: of the request.
        most: bytes that its body may have.
    """
    correlation_id = refusal = authorization = None
    is_measured = True
    size = 0
    for name, value in headers:
        size += len(name) + len(value)
        if name == b"x-correlation-id":
            if 0 < len(value) <= _LONGEST_ID and not value.translate(None, _SAFE):
                correlation_id = value.decode("ascii")
        elif name == b"authorization":
            if authorization is not None:
                refusal = "MALFORMED_REQUEST"  # which of two people is meant, nobody can tell
            authorization = value
        elif name == b"content-length":
            if not value.isdigit():
                refusal = "MALFORMED_REQUEST"
            elif len(value) > len(str(most)) + 9 or int(value) > most:
                refusal = "BODY_TOO_LARGE"
        elif name == b"transfer-encoding":
            is_measured = False
        elif name == b"content-encoding" and value.lower() != b"identity":
            refusal = "UNSUPPORTED_MEDIA_TYPE"
    if size > MOST_HEADERS:
        refusal = "HEADERS_TOO_LARGE"
    return correlation_id or str(uuid7()), refusal, is_measured, authorization


def _limited(receive: Receive, most: int) -> Receive:
    """A body whose length nobody announced ends at the limit."""
    left = most

    async def limited() -> Message:
        nonlocal left
        message = await receive()
        if message["type"] == "http.request":
            left -= len(message.get("body", b""))
            if left < 0:
                raise Problem("BODY_TOO_LARGE")
        return message

    return limited
