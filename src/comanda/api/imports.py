"""Products and stock from files. The route only keeps the file: the relay works it off, a batch at a time."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from comanda import telemetry
from comanda.api.answers import Answer, Time
from comanda.api.bodies import Limit
from comanda.api.document import answers
from comanda.api.once import OptionalKey
from comanda.api.paging import Cursor, cursor_of, next_link, read_cursor
from comanda.api.parts import Given, Parts
from comanda.api.problems import Problem
from comanda.api.security import Admin, router
from comanda.clock import new_id
from comanda.errors import DependencyFault
from comanda.failpoints import Boundary
from comanda.field_errors import FieldError
from comanda.imports import imports
from comanda.imports.files import Format
from comanda.imports.imports import Import, Intake, KeyReused, Unreadable
from comanda.imports.lines import Kind, Rejection
from comanda.imports.report import COLUMNS, cells
from comanda.sentences import Sentence

ACCEPT = Boundary("imports.accept")
CANCEL = Boundary("imports.cancel")

_ROWS = 1000  # of a report that are read at once
_FORMATS: dict[str, Format] = {"text/csv": "csv", "application/x-ndjson": "ndjson"}
_EXAMPLES = {
    "text/csv": "sku,name,price,tags\r\nCUP-180,Ceramic cup,1250,tableware|blue\r\n",
    "application/x-ndjson": '{"sku": "CUP-180", "name": "Ceramic cup", "price": 1250, "tags": ["tableware", "blue"]}\n',
}
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {kind: {"schema": {"type": "string"}, "example": example} for kind, example in _EXAMPLES.items()},
    }
}

routes = router("/imports", "imports")


class ImportAnswer(Answer):
    """A file that is worked off. `lines`: the file's; created, changed, unchanged and rejected count what they say."""

    id: UUID
    kind: str
    format: str
    state: str
    bytes: int
    bytes_read: int
    lines: int
    lines_read: int
    created: int
    changed: int
    unchanged: int
    rejected: int
    created_at: Time
    ended_at: Time | None


class ImportPage(Answer):
    """`nextCursor`: where the next page begins; null on the last one."""

    items: Sequence[ImportAnswer]
    next_cursor: str | None


class RejectionAnswer(Answer):
    """A line that was not done. `field` is empty where it is about the whole line; `text` is cut where it is long."""

    line: int
    text: str
    field: str
    code: str
    message: str


class RejectionPage(Answer):
    """`nextAfter`: the line after which the next page begins; null on the last one."""

    items: Sequence[RejectionAnswer]
    next_after: int | None


@routes.post(
    "",
    status_code=202,
    response_model=ImportAnswer,
    openapi_extra=_BODY,
    responses=answers("MALFORMED_REQUEST", "IDEMPOTENCY_KEY_REUSED"),
)
async def accept(
    account: Admin, parts: Given, key: OptionalKey, request: Request, kind: Annotated[Kind, Query()]
) -> Response:
    """Import a file of products or stock, CSV or NDJSON. The same file again is the same import, unless a key names it.

    Amounts are in minor units, tags and images separated by `|`. Products are known by their SKU and made or changed;
    what is left out stays as it is. Stock is `sku`, `location`, `quantity` and `mode`: `set` or `add`.
    """
    format_ = _FORMATS.get(request.headers.get("content-type", "").partition(";")[0].strip().lower())
    if format_ is None:
        raise Problem("UNSUPPORTED_MEDIA_TYPE", "Send text/csv or application/x-ndjson.")
    request.scope["comanda.unhurried"] = True  # large files take their time to be stored
    with imports.spool() as spool:
        intake = Intake(kind, format_, spool)
        try:
            async for chunk in request.stream():
                await asyncio.to_thread(intake.take, chunk)
        except ClientDisconnect:
            raise Problem("MALFORMED_REQUEST") from None
        except OSError as fault:
            raise DependencyFault(f"no room for a file to import: {fault.strerror}") from fault
        file = intake.done()
        if isinstance(file, Unreadable):
            raise Problem("VALIDATION_FAILED", errors=[FieldError(column, message) for column, message in file.wrong])
        correlation_id = telemetry.correlation_id() or str(new_id())
        async with parts.database.transaction(ACCEPT) as tx:
            stored = await imports.store(tx, file, actor=str(account.id), key=key, correlation_id=correlation_id)
    if isinstance(stored, KeyReused):
        raise Problem("IDEMPOTENCY_KEY_REUSED", "Use a new key for another file.")
    kept, is_new = stored
    headers = {"Location": f"/api/v1/imports/{kept.id}"} | ({} if is_new else {"Idempotent-Replayed": "true"})
    content = ImportAnswer.model_validate(kept).model_dump_json(by_alias=True)
    return Response(content, 202, headers, "application/json")


