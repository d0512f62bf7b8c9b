"""Errors as RFC 9457 problems. The only place where a status code stands beside what went wrong."""

import http
import json
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from comanda import telemetry
from comanda.api import language as languages
from comanda.errors import DependencyFault
from comanda.field_errors import FieldError, of_pydantic

PREFIX = "/api/v1/problems"
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = "1"

# code: status, title.
CODES: dict[str, tuple[int, str]] = {
    "MALFORMED_REQUEST": (400, "The request can't be read"),
    "MALFORMED_BODY": (400, "The body is no JSON"),
    "IDEMPOTENCY_KEY_REQUIRED": (400, "An Idempotency-Key is required here"),
    "UNAUTHENTICATED": (401, "A valid access token is required"),
    "CREDENTIALS_REFUSED": (401, "E-mail or password is wrong"),
    "REFRESH_REFUSED": (401, "The refresh token is not valid"),
    "FORBIDDEN": (403, "Your role does not allow this"),
    "EMAIL_UNVERIFIED": (403, "The e-mail has to be verified first"),
    "ROUTE_NOT_FOUND": (404, "There is nothing here"),
    "USER_NOT_FOUND": (404, "There is no such user"),
    "ORDER_NOT_FOUND": (404, "There is no such order"),
    "PRODUCT_NOT_FOUND": (404, "There is no such product"),
    "CATEGORY_NOT_FOUND": (404, "There is no such category"),
    "STOCK_NOT_FOUND": (404, "That product has no stock there"),
    "RESERVATION_NOT_FOUND": (404, "There is no such reservation"),
    "WEBHOOK_NOT_FOUND": (404, "There is no such endpoint"),
    "DELIVERY_NOT_FOUND": (404, "There is no such delivery"),
    "SHIPMENT_NOT_FOUND": (404, "The order has no such parcel"),
    "REFUND_NOT_FOUND": (404, "The order has no such refund"),
    "IMPORT_NOT_FOUND": (404, "There is no such import"),
    "PROBLEM_NOT_FOUND": (404, "There is no such problem"),
    "METHOD_NOT_ALLOWED": (405, "This method is not allowed here"),
    "EMAIL_VERIFIED": (409, "The e-mail is verified already"),
    "EMAIL_TAKEN": (409, "There is an account for this e-mail"),
    "LAST_ADMIN": (409, "Somebody has to be left who may do everything"),
    "SKU_TAKEN": (409, "There is a product with this SKU"),
    "SLUG_TAKEN": (409, "There is a category with this slug"),
    "CATEGORY_RING": (409, "A category can't stand below itself"),
    "CATEGORY_IN_USE": (409, "There is something in this category"),
    "STOCK_EXISTS": (409, "That product has stock at this location already"),
    "STOCK_TAKEN": (409, "So many are not free"),
    "WEBHOOK_DISABLED": (409, "Nothing is sent to this endpoint"),
    "DELIVERY_UNDER_WAY": (409, "It is still being delivered"),
    "RESERVATION_OF_ORDER": (409, "An order holds it"),
    "RESERVATION_ENDED": (409, "The reservation has ended"),
    "STOCK_HELD": (409, "Orders hold this stock"),
    "IDEMPOTENCY_KEY_IN_USE": (409, "A request with this key is still running"),
    "ORDER_STATE": (409, "The order's state does not allow this"),
    "ORDER_FOLLOWED": (409, "Something of this order was shipped or refunded"),
    "UNITS_EXCEEDED": (409, "That is more than is left of it"),
    "REFUND_EXCEEDED": (409, "That is more money than is left of it"),
    "NOTHING_LEFT": (409, "There is nothing left to do it to"),
    "IMPORT_ENDED": (409, "The import has ended"),
    "CONFLICT": (409, "The state does not allow this"),
    "PRECONDITION_FAILED": (412, "It was changed meanwhile"),
    "BODY_TOO_LARGE": (413, "The body is too large"),
    "UNSUPPORTED_MEDIA_TYPE": (415, "This media type is not taken here"),
    "VALIDATION_FAILED": (422, "The request is not valid"),
    "TOKEN_REFUSED": (422, "The code is not valid"),
    "PASSWORD_REFUSED": (422, "The current password is wrong"),
    "CATEGORY_UNKNOWN": (422, "There is no such category"),
    "CATEGORY_TOO_DEEP": (422, "Categories can't stand that deep"),
    "ITEM_UNKNOWN": (422, "The order has no such line"),
    "PRODUCT_UNKNOWN": (422, "There is no such product"),
    "PRODUCT_INACTIVE": (422, "The product is not on sale"),
    "CURRENCIES_MIXED": (422, "The products of an order need one currency"),
    "AMOUNT_TOO_LARGE": (422, "The amount is too large"),
    "STOCK_TOO_LARGE": (422, "That is more stock than can be counted"),
    "IDEMPOTENCY_KEY_REUSED": (422, "This key belongs to another request"),
    "TOO_MANY_OPEN_ORDERS": (429, "Too many orders are under way"),
    "TOO_MANY_REQUESTS": (429, "Too many requests"),
    "HEADERS_TOO_LARGE": (431, "The headers are too large"),
    "INTERNAL": (500, "Something went wrong here"),
    "OVERLOADED": (503, "Comanda is busy"),
    "UNAVAILABLE": (503, "Something that Comanda needs does not answer"),
    "DRAINING": (503, "This process is about to stop"),
}
_OF_STATUS = {
    400: "MALFORMED_REQUEST",
    401: "UNAUTHENTICATED",
    403: "FORBIDDEN",
    404: "ROUTE_NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
    409: "CONFLICT",
    412: "PRECONDITION_FAILED",
    413: "BODY_TOO_LARGE",
    415: "UNSUPPORTED_MEDIA_TYPE",
    422: "VALIDATION_FAILED",
    429: "TOO_MANY_REQUESTS",
    431: "HEADERS_TOO_LARGE",
    503: "UNAVAILABLE",
}


