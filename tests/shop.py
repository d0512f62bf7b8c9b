"""A shop on the test's own database: real engine, real worker and relay, a gateway that is a small program of ours."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from comanda import relay
from comanda.accounts import accounts
from comanda.assembly import Assembly, Definitions
from comanda.catalog import products
from comanda.catalog.cache import Catalogue
from comanda.checkout import after_order
from comanda.checkout.after_order import ParcelWish, RefundWish
from comanda.checkout.order_saga import Patience, order_saga
from comanda.checkout.place_order import Accepted, PlaceOrder, Rejected, Wish
from comanda.checkout.refund_saga import refund_saga
from comanda.db import Database, Tx
from comanda.errors import GatewayBusy, GatewayFault, GatewaySilent
from comanda.inventory import admin
from comanda.messaging.queues import QUEUES
from comanda.messaging.streams import Streams
from comanda.notifications.alerts import alert_saga
from comanda.notifications.notifications import Notifications, delivery_saga
from comanda.notifications.providers import MockProvider
from comanda.orders.model import RefundKind
from comanda.payments.breaker import SharedBreaker
from comanda.payments.gateway import Captured, ChargeRequest, Declined, Voided
from comanda.payments.payments import Charge, Refund
from comanda.payments.refunds import GiveBack
from comanda.resilience.breaker import Rule
from comanda.saga.definition import unheard
from comanda.saga.rescue import by_queue
from comanda.saga.settling import Settling
from comanda.settings import Settings
from comanda.webhooks.deliveries import webhook_saga
from comanda.webhooks.sender import Sender
from comanda.worker import Worker

BASE = timedelta(milliseconds=40)


@dataclass
class FakeGateway:
    """Keeps a ledger as the real one does; `pm_…` methods as in INTERFACE.md. `is_down`: nobody answers.

    `answers_lost`: refunds are made, and nobody hears of it; `forgets_keys`: a refund that is sent again is made again,
    as by gateways that know a key for a day.
    """

    captures: dict[str, int] = field(default_factory=dict)
    order_of: dict[str, UUID] = field(default_factory=dict)
    refunds: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    given_back: dict[str, int] = field(default_factory=dict)
    voided: set[str] = field(default_factory=set)
    calls: list[tuple[str, str]] = field(default_factory=list)
    is_down: bool = False
    refunds_fail: bool = False
    answers_lost: bool = False
    forgets_keys: bool = False
    void_gives_back: bool = True
    gate: asyncio.Event | None = None

    async def charge(self, request: ChargeRequest, key: str) -> Captured | Declined:
        self.calls.append(("charge", key))
        if self.gate is not None:
            await self.gate.wait()
        if self.is_down:
            raise GatewayBusy("down")
        if key in self.voided:
            return Declined("PAYMENT_VOIDED")
        if key in self.captures:
            return Captured(f"g-{key}")
        method = request.method or "pm_success"
        tries = sum(call == ("charge", key) for call in self.calls)
        if method.startswith("pm_decline_"):
            return Declined(method.removeprefix("pm_decline_"))
        if method == "pm_unavailable" or (method.startswith("pm_flaky_") and tries <= int(method[9:])):
            raise GatewayBusy("not now")
        self.captures[key] = request.amount
        self.order_of[key] = request.order_id
        if method == "pm_timeout_after_capture" and tries == 1:
            raise GatewaySilent("the answer was lost")
        return Captured(f"g-{key}")

    async def find(self, key: str) -> Captured | Declined | None:
        self.calls.append(("find", key))
        if self.is_down:
            raise GatewayBusy("down")
        return Captured(f"g-{key}") if key in self.captures else None

    async def void(self, key: str) -> Voided:
        self.calls.append(("void", key))
        if self.refunds_fail or self.is_down:
            raise GatewayFault("500")
        self.voided.add(key)
        if self.void_gives_back:
            self.refunds[key] = self.captures.get(key, 0)
        return Voided(self.captures.get(key, 0), self.refunds[key])

    async def refund(self, charge_key: str, amount: int, key: str) -> None:
        self.calls.append(("refund", key))
        if self.gate is not None:
            await self.gate.wait()
        if self.refunds_fail or self.is_down:
            raise GatewayBusy("down")
        if key not in self.given_back or self.forgets_keys:
            if self.refunds[charge_key] + amount > self.captures[charge_key]:
                raise GatewayFault("REFUND_EXCEEDS_CAPTURE")
            self.given_back[key] = amount
            self.refunds[charge_key] += amount
        if self.answers_lost:
            self.is_down = True
            raise GatewaySilent("it died before it answered")

    async def find_refund(self, key: str) -> int | None:
        self.calls.append(("find_refund", key))
        if self.refunds_fail or self.is_down:
            raise GatewayBusy("down")
        return self.given_back.get(key)

    def kept(self, order_id: UUID) -> int:
        """What the shop has of the customer's money, in minor units."""
        return sum(
            amount - self.refunds[key] for key, amount in self.captures.items() if self.order_of[key] == order_id
        )


