"""Who carries messages. The mocks put them into a mailbox that can be read."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

import msgspec

from comanda import telemetry, tracing
from comanda.db import Batcher, Database, twin
from comanda.failpoints import Boundary

SEND = Boundary("mailbox.send")

_sql = twin(__file__)
DELIVER = _sql["deliver"]


class Outgoing(msgspec.Struct, frozen=True):
    """A message as it leaves; `channel` is email or sms."""

    channel: str
    recipient: str
    subject: str
    text: str
    html: str | None
    order_id: UUID | None
    correlation_id: str | None = None


class Provider(Protocol):
    """Whoever is asked twice under one key sends once."""

    async def send(self, message: Outgoing, key: str) -> str:
        """Send; the provider's own id of the message. Raises a `DependencyFault` when it does not answer."""


class MockProvider:
    """E-mail and SMS into the mailbox. An outside party in spirit: it commits for itself, many messages at once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._batches: Batcher[tuple[Outgoing, str], str] = Batcher(self._deliver, limit=500)

    async def send(self, message: Outgoing, key: str) -> str:
        with tracing.outside("mailbox send", comanda__channel=message.channel):
            return await self._batches.submit(
                (msgspec.structs.replace(message, correlation_id=telemetry.correlation_id()), key)
            )

    async def _deliver(self, messages: Sequence[tuple[Outgoing, str]]) -> Sequence[str]:
        async with self._database.connection(SEND) as connection:
            await DELIVER.run(
                connection,
                [key for _, key in messages],
                [message.channel for message, _ in messages],
                [message.recipient for message, _ in messages],
                [message.subject for message, _ in messages],
                [message.text for message, _ in messages],
                [message.html for message, _ in messages],
                [message.order_id for message, _ in messages],
                [message.correlation_id for message, _ in messages],
            )
        return [f"mock-{key}" for _, key in messages]
