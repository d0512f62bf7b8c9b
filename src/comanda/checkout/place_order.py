"""Accepting orders: price them, commit many at once, answer each.

A request is priced from the catalogue in memory; the commit decides whether that price still holds, and nobody is
refused before the products were looked up anew. Requests that arrive while a commit runs share the next one.
PROTOCOL.md, "Accept".
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from comanda import telemetry, tracing
from comanda.catalog.cache import Catalogue, Priced
from comanda.clock import new_id, now, rfc3339
from comanda.db import Batcher, Database, Record, twin
from comanda.errors import DatabaseFault
from comanda.failpoints import Boundary
from comanda.idempotency import keys
from comanda.idempotency.model import Remembered, fingerprint
from comanda.messaging.streams import Streams
from comanda.saga import Saga
from comanda.sentences import Sentence

COMMIT = Boundary("orders.accept")

_sql = twin(__file__)
ACCEPT = _sql["accept"]
PLACED = _sql["placed"]

_MOST_OF_A_TOTAL = 2**53 - 1  # what every JSON reader can hold exactly
_QUOTES = 3  # a price that changes that often within one request is answered with 409
_COMMITS = 3
_AGAIN_AFTER = 0.2  # seconds, after a lost connection
_LIMIT = 500
_GATHER = 0.03  # seconds between two commits while orders come one by one
_ENOUGH = 32  # of them are committed before that
_PRIORITY = 1  # of their sagas


@dataclass(frozen=True, slots=True)
class Wish:
    """What a customer asks for; `quantities` by product, repeated lines summed."""

    customer_id: UUID
    quantities: dict[UUID, int]
    key: str | None
    canonical: bytes
    correlation_id: str
    payment_method: str | None = None
    shipping_address: str | None = None
    notes: str | None = None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The body of the 202."""

    order_id: str
    answer: bytes
    is_replay: bool = False


@dataclass(frozen=True, slots=True)
class Rejected:
    """A refusal, by its stable code."""

    code: str
    detail: str


@dataclass(slots=True)
class _Draft:
    wish: Wish
    fingerprint: bytes
    lines: list[tuple[Priced, int]]
    total: int
    currency: str
    id: UUID = field(default_factory=new_id)
    saga_id: UUID = field(default_factory=new_id)
    event_id: UUID = field(default_factory=new_id)
    created_at: datetime = field(default_factory=now)
    answer: bytes = b""
    payload: str = ""


_STALE = Rejected("CONFLICT", "Prices are changing right now: ask again.")
_BARRED = Rejected("UNAUTHENTICATED", "This account is disabled.")
_FULL = Rejected("TOO_MANY_OPEN_ORDERS", "Too many orders are under way: wait until some have ended.")
_REUSED = Rejected("IDEMPOTENCY_KEY_REUSED", "This idempotency key was used with another body: use a new key.")
_VERDICTS = {"stale": _STALE, "barred": _BARRED, "full": _FULL}
_PERHAPS_KNOWN = frozenset({"taken", "full"})


