"""The relay: moves events on, hints at what is due, ends reservations, works off files and bulk acts. Many may run."""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

import msgspec

from comanda import telemetry, tracing
from comanda.accounts import attempts, console_sessions, one_time, resets, sessions
from comanda.assembly import Assembly
from comanda.bulk import chunks
from comanda.bulk.chunks import Pace
from comanda.db import Database, Record, Tx
from comanda.db.listener import listen
from comanda.db.partitions import keep_partitions
from comanda.failpoints import Boundary
from comanda.idempotency import keys
from comanda.imports import batches, imports
from comanda.inventory import stock
from comanda.messaging import dead_letters, outbox
from comanda.messaging.queues import QUEUES
from comanda.messaging.relay import SINK, publish
from comanda.payments import breaker
from comanda.resilience.loops import loop, nap
from comanda.saga import log, rescue, throughput
from comanda.webhooks import deliveries

EXPIRE = Boundary("inventory.expire")
RESET = Boundary("relay.reset")
SWEEP = Boundary("relay.sweep")

_log = telemetry.log("orders")
_PUBLISH_EVERY = 0.5  # seconds; notifications come between
_GATHER = 0.05  # seconds that the first event of a batch waits for company
_NOBODY_NAP = 1.0  # until it is looked again whether any system wants events
_PROMOTE_EVERY = 0.1
_RESCUE_EVERY = 1.0
_EXPIRE_EVERY = 1.0
_IMPORT_EVERY = 0.5
_BULK_EVERY = 0.25
_RESET_EVERY = 0.5
_MEASURE_EVERY = 2.0
_SWEEP_EVERY = 60.0
_BATCH = 500
_KEYS_LIVE = timedelta(hours=48)
_DELIVERIES_LIVE = timedelta(days=30)
_GONE_AFTER = 600.0  # seconds after which a silent worker's name is dropped
_STATUS = {"OrderConfirmed": "CONFIRMED", "OrderCancelled": "CANCELLED"}


async def run(assembly: Assembly, stop: asyncio.Event) -> None:
    """Until told to stop."""
    database, streams = assembly.database, assembly.streams
    wake, wanted = asyncio.Event(), asyncio.Event()
    rescuer = rescue.Rescuer(database, streams)

    async def relay() -> bool:
        await asyncio.sleep(_GATHER)
        return await publish(database, streams, _count)

    async def send_on() -> bool:
        await asyncio.sleep(_GATHER)
        found = await deliveries.fan_out(database, assembly.definitions.webhook)
        if found is None:
            await nap(_NOBODY_NAP, stop)
            return False
        due, is_more = found
        await streams.offer_all(rescue.by_queue(due))
        return is_more

    async def promote() -> bool:
        return await rescue.promote(database, streams)

    async def offer_again() -> bool:
        await rescuer.offer_again(time.monotonic())
        return False

    async def expire() -> bool:
        async with database.transaction(EXPIRE) as tx:
            return await stock.expire(tx, _BATCH) == _BATCH

    async def sweep() -> bool:
        async with database.connection(SWEEP) as tx:
            gone = [
                await keys.forget(tx, _KEYS_LIVE, _BATCH),
                await sessions.forget(tx, _BATCH),
                await console_sessions.forget(tx, _BATCH),
                await one_time.forget(tx, _BATCH),
                await attempts.forget(tx, _BATCH),
                await deliveries.forget(tx, _DELIVERIES_LIVE, _BATCH),
                await _forget_imports(tx, assembly.settings.import_days),
            ]
            await throughput.forget(tx)
            await keep_partitions(tx, assembly.settings.audit_days)
        for queue in QUEUES:
            await streams.forget_consumers(queue, _GONE_AFTER)
        return _BATCH in gone

    async def measure() -> bool:
        await _measure(database)
        return False

    async with asyncio.TaskGroup() as loops:
        loops.create_task(
            listen(database.url, "comanda_outbox", wake, wanted, stop=stop, name=f"comanda-{assembly.name}-listen")
        )
        loops.create_task(loop("webhooks", send_on, stop=stop, every=_PUBLISH_EVERY, wake=wanted))
        loops.create_task(loop("outbox", relay, stop=stop, every=_PUBLISH_EVERY, wake=wake))
        loops.create_task(loop("promote", promote, stop=stop, every=_PROMOTE_EVERY))
        loops.create_task(loop("rescue", offer_again, stop=stop, every=_RESCUE_EVERY))
        loops.create_task(loop("expire", expire, stop=stop, every=_EXPIRE_EVERY))
        loops.create_task(loop("imports", partial(_import_lines, database), stop=stop, every=_IMPORT_EVERY))
        loops.create_task(loop("bulk", partial(_act_in_bulk, assembly), stop=stop, every=_BULK_EVERY))
        loops.create_task(loop("reset", partial(_reset, assembly), stop=stop, every=_RESET_EVERY))
        loops.create_task(loop("measure", measure, stop=stop, every=_MEASURE_EVERY))
        loops.create_task(loop("sweep", sweep, stop=stop, every=_SWEEP_EVERY))


