"""Moves events on: from the outbox to the stream that other systems read. At least once, in order, never past a gap."""

from collections.abc import Callable, Sequence

from comanda import telemetry, tracing
from comanda.db import Database, Record
from comanda.failpoints import Boundary
from comanda.messaging import outbox
from comanda.messaging.streams import EVENTS, Streams

PUBLISH = Boundary("outbox.publish")

SINK = "events"
_BATCH = 500


async def publish(database: Database, streams: Streams, published: Callable[[Sequence[Record]], None]) -> bool:
    """Publish the next events; whether there may be more.

    The cursor moves in the transaction that is open while Redis is told: a crash between the two repeats events
    (their ids are the same), it never loses one.

    Args:
        database: where the outbox is.
        streams: where events go.
        published: told about the events once the cursor stands behind them.
    """
    async with database.transaction(PUBLISH) as tx:
        events = await outbox.take(tx, SINK, _BATCH)
        if events:
            await streams.publish([outbox.envelope(event) for event in events])
    if not events:
        return False
    telemetry.BATCHES.labels("publish").observe(len(events))
    _trace(events)
    published(events)
    return len(events) == _BATCH


def _trace(events: Sequence[Record]) -> None:
    """How long its events took from their commit to here, in each trace that they are of."""
    if not tracing.is_on():
        return
    found: dict[str, list[Record]] = {}
    for event in events:
        if event["traceparent"] is not None:
            found.setdefault(event["traceparent"], []).append(event)
    for traceparent, mine in found.items():
        tracing.tell(
            "outbox publish",
            traceparent,
            kind="PRODUCER",
            attributes={
                "messaging.destination.name": EVENTS,
                "messaging.batch.message_count": len(events),
                "comanda.events": [event["type"] for event in mine],
            },
            began=min(event["at"] for event in mine).timestamp(),
        )