@dataclass
class Shop:
    """What a test does in a shop."""

    assembly: Assembly
    gateway: FakeGateway
    customer: UUID

    @property
    def database(self) -> Database:
        return self.assembly.database

    @property
    def by_hand(self) -> Settling:
        """What settles what an operator called Ana decides."""
        return Settling.by_hand(self.assembly.sagas, actor="ana", lease=timedelta(seconds=1))

    async def sells(self, **units: int) -> dict[str, UUID]:
        """Products by name, with so many units in stock, at 10.00 each."""
        async with self.database.transaction() as tx:
            made = await products.create(tx, [products.Draft(name, f"{name}-{uuid4()}", 1000) for name in units])
            ids = {one.name: one.id for one in made if isinstance(one, products.Product)}
            openings = [admin.Opening(ids[name], count) for name, count in units.items()]
            await admin.create(tx, openings, actor=self.customer, correlation_id="test")
        return ids

    async def customers(self, count: int) -> list[UUID]:
        """Others who shop here, with accounts of their own."""
        async with self.database.transaction() as tx:
            return await registered(tx, count)

    async def place(
        self,
        quantities: Mapping[UUID, int],
        method: str | None = None,
        key: str | None = None,
        *,
        customer: UUID | None = None,
        at: PlaceOrder | None = None,
    ) -> Accepted | Rejected:
        """`at`: another process's way in."""
        canonical = repr((sorted(quantities.items()), method)).encode()
        return await (at or self.assembly.place_order).place(
            Wish(customer or self.customer, dict(quantities), key, canonical, f"correlation-{uuid4()}", method)
        )

    async def order(
        self, quantities: Mapping[UUID, int], method: str | None = None, *, customer: UUID | None = None
    ) -> UUID:
        placed = await self.place(quantities, method, customer=customer)
        assert isinstance(placed, Accepted), placed
        return UUID(placed.order_id)

    async def ship(self, order_id: UUID, units: Mapping[UUID, int] | None = None) -> Any:
        """A parcel leaves; what was decided."""
        wish = ParcelWish(order_id, units, "Correos", "ES 123", self.customer)
        async with self.database.transaction() as tx:
            (sent,), due = await after_order.ship(tx, [wish], self.assembly.definitions.notifications)
        await self.assembly.streams.offer_all(by_queue(due))
        return sent

    async def refund(
        self,
        order_id: UUID,
        amount: int | None = None,
        units: Mapping[UUID, int] | None = None,
        *,
        kind: RefundKind = "REFUND",
        restock: bool = False,
    ) -> Any:
        """Money is asked back; what was decided."""
        wish = RefundWish(order_id, kind, units, amount, restock, "broken", self.customer)
        async with self.database.transaction() as tx:
            (asked,), due = await after_order.refund(tx, [wish], self.assembly.definitions.refund)
        await self.assembly.streams.offer_all(by_queue(due))
        return asked

    async def ask(self, statement: str, *arguments: Any) -> list[Any]:
        async with self.database.connection() as tx:
            return list(await tx.fetch(statement, *arguments))

    async def value(self, statement: str, *arguments: Any) -> Any:
        async with self.database.connection() as tx:
            return await tx.fetchval(statement, *arguments)

    async def ended(self, *order_ids: UUID, within: float = 20) -> list[Any]:
        """The orders' rows once all of them have ended, in the order asked."""

        async def all_ended() -> list[Any] | None:
            rows = {
                row["id"]: row
                for row in await self.ask(
                    "SELECT orders.*, sagas.state AS saga_state, reached FROM orders JOIN sagas ON sagas.id = saga_id "
                    "WHERE orders.id = ANY($1) AND sagas.ended_at IS NOT NULL",
                    list(order_ids),
                )
            }
            return [rows[one] for one in order_ids] if len(rows) == len(set(order_ids)) else None

        rows: list[Any] = await until(all_ended, within=within)
        return rows

    async def stock(self, product_id: UUID) -> tuple[int, int]:
        """(on hand, held)"""
        row = (await self.ask("SELECT sum(on_hand) AS a, sum(held) AS b FROM stock WHERE product_id = $1", product_id))[
            0
        ]
        return int(row["a"]), int(row["b"])

    async def events(self, order_id: UUID) -> list[str]:
        return [
            row["type"]
            for row in await self.ask(
                "SELECT type FROM outbox WHERE aggregate_id = $1 OR payload->>'orderId' = $1::text ORDER BY at, id",
                order_id,
            )
        ]