async def _import_lines(database: Database) -> bool:
    worked = await batches.advance(database)
    if worked is None:
        return False
    for outcome, count in worked.counts.items():
        telemetry.IMPORTED.labels(worked.standing.kind, outcome).inc(count)
    return True


async def _act_in_bulk(assembly: Assembly) -> bool:
    """The next chunk of what operators do to many; whether there may be more."""
    pace = Pace.of(assembly.settings.bulk_rate, assembly.settings.max_backlog)
    worked = await chunks.advance(assembly.database, assembly.by_hand, pace)
    if worked is None:
        return False
    for outcome, count in worked.counts.items():
        telemetry.BULK.labels(worked.standing.verb, outcome).inc(count)
    await assembly.streams.offer_all(worked.onward)
    return not worked.standing.is_held_back


async def _forget_imports(tx: Tx, days: int) -> int:
    return await imports.forget(tx, timedelta(days=days), _BATCH) if days else 0


async def _reset(assembly: Assembly) -> bool:
    """Mail a code to the accounts whose passwords are said to be forgotten; whether there may be more."""
    async with assembly.database.transaction(RESET) as tx:
        asked, is_more = await resets.take(tx, _BATCH)
        ids = [one.account_id for one in asked]
        tokens = await one_time.issue(tx, assembly.one_time, ids, "reset_password") if ids else []
        mails = list(zip(ids, tokens, strict=True))
        told = assembly.definitions.notifications
        due = await told.account(tx, "password_reset", mails, [one.correlation_id for one in asked]) if mails else []
    await assembly.streams.offer_all(rescue.by_queue(due))
    return is_more


async def _measure(database: Database) -> None:
    """How queues, outbox and breaker stand, for all of Comanda."""
    async with database.connection() as tx:
        for row in await log.ready(tx):
            telemetry.QUEUE_LENGTH.labels(row["queue"]).set(row["ready"])
            telemetry.OLDEST_DUE.labels(row["queue"]).set(row["oldest_seconds"])
        telemetry.STUCK.set(await log.stuck_count(tx))
        telemetry.DEAD_LETTERS.set(await dead_letters.open_count(tx))
        for sink in (SINK, deliveries.SINK):
            behind, age = await outbox.lag(tx, sink)
            telemetry.OLDEST_EVENT.labels(sink).set(age)
            if sink == SINK:
                telemetry.OUTBOX_BEHIND.set(behind)
        telemetry.BREAKER.set(await breaker.is_open(tx))
    telemetry.MEASURED.set_to_current_time()


def _count(events: Sequence[Record]) -> None:
    """The business metrics come from the events: each is counted once, whichever worker ended the order."""
    for event in events:
        status = _STATUS.get(event["type"])
        if status is None:
            continue
        payload = msgspec.json.decode(event["payload"])
        telemetry.ORDERS.labels(status).inc()
        telemetry.DURATION.observe(payload["seconds"])
        _log.info(
            "order ended",
            orderId=str(event["aggregate_id"]),
            correlationId=event["correlation_id"],
            **({"traceId": tracing.trace_id(event["traceparent"])} if event["traceparent"] else {}),
            userId=payload["customerId"],
            status=status,
            reason=payload.get("reason"),
            duration=payload["seconds"],
        )
