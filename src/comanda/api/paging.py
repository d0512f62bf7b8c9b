"""Pages by cursor: where the last page ended, and the `Link` that leads on."""

import base64
import binascii
from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import Query

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