class PlaceOrder:
    """The one way in.

    Args:
        database: where orders are committed.
        streams: where they are hinted at afterwards.
        catalogue: prices in memory.
        saga: the order's process.
        most_open: orders that a customer may have under way; None: any number.
        patience: seconds that a request waits for its commit. The commit goes on; a repeat under its key learns of it.
    """

    def __init__(
        self,
        database: Database,
        streams: Streams,
        catalogue: Catalogue,
        saga: Saga,
        *,
        most_open: int | None,
        patience: float = 10,
    ) -> None:
        self._database = database
        self._streams = streams
        self._catalogue = catalogue
        self._saga = saga
        self._most_open = most_open
        self._patience = patience
        self._commits: Batcher[_Draft, Accepted | Rejected] = Batcher(
            self._commit, limit=_LIMIT, gather=_GATHER, enough=_ENOUGH, patience=patience
        )
        self._hinting: set[asyncio.Task[None]] = set()

    @property
    def backlog(self) -> int:
        """Requests that wait for a commit."""
        return self._commits.depth

    async def drain(self) -> None:
        """Answer everybody who is waiting."""
        await self._commits.drain()
        if self._hinting:
            await asyncio.wait(self._hinting)

    async def place(self, wish: Wish) -> Accepted | Rejected:
        """Accept an order, or say why not.

        Raises:
            DatabaseFault: PostgreSQL did not answer in time; whether the order stands, a repeat with its key tells.
        """
        asked = fingerprint(wish.canonical)
        try:
            for _ in range(_QUOTES):
                draft: _Draft | Accepted | Rejected | None = self._draft(wish, asked)
                if not isinstance(draft, _Draft):
                    async with asyncio.timeout(self._patience):
                        draft = await self._looked_up(wish, asked)
                    if not isinstance(draft, _Draft):
                        return draft
                verdict = await self._commits.submit(draft)
                if verdict is not _STALE:
                    return verdict
                self._catalogue.forget([priced.id for priced, _ in draft.lines])
        except TimeoutError as late:
            raise DatabaseFault(f"no commit within {self._patience} s") from late
        return _STALE

    def _draft(self, wish: Wish, asked: bytes) -> "_Draft | Rejected | None":
        """Priced from memory; None when a product is not there."""
        lines = []
        total = 0
        for product_id, quantity in wish.quantities.items():
            priced = self._catalogue.get(product_id)
            if priced is None:
                return None
            lines.append((priced, quantity))
            total += priced.price * quantity
        return self._judged(wish, asked, lines, total)

    async def _looked_up(self, wish: Wish, asked: bytes) -> "_Draft | Accepted | Rejected":
        """Priced from PostgreSQL, or refused by what it says right now."""
        draft = self._found(wish, asked, await self._catalogue.priced(self._database, list(wish.quantities)))
        if isinstance(draft, Rejected):
            # What is in memory, or was being read, may be older than what another process has changed.
            draft = self._found(wish, asked, await self._catalogue.anew(self._database, list(wish.quantities)))
        if isinstance(draft, Rejected):
            # What was accepted under this key stays accepted, whatever became of the products since.
            return await self._remembered(wish, asked) or draft
        return draft

    def _found(self, wish: Wish, asked: bytes, found: dict[UUID, Priced]) -> "_Draft | Rejected":
        missing = [product_id for product_id in wish.quantities if product_id not in found]
        if missing:
            return Rejected("PRODUCT_UNKNOWN", Sentence("No such product: {product}", product=missing[0]))
        lines = [(found[product_id], quantity) for product_id, quantity in wish.quantities.items()]
        return self._judged(wish, asked, lines, sum(priced.price * quantity for priced, quantity in lines))

    @staticmethod
    def _judged(wish: Wish, asked: bytes, lines: list[tuple[Priced, int]], total: int) -> "_Draft | Rejected":
        currency = lines[0][0].currency
        for priced, _ in lines:
            if not priced.is_active:
                return Rejected(
                    "PRODUCT_INACTIVE", Sentence("This product is not on sale: {product}", product=priced.id)
                )
            if priced.currency != currency:
                return Rejected("CURRENCIES_MIXED", "An order has one currency: place one order for each.")
        if total > _MOST_OF_A_TOTAL:
            return Rejected("AMOUNT_TOO_LARGE", "The order's total is too large.")
        draft = _Draft(wish, asked, lines, total, currency)
        _write_out(draft)
        return draft

    async def _remembered(self, wish: Wish, asked: bytes) -> Accepted | Rejected | None:
        if wish.key is None:
            return None
        async with self._database.connection() as tx:
            (known,) = await keys.answers(tx, [(wish.customer_id, wish.key)])
        return None if known is None else _replay(known, asked)

    async def _commit(self, drafts: Sequence[_Draft]) -> Sequence[Accepted | Rejected | Exception]:
        """One commit for all. After a lost connection the same ids are looked up before anything is repeated."""
        began = time.time()
        # Keys in one order, so that several processes can't deadlock on them.
        in_order = sorted(drafts, key=lambda draft: (draft.wish.customer_id, draft.wish.key or ""))
        verdicts: dict[UUID, Accepted | Rejected | Exception] = {}
        for attempt in range(_COMMITS):
            try:
                async with self._database.connection(COMMIT) as tx:
                    if attempt:
                        for row in await PLACED.rows(tx, [draft.id for draft in in_order]):
                            verdicts[row["id"]] = Accepted("", b"")
                    left = [draft for draft in in_order if draft.id not in verdicts]
                    rows = await ACCEPT.rows(tx, *self._columns(left)) if left else []
                    # What a key may be known for is no verdict yet: if its look-up fails, it has to be asked for again.
                    decided = [row for row in rows if row["verdict"] not in _PERHAPS_KNOWN]
                    verdicts |= {row["id"]: _VERDICTS.get(row["verdict"], Accepted("", b"")) for row in decided}
                    await self._look_up_known(tx, in_order, rows, verdicts)
                break
            except DatabaseFault as fault:
                if attempt == _COMMITS - 1:
                    return [fault] * len(drafts)
                await asyncio.sleep(_AGAIN_AFTER)
            except Exception:
                if attempt == 0 or attempt == _COMMITS - 1:
                    raise  # poisoned: the batcher repeats one by one
        telemetry.BATCHES.labels("accept").observe(len(drafts))
        traced = [draft.wish.traceparent for draft in drafts]
        tracing.tell_together("accept", traced, began=began, size=len(drafts), kind="INTERNAL")
        placed = [draft for draft in drafts if verdicts[draft.id] == Accepted("", b"")]
        for draft in placed:
            verdicts[draft.id] = Accepted(str(draft.id), draft.answer)
        self._hint([draft.saga_id for draft in placed])
        return [verdicts[draft.id] for draft in drafts]

    @staticmethod
    async def _look_up_known(
        tx: Any, drafts: Sequence[_Draft], rows: Sequence[Record], verdicts: dict[UUID, Any]
    ) -> None:
        # Who has too many orders under way may be asking again for the last of them, whose answer was lost.
        found = {row["id"]: row["verdict"] for row in rows if row["verdict"] in _PERHAPS_KNOWN}
        asked = [draft for draft in drafts if draft.id in found]
        if not asked:
            return
        known = await keys.answers(tx, [(draft.wish.customer_id, draft.wish.key or "") for draft in asked])
        for draft, answer in zip(asked, known, strict=True):
            # A key that was taken and has vanished between the two statements was deleted as too old just now.
            unknown = _VERDICTS.get(found[draft.id], _STALE)
            verdicts[draft.id] = unknown if answer is None else _replay(answer, draft.fingerprint)

    def _columns(self, drafts: Sequence[_Draft]) -> list[Any]:
        wishes = [draft.wish for draft in drafts]
        lines = [
            (draft.id, position, priced, quantity)
            for draft in drafts
            for position, (priced, quantity) in enumerate(draft.lines)
        ]
        first = self._saga.first
        return [
            [draft.id for draft in drafts],
            [draft.saga_id for draft in drafts],
            [wish.customer_id for wish in wishes],
            [wish.key for wish in wishes],
            [draft.fingerprint for draft in drafts],
            [draft.answer for draft in drafts],
            [draft.total for draft in drafts],
            [draft.currency for draft in drafts],
            [wish.payment_method for wish in wishes],
            [wish.shipping_address for wish in wishes],
            [wish.notes for wish in wishes],
            [wish.correlation_id for wish in wishes],
            [draft.created_at for draft in drafts],
            [draft.event_id for draft in drafts],
            [draft.payload for draft in drafts],
            [order_id for order_id, _, _, _ in lines],
            [position for _, position, _, _ in lines],
            [priced.id for _, _, priced, _ in lines],
            [quantity for _, _, _, quantity in lines],
            [priced.price for _, _, priced, _ in lines],
            [priced.currency for _, _, priced, _ in lines],
            self._saga.name,
            self._saga.version,
            first.name,
            first.queue,
            self._saga.started,
            self._most_open,
            [wish.traceparent for wish in wishes],
        ]

    def _hint(self, saga_ids: Sequence[UUID]) -> None:
        """Tell the workers; nobody waits for it, since they would find out by themselves."""
        if not saga_ids:
            return
        task = asyncio.create_task(self._streams.hint({(self._saga.first.queue, _PRIORITY): saga_ids}))
        self._hinting.add(task)
        task.add_done_callback(self._hinting.discard)


