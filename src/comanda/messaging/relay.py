"""Moves events on: from the outbox to the stream that other systems read. At least once, in order, never past a gap."""

from collections.abc import Callable, Sequence

from comanda import telemetry
from comanda.db import Database, Record
from comanda.failpoints import Boundary
from comanda.messaging import outbox
from comanda.messaging.streams import Streams

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
    published(events)
    return len(events) == _BATCH