async def registered(tx: Tx, count: int) -> list[UUID]:
    """Accounts."""
    people = [
        accounts.Registration(f"{uuid4()}@example.com", "no hash", "Ana", "García", language="es") for _ in range(count)
    ]
    return [one.id for one in await accounts.register(tx, people) if isinstance(one, accounts.Account)]


async def until(look: Callable[[], Awaitable[Any]], *, within: float = 20) -> Any:
    """What `look` finds, as soon as it is something."""
    async with asyncio.timeout(within):
        while not (found := await look()):
            await asyncio.sleep(0.02)
    return found


@asynccontextmanager
async def shop(
    database_url: str,
    redis_url: str,
    *,
    gateway: FakeGateway | None = None,
    patience: float = 600,
    reservation: float = 600,
    workers: int = 1,
    queues: Sequence[str] = QUEUES,
    lease: float = 1.0,
    has_relay: bool = True,
    sender: Sender | None = None,
    **more: Any,
) -> AsyncIterator[Shop]:
    """Open it: `workers` workers on all queues, and a relay. `more`: settings."""
    gateway = gateway or FakeGateway()
    database = await Database.open(database_url, name="shop", size=20)
    streams = Streams.open(redis_url, name="shop", block=0.2)
    times = Patience(BASE, timedelta(seconds=patience), timedelta(seconds=reservation))
    delivery = delivery_saga(MockProvider(database), times.delivery())
    charge = Charge(gateway, SharedBreaker(database, Rule(pause=BASE * 2.5)))
    notifications = Notifications(delivery)
    order = order_saga(charge, Refund(gateway), notifications, times)
    given_back = refund_saga(GiveBack(gateway), notifications, times)
    alert = alert_saga(None, times.delivery())
    known = Definitions(
        order, given_back, delivery, alert, webhook_saga(sender, times.webhook()), notifications, unheard
    )
    catalogue = Catalogue()
    placing = PlaceOrder(database, streams, catalogue, order, most_open=None)
    settings = Settings(database_url=database_url, redis_url=redis_url, **more)
    assembly = Assembly(settings, "shop", database, database, streams, gateway, catalogue, known, placing)
    async with database.transaction() as tx:
        (customer,) = await registered(tx, 1)
    stop = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as running:
            for number in range(workers):
                worker = Worker(
                    database,
                    streams,
                    assembly.sagas,
                    name=f"worker-{number}",
                    queues=queues,
                    lease=timedelta(seconds=lease),
                )
                running.create_task(worker.run(stop))
            if has_relay:
                running.create_task(relay.run(assembly, stop))
            try:
                yield Shop(assembly, gateway, customer)
            finally:
                stop.set()
    finally:
        await streams.close()
        await database.close()