@routes.get("")
async def page(
    _account: Admin, parts: Given, *, response: Response, limit: Limit = 20, cursor: Cursor | None = None
) -> ImportPage:
    """Imports, the newest first."""
    async with parts.database.connection() as tx:
        found = await imports.page(tx, before=read_cursor(cursor), limit=limit + 1)
    shown = found[:limit]
    following = cursor_of(shown[-1].id) if len(found) > limit else None
    if following is not None:
        response.headers["Link"] = next_link("/api/v1/imports", {"limit": limit}, following)
    return ImportPage(items=[ImportAnswer.model_validate(one) for one in shown], next_cursor=following)


@routes.get("/{import_id}", responses=answers("IMPORT_NOT_FOUND"))
async def read(_account: Admin, import_id: UUID, parts: Given) -> ImportAnswer:
    """How far an import has come."""
    return ImportAnswer.model_validate(await _known(parts, import_id))


@routes.get(
    "/{import_id}/rejections",
    response_model=RejectionPage,
    responses={
        **answers("IMPORT_NOT_FOUND"),
        200: {"content": {"text/csv": {"schema": {"type": "string"}}}},
    },
)
async def rejections(
    _account: Admin,
    import_id: UUID,
    parts: Given,
    request: Request,
    *,
    limit: Limit = 100,
    after: Annotated[int, Query(ge=0, le=2**62, description="The last line that was seen")] = 0,
) -> Response:
    """Lines that were not done, and why: a page, or, with `Accept: text/csv`, all from there on as a file."""
    await _known(parts, import_id)
    if "text/csv" in request.headers.get("accept", ""):
        request.scope["comanda.unhurried"] = True  # it is written for as long as it is read
        return StreamingResponse(_csv(parts, import_id, after), media_type="text/csv")
    found = await _rejected(parts, import_id, after, limit + 1)
    shown = found[:limit]
    following = shown[-1].line if len(found) > limit else None
    content = RejectionPage(items=[RejectionAnswer.model_validate(one) for one in shown], next_after=following)
    following_page = f"{request.url.path}?limit={limit}&after={following}"
    headers = {} if following is None else {"Link": f'<{following_page}>; rel="next"'}
    return Response(content.model_dump_json(by_alias=True), headers=headers, media_type="application/json")


@routes.post("/{import_id}/cancel", responses=answers("IMPORT_NOT_FOUND", "IMPORT_ENDED"))
async def cancel(_account: Admin, import_id: UUID, parts: Given) -> ImportAnswer:
    """Stop an import between two batches. What it has done stays done."""
    async with parts.database.transaction(CANCEL) as tx:
        (cancelled,) = await imports.cancel(tx, [import_id])
    if cancelled is None:
        ended = await _known(parts, import_id)
        raise Problem("IMPORT_ENDED", Sentence("The import is {state} already.", state=ended.state))
    return ImportAnswer.model_validate(cancelled)


async def _known(parts: Parts, import_id: UUID) -> Import:
    async with parts.database.connection() as tx:
        (found,) = await imports.find(tx, [import_id])
    if found is None:
        raise Problem("IMPORT_NOT_FOUND")
    return found


async def _rejected(parts: Parts, import_id: UUID, after: int, limit: int) -> Sequence[Rejection]:
    async with parts.database.connection() as tx:
        return await imports.rejections(tx, import_id, after=after, limit=limit)


async def _csv(parts: Parts, import_id: UUID, after: int) -> AsyncIterator[str]:
    rows: Sequence[Sequence[str | int]] = [COLUMNS]
    while rows:
        written = io.StringIO()
        csv.writer(written).writerows(rows)
        yield written.getvalue()
        found = await _rejected(parts, import_id, after, _ROWS)
        rows = [cells(one) for one in found]
        after = found[-1].line if found else after
