"""Routes that will go: each of their answers says so, and so does the document (RFC 9745, RFC 8594)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from email.utils import format_datetime
from typing import Any

from fastapi import Depends
from starlette.types import Scope

from comanda.errors import DefinitionFault

_TOLD = "comanda.deprecation"


@dataclass(frozen=True, slots=True)
class Deprecation:
    """Since when a route should not be used any more, from when on it may be gone, and the page that says what to do.

    A dependency only so that its route carries it: `Route` reads it there.
    """

    since: date
    sunset: date | None
    page: str

    async def __call__(self) -> None:
        return

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        said = [
            ("deprecation", f"@{int(_midnight(self.since).timestamp())}"),
            ("link", f'<{self.page}>; rel="deprecation"; type="text/html"'),
        ]
        if self.sunset is not None:
            said.append(("sunset", format_datetime(_midnight(self.sunset), usegmt=True)))
        return [(name.encode(), value.encode("ascii")) for name, value in said]


def deprecated(*, since: date, sunset: date | None = None, page: str) -> dict[str, Any]:
    """The options of such a route: `@routes.get("/old", **deprecated(since=…, page="/api/docs#…"))`.

    Args:
        since: may be to come.
        sunset: not before `since`.
        page: a URL or a path.
    """
    if sunset is not None and sunset < since:
        raise DefinitionFault("a route is deprecated before it goes")
    return {"deprecated": True, "dependencies": [Depends(Deprecation(since, sunset, page))]}


def tell(scope: Scope, said: Deprecation) -> None:
    """Have it said in the answer to this request, whatever the answer is."""
    scope[_TOLD] = said.headers


def told(scope: Scope) -> Sequence[tuple[bytes, bytes]]:
    """The headers that the answer to this request has for it."""
    headers: Sequence[tuple[bytes, bytes]] = scope.get(_TOLD, ())
    return headers


# Of the document: what each answer of such a route carries.
HEADERS: dict[str, Any] = {
    "Deprecation": {"description": "Since when (RFC 9745)", "schema": {"type": "string"}, "example": "@1767225600"},
    "Sunset": {"description": "From when on it may be gone (RFC 8594)", "schema": {"type": "string"}},
    "Link": {"description": 'rel="deprecation": what to use instead', "schema": {"type": "string"}},
}


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)