class Problem(HTTPException):
    """Raised by a route: the request is answered with this."""

    def __init__(
        self,
        code: str,
        detail: str | None = None,
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(CODES[code][0], detail, dict(headers or {}))
        self.code = code
        self.told = detail
        self.errors = errors


def type_of(code: str) -> str:
    """The problem's type: a path that describes it."""
    return f"{PREFIX}/{code.lower().replace('_', '-')}"


def problem_response(
    code: str,
    detail: str | None = None,
    *,
    instance: str,
    correlation_id: str | None,
    language: str = languages.ENGLISH,
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """A problem as status, raw headers and body, for whoever speaks ASGI."""
    status, english = CODES[code]
    title = languages.title(code, english, language)
    body: dict[str, Any] = {
        "type": type_of(code),
        "title": title,
        "status": status,
        "detail": languages.told(detail, language) if detail else title,
        "code": code,
        "instance": instance,
        "correlationId": correlation_id,
    }
    if errors:
        body["errors"] = [
            {"field": one.field, "message": languages.told(one.message, language), "code": one.code} for one in errors
        ]
    content = json.dumps(body).encode()  # escapes everything that is not ASCII, lone surrogates too
    raw = {
        "content-type": MEDIA_TYPE,
        "content-length": str(len(content)),
        "content-language": language,
        "vary": "Accept-Language",
    }
    if status == http.HTTPStatus.UNAUTHORIZED:
        raw["www-authenticate"] = "Bearer"
    elif status == http.HTTPStatus.SERVICE_UNAVAILABLE:
        raw["retry-after"] = RETRY_AFTER
    raw.update((name.lower(), value) for name, value in (headers or {}).items())
    return status, [(name.encode("latin-1"), value.encode("latin-1")) for name, value in raw.items()], content


def _answer(request: Request, code: str, detail: str | None = None, **more: Any) -> Response:
    status, headers, content = problem_response(
        code,
        detail,
        instance=request.url.path,
        correlation_id=telemetry.correlation_id(),
        language=languages.asked_for(request.scope["headers"]),
        **more,
    )
    response = Response(content, status)
    response.raw_headers = headers
    return response


async def _of_problem(request: Request, raised: Exception) -> Response:
    if isinstance(raised, Problem):
        return _answer(request, raised.code, raised.told, errors=raised.errors, headers=raised.headers)
    assert isinstance(raised, HTTPException)
    code = _OF_STATUS.get(raised.status_code, "INTERNAL")
    headers = dict(raised.headers or {})
    if code == "METHOD_NOT_ALLOWED":
        headers["allow"] = ", ".join(_allowed(request)) or headers.get("Allow", "")
        headers.pop("Allow", None)
    return _answer(request, code, headers=headers)


def _allowed(request: Request) -> list[str]:
    """Every method of the path: the router itself names those of its first route only."""
    scope = request.scope
    known: dict[str, set[str]] = request.app.state.methods
    methods = known.get(scope["path"]) or known.get(getattr(scope.get("route"), "path", ""), set())
    return sorted(methods | ({"HEAD"} if "GET" in methods else set()))


async def _of_validation(request: Request, raised: Exception) -> Response:
    assert isinstance(raised, RequestValidationError)
    return _answer(request, "VALIDATION_FAILED", errors=of_pydantic(raised.errors()))


async def _of_dependency(request: Request, raised: Exception) -> Response:
    telemetry.log("http").warning("A dependency does not answer", error=str(raised), kind=type(raised).__name__)
    return _answer(request, "UNAVAILABLE")


async def _of_anything(request: Request, _raised: Exception) -> Response:
    return _answer(request, "INTERNAL")  # the outer layer logs what it was


def install(app: FastAPI) -> None:
    """Answer everything that goes wrong in the application with a problem."""
    app.add_exception_handler(HTTPException, _of_problem)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(DependencyFault, _of_dependency)
    app.add_exception_handler(Exception, _of_anything)
