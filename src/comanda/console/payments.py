"""Payments: found by state or by any id; and their reconciliation with the gateway, told while it goes on."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from comanda import clock, telemetry
from comanda.console.ask import HEADERS, Ask, Refusal, uuid_or_none
from comanda.console.orders import PAGE
from comanda.console.overview import chunk, gone
from comanda.db import Record, Tx, twin
from comanda.errors import DependencyFault, GatewayFault
from comanda.proof.reconcile import Progress, Reconciliation, Span, reconcile
from comanda.sentences import choose

_sql = twin(__file__)
FOUND = _sql["found"]
END_OF_SPAN = _sql["end_of_span"]
NAMED = _sql["named"]

STATES = ("PENDING", "PROCESSING", "SUCCEEDED", "PARTIALLY_REFUNDED", "REFUNDED", "FAILED")
_SPAN = 10_000  # payments that are looked through for a page
_NO_ID_IS_GREATER = UUID(int=2**128 - 1)
_TOLD_EVERY = 0.5  # seconds
_HOURS = {"hour": 1, "day": 24, "week": 24 * 7, "month": 24 * 30, "all": 0}
_log = telemetry.log("console")


async def search(ask: Ask) -> Response:
    """Payments, newest first; so many are looked through at a time, and then it goes on."""
    q, state = ask.asked("q"), ask.asked("state")
    if state and state not in STATES:
        raise Refusal(422, choose("There is no such state: choose from {choices}.", STATES))
    async with ask.parts.assembly.lists.connection() as tx:
        if q:
            rows: Sequence[Record] = await NAMED.rows(tx, uuid_or_none(q), q)
            following, looked = None, 0
        else:
            rows, following, looked = await _found(tx, state or None, ask.before() or _NO_ID_IS_GREATER)
    query = {"state": state} if state else {}
    more = None if following is None else f"/admin/payments?{urlencode({**query, 'before': str(following)})}"
    return ask.page(
        "payments.html",
        rows=rows,
        q=q,
        state=state,
        states=STATES,
        is_filtered=bool(q or state),
        next=more,
        looked=looked,
    )


async def _found(tx: Tx, state: str | None, at: UUID) -> tuple[Sequence[Record], UUID | None, int]:
    """The rows, where to go on, and how many payments were looked through."""
    span = PAGE + 1 if state is None else _SPAN
    rows = await FOUND.rows(tx, at, span, state, PAGE + 1)
    if len(rows) > PAGE:
        return rows[:PAGE], rows[PAGE - 1]["id"], 0
    if state is None:
        return rows, None, 0
    end = await END_OF_SPAN.value(tx, at, span)
    return rows, end, 0 if end is None else span


async def reconciliation(ask: Ask) -> Response:
    """What is to be compared; and, once that is said, what comes of it."""
    span = ask.asked("span")
    values: dict[str, Any] = {"span": span if span in _HOURS else "day", "seam": ""}
    if span not in _HOURS:
        return ask.page("reconciliation.html", **values)
    if ask.desk.reconciling.locked():
        return ask.page("reconciliation.html", status=409, **values, is_busy=True)
    return _Told(ask, values)


class _Told(Response):
    """A page that is sent while it comes about: its beginning, how far it is, what came of it, its end."""

    media_type = "text/html"

    def __init__(self, ask: Ask, values: dict[str, Any]) -> None:
        super().__init__(None, 200, {**HEADERS, "Content-Language": ask.language, "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._ask = ask
        seam = uuid4().hex
        page = ask.page("reconciliation.html", **{**values, "seam": seam})
        self._head, _, self._tail = bytes(page.body).decode().partition(seam)
        hours = _HOURS[values["span"]]
        self._span = Span(clock.now() - timedelta(hours=hours) if hours else None)
        self._progress = Progress()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["comanda.unhurried"] = scope["comanda.is_stream"] = True
        away = asyncio.create_task(gone(receive))
        comparing = asyncio.create_task(self._compare())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            await send(chunk(self._head.encode()))
            while not comparing.done() and not away.done() and not self._ask.parts.is_draining():
                await send(chunk(self._piece("_reconciling.html", progress=self._progress)))
                await asyncio.wait([comparing, away], timeout=_TOLD_EVERY, return_when=asyncio.FIRST_COMPLETED)
            if comparing.done():
                await send(chunk(await comparing))
            await send({"type": "http.response.body", "body": self._tail.encode(), "more_body": False})
        finally:
            away.cancel()
            comparing.cancel()

    async def _compare(self) -> bytes:
        """What came of it, or why nothing did: in time, whatever the gateway does."""
        made: Reconciliation | None = None
        seconds, why = self._ask.parts.settings.reconcile_seconds, ""

        def tell(progress: Progress) -> None:
            self._progress = progress

        assembly = self._ask.parts.assembly
        try:
            async with asyncio.timeout(seconds), self._ask.desk.reconciling:
                made = await reconcile(assembly.lists, assembly.gateway, self._span, tell)
        except TimeoutError:
            why = "late"
        except GatewayFault as fault:
            _log.warning("payments could not be reconciled", error=str(fault))
            why = "gateway"
        except DependencyFault as fault:
            _log.warning("payments could not be reconciled", error=str(fault))
            why = "database"
        return self._piece("_reconciled.html", made=made, why=why, seconds=seconds, progress=self._progress)

    def _piece(self, template: str, **values: Any) -> bytes:
        return self._ask.desk.pages.render(self._ask.language, template, values).encode()
