"""Comanda, put together by hand, top to bottom. Every collaborator is an argument; there is nothing global to find."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from comanda import telemetry
from comanda.accounts.one_time import OneTime
from comanda.catalog.cache import Catalogue
from comanda.checkout.order_saga import Patience, order_saga
from comanda.checkout.place_order import PlaceOrder
from comanda.checkout.refund_saga import refund_saga
from comanda.db import Database, Replica
from comanda.db.database import LISTS, PATIENCE
from comanda.errors import ConfigurationFault
from comanda.messaging.streams import Streams
from comanda.notifications.alerts import Alerts, Webhook, alert_saga
from comanda.notifications.notifications import Notifications, delivery_saga
from comanda.notifications.providers import MockProvider
from comanda.payments.breaker import SharedBreaker
from comanda.payments.gateway import Gateway, HttpGateway, InstantGateway
from comanda.payments.payments import Charge, Refund
from comanda.payments.refunds import GiveBack
from comanda.resilience.breaker import Rule
from comanda.resilience.loops import loop
from comanda.saga import Saga
from comanda.saga.definition import Alarm, unheard
from comanda.saga.settling import Settling
from comanda.settings import Settings
from comanda.webhooks.deliveries import webhook_saga
from comanda.webhooks.sender import Sender

_MEASURE_EVERY = 2.0  # seconds
_REPLICA = 8  # connections to the replica
_OF_PATIENCE = 0.4  # that a read may take there: the primary is asked with the rest
_LISTS = 4  # connections for lists and searches; none until one is asked for


@dataclass(frozen=True)
class Definitions:
    """The processes that there are, and what is done about their dead letters."""

    order: Saga
    refund: Saga
    delivery: Saga
    alert: Saga
    webhook: Saga
    notifications: Notifications
    alarm: Alarm

    @property
    def sagas(self) -> tuple[Saga, ...]:
        return self.order, self.refund, self.delivery, self.alert, self.webhook


@dataclass(frozen=True)
class Assembly:
    """What the processes stand on."""

    settings: Settings
    name: str
    database: Database
    lists: Database
    streams: Streams
    gateway: Gateway
    catalogue: Catalogue
    definitions: Definitions
    place_order: PlaceOrder
    replica: Replica | None = None

    @property
    def order(self) -> Saga:
        return self.definitions.order

    @property
    def sagas(self) -> tuple[Saga, ...]:
        return self.definitions.sagas

    @property
    def one_time(self) -> OneTime:
        return OneTime(self.settings.secret_key.get_secret_value())

    @property
    def alarm(self) -> Alarm:
        return self.definitions.alarm

    def by_hand(self, actor: str) -> Settling:
        """What settles what an operator decides."""
        return Settling.by_hand(self.sagas, actor=actor, lease=self.settings.lease, alarm=self.alarm)


@asynccontextmanager
async def assemble(
    settings: Settings, *, name: str, pool: int = 10, patience: float = PATIENCE
) -> AsyncIterator[Assembly]:
    """Connect, and close everything at the end.

    Args:
        settings: with DATABASE_URL and REDIS_URL set.
        name: of this process: `api-1`, `worker-2`.
        pool: connections to PostgreSQL at the most, unless POOL_SIZE says otherwise.
        patience: seconds that a statement may take.

    Raises:
        ConfigurationFault: something that has to be set is not.
        DatabaseFault: PostgreSQL does not answer.
    """
    for setting in ("database_url", "redis_url"):
        if not getattr(settings, setting):
            raise ConfigurationFault(f"COMANDA_{setting.upper()} is not set; `comanda up` starts engines of its own")
    async with AsyncExitStack() as stack:
        database = await Database.open(
            settings.database_url, name=f"comanda-{name}", size=settings.pool_size or pool, patience=patience
        )
        stack.push_async_callback(database.close)
        lists = await Database.open(
            settings.database_url,
            name=f"comanda-{name}-lists",
            size=_LISTS,
            least=0,
            patience=patience,
            session=LISTS,
        )
        stack.push_async_callback(lists.close)
        replica = await _replica(settings, name, patience, stack)
        await stack.enter_async_context(_measured({"main": database, "lists": lists}))
        streams = Streams.open(settings.redis_url, name=name)
        stack.push_async_callback(streams.close)
        gateway = await _gateway(settings, stack)

        webhook = await _webhook(settings, stack)
        sender = await stack.enter_async_context(
            Sender(timeout=settings.webhook_timeout_seconds, allowed=settings.webhook_allowed)
        )
        known = definitions(settings, database, gateway, webhook, sender)
        catalogue = Catalogue()
        most_open = settings.max_open_orders if settings.rate_limits == "on" else None
        placing = PlaceOrder(
            database, streams, catalogue, known.order, most_open=most_open, patience=settings.request_seconds
        )
        yield Assembly(settings, name, database, lists, streams, gateway, catalogue, known, placing, replica)


@asynccontextmanager
async def _measured(pools: Mapping[str, Database]) -> AsyncIterator[None]:
    """Watch the pools meanwhile."""

    async def measure() -> bool:
        for name, pool in pools.items():
            used = pool.size - pool.idle
            telemetry.POOL.labels(name, "used").set(used)
            telemetry.POOL.labels(name, "idle").set(pool.idle)
            telemetry.POOL_USED.labels(name).set(used / pool.limit)
        return False

    stop = asyncio.Event()
    measuring = asyncio.create_task(loop("pools", measure, stop=stop, every=_MEASURE_EVERY))
    try:
        yield
    finally:
        stop.set()
        await measuring


def definitions(
    settings: Settings, database: Database, gateway: Gateway, webhook: Webhook | None, sender: Sender | None
) -> Definitions:
    """The sagas, on what they call. Without a webhook nobody is alerted, without a sender no event is sent."""
    patience = Patience(
        base=timedelta(seconds=settings.retry_base_seconds),
        payment=timedelta(seconds=settings.payment_patience_seconds),
        reservation=timedelta(seconds=settings.reservation_ttl_seconds),
    )
    # Half-way between the first two retries, as 5 s are with the usual base of 2 s.
    rule = Rule(threshold=5, pause=patience.base * 2.5)
    one_time = OneTime(settings.secret_key.get_secret_value())
    delivery = delivery_saga(MockProvider(database), patience.delivery(), one_time.token)
    alert = alert_saga(webhook, patience.delivery())
    charge, refund = Charge(gateway, SharedBreaker(database, rule)), Refund(gateway)
    notifications = Notifications(delivery)
    return Definitions(
        order_saga(charge, refund, notifications, patience),
        refund_saga(GiveBack(gateway), notifications, patience),
        delivery,
        alert,
        webhook_saga(sender, patience.webhook()),
        notifications,
        unheard if webhook is None else Alerts(alert).sound,
    )


async def _replica(settings: Settings, name: str, patience: float, stack: AsyncExitStack) -> Replica | None:
    if not settings.database_replica_url:
        return None
    replica = await Replica.open(
        settings.database_replica_url,
        settings.database_url,
        name=f"comanda-{name}-replica",
        size=_REPLICA,
        most_behind=settings.replica_lag_seconds,
        patience=min(patience, settings.request_seconds) * _OF_PATIENCE,
    )
    stack.push_async_callback(replica.close)
    return replica


async def _webhook(settings: Settings, stack: AsyncExitStack) -> Webhook | None:
    if not settings.alert_webhook_url:
        return None
    return await stack.enter_async_context(
        Webhook(settings.alert_webhook_url, timeout=settings.gateway_timeout_seconds)
    )


async def _gateway(settings: Settings, stack: AsyncExitStack) -> Gateway:
    if settings.gateway == "instant":
        return InstantGateway()
    if not settings.gateway_url:
        raise ConfigurationFault("COMANDA_GATEWAY_URL is not set; `comanda up` starts a mock gateway of its own")
    return await stack.enter_async_context(HttpGateway(settings.gateway_url, timeout=settings.gateway_timeout_seconds))
