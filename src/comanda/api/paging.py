"""Pages by cursor or by number: where the last page ended, and the `Link` that leads on."""

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Depends, Query, Request, Response

from comanda.api.answers import numbered
from comanda.api.problems import Problem
from comanda.field_errors import field_error

Cursor = Annotated[str, Query(max_length=64)]


def cursor_of(last: UUID) -> str:
    """The id that a page ended with."""
    return base64.urlsafe_b64encode(last.bytes).decode().rstrip("=")


def read_cursor(cursor: str | None) -> UUID | None:
    """The id that a page ended with; None: it is the first page.

    Raises:
        Problem: it is none of ours.
    """
    if cursor is None:
        return None
    try:
        return UUID(bytes=base64.b64decode(cursor + "==", altchars=b"-_", validate=True))
    except (ValueError, binascii.Error):
        raise Problem("VALIDATION_FAILED", errors=[field_error("cursor", "cursor")]) from None


def next_link(path: str, asked: Mapping[str, Any], cursor: str) -> str:
    """The header `Link` to the next page of what was asked; what is None was not."""
    query = {name: value for name, value in asked.items() if value is not None} | {"cursor": cursor}
    return f'<{path}?{urlencode(query, doseq=True)}>; rel="next"'


class Numbered:
    """A page with a number tells, in its body and in its `Link`, what is before and after it."""

    def __init__(self, request: Request, response: Response) -> None:
        self._request = request
        self._response = response

    def __call__(self, number: int, limit: int, total: int) -> dict[str, int]:
        """The fields of a `PageAnswer`: the page of that number, of so many in all."""
        numbers = numbered(number, limit, total)
        self._response.headers.update(around(self._request, number, numbers["total_pages"]))
        return numbers


Numbers = Annotated[Numbered, Depends(Numbered)]


def around(request: Request, number: int, pages: int) -> dict[str, str]:
    """The header `Link` to the next page and the one before, as far as there are such."""
    asked = [(name, value) for name, value in request.query_params.multi_items() if name != "page"]
    near = {"next": number + 1, "prev": min(number - 1, pages)}
    links = [
        f'<{request.url.path}?{urlencode([*asked, ("page", page)])}>; rel="{name}"'
        for name, page in near.items()
        if 1 <= page <= pages
    ]
    return {"Link": ", ".join(links)} if links else {}