def _write_out(draft: _Draft) -> None:
    """The answer and the event, written once."""
    items = [
        {
            "productId": priced.id,
            "sku": priced.sku,
            "name": priced.name,
            "quantity": quantity,
            "unitPrice": priced.price,
            "totalPrice": priced.price * quantity,
        }
        for priced, quantity in draft.lines
    ]
    draft.answer = msgspec.json.encode(
        {
            "orderId": draft.id,
            "sagaId": draft.saga_id,
            "status": "PENDING",
            "totalAmount": draft.total,
            "currency": draft.currency,
            "items": items,
            "createdAt": rfc3339(draft.created_at),
        }
    )
    draft.payload = msgspec.json.encode(
        {
            "customerId": draft.wish.customer_id,
            "sagaId": draft.saga_id,
            "totalAmount": draft.total,
            "currency": draft.currency,
            "items": [
                {"productId": priced.id, "quantity": quantity, "unitPrice": priced.price}
                for priced, quantity in draft.lines
            ],
        }
    ).decode()


def _replay(known: Remembered, asked: bytes) -> Accepted | Rejected:
    if known.fingerprint != asked:
        return _REUSED
    order_id: str = msgspec.json.decode(known.answer)["orderId"]
    return Accepted(order_id, known.answer, is_replay=True)
