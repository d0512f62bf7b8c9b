"""Messages to customers: stored with the change that they tell of, delivered by a saga of their own."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import msgspec

from comanda import tracing
from comanda.db import Record, Tx, twin
from comanda.errors import ConfigurationFault
from comanda.notifications.providers import Outgoing, Provider
from comanda.notifications.render import ACCOUNT_KINDS, AccountKind, render
from comanda.resilience.backoff import Policy
from comanda.saga import Done, Failed, Job, Outcome, Passage, Saga, Start, nothing, remote, start
from comanda.saga.definition import Due

_sql = twin(__file__)
STORE = _sql["store"]
STORE_SHIPPED = _sql["store_shipped"]
STORE_REFUNDED = _sql["store_refunded"]
STORE_ACCOUNT = _sql["store_account"]
PENDING = _sql["pending"]
SETTLE = _sql["settle"]
SKIP = _sql["skip"]
RETRACT = _sql["retract"]

_AFTER_THE_ORDERS = 2  # priority: a mail may wait while orders don't

TokenOf = Callable[[UUID], str]
"""What an account's mail carries, by the id that is stored."""


def _no_token(_token_id: UUID) -> str:
    raise ConfigurationFault("nobody here can make what account mails carry")


def delivery_saga(provider: Provider, retry: Policy, token_of: TokenOf = _no_token) -> Saga:
    """How a message gets out. One that can't be delivered waits for an operator: nobody is told less than promised."""
    return Saga(
        "notification",
        steps=[
            remote(
                "deliver",
                Delivery(provider, token_of),
                compensate=nothing,
                queue="notification-sending",
                reached="DELIVERED",
                retry=retry,
                exhausted="stuck",
            )
        ],
        follow=_follow,
    )


class Notifications:
    """Stores messages, and starts the delivery of each in the same transaction."""

    def __init__(self, delivery: Saga) -> None:
        self._delivery = delivery

    async def confirm(self, tx: Tx, order_ids: Sequence[UUID]) -> Sequence[Outcome]:
        """Tell the customers that their orders are confirmed."""
        started = await self._store(tx, order_ids, [None] * len(order_ids), "order_confirmation")
        outcomes: list[Outcome] = [Done() for _ in order_ids]
        if outcomes:
            outcomes[0] = Done(started=tuple(started))
        return outcomes

    async def cancelled(self, tx: Tx, order_ids: Sequence[UUID], reasons: Sequence[str]) -> Sequence[Due]:
        """Tell the customers that their orders came to nothing, and why; the deliveries that this starts."""
        return await self._store(tx, order_ids, reasons, "order_cancellation")

    async def shipped(self, tx: Tx, shipment_ids: Sequence[UUID]) -> Sequence[Due]:
        """Tell the customers that parcels are on their way; the deliveries of these messages."""
        return await self._deliver(tx, _with_their_traces(await STORE_SHIPPED.rows(tx, shipment_ids)))

    async def refunded(self, tx: Tx, refund_ids: Sequence[UUID]) -> Sequence[Due]:
        """Tell the customers that money is on its way back."""
        return await self._deliver(tx, _with_their_traces(await STORE_REFUNDED.rows(tx, refund_ids)))

    async def account(
        self, tx: Tx, kind: AccountKind, mails: Sequence[tuple[UUID, UUID]], correlation_ids: Sequence[str]
    ) -> Sequence[Due]:
        """Send accounts what shows that they can read their mail: (account, token), each token once."""
        accounts, tokens = [account for account, _ in mails], [token for _, token in mails]
        about = dict(zip(tokens, correlation_ids, strict=True))
        rows = await STORE_ACCOUNT.rows(tx, accounts, tokens, kind)
        return await self._deliver(tx, [(row["id"], about[row["occasion"]], tracing.current()) for row in rows])

    async def retract(self, tx: Tx, order_ids: Sequence[UUID]) -> Sequence[Outcome]:
        """Hold back confirmations that have not gone out yet."""
        await RETRACT.run(tx, order_ids)
        return [Done()] * len(order_ids)

    async def _store(
        self, tx: Tx, order_ids: Sequence[UUID], reasons: Sequence[str | None], kind: str
    ) -> Sequence[Due]:
        return await self._deliver(tx, _with_their_traces(await STORE.rows(tx, order_ids, reasons, kind)))

    async def _deliver(self, tx: Tx, stored: Sequence[tuple[UUID, str, str | None]]) -> Sequence[Due]:
        if not stored:
            return []
        starts = [
            Start.of(self._delivery, one, about, priority=_AFTER_THE_ORDERS, traceparent=trace)
            for one, about, trace in stored
        ]
        return await start(tx, starts)


def _with_their_traces(rows: Sequence[Record]) -> list[tuple[UUID, str, str | None]]:
    """Id, correlation id and trace of each message."""
    return [(row["id"], row["correlation_id"], tracing.of(row["order_id"], row["occasion"])) for row in rows]


class Delivery:
    """Hand a message to its provider. The key is the provider's: the same message twice is one message."""

    def __init__(self, provider: Provider, token_of: TokenOf = _no_token) -> None:
        self._provider = provider
        self._token_of = token_of

    async def prepare(self, tx: Tx, jobs: Sequence[Job]) -> Sequence[Outgoing | Outcome]:
        rows = {row["id"]: row for row in await PENDING.rows(tx, [job.subject for job in jobs])}
        return [self._outgoing(rows[job.subject]) if job.subject in rows else Done() for job in jobs]

    async def call(self, request: Outgoing, key: str) -> str:
        return await self._provider.send(request, key)

    async def record(self, tx: Tx, jobs: Sequence[Job], answers: Sequence[Any]) -> Sequence[Outcome]:
        is_sent = [isinstance(answer, str) for answer in answers]
        await SETTLE.run(
            tx,
            [job.subject for job in jobs],
            ["SENT" if sent else "PENDING" for sent in is_sent],
            [answer if isinstance(answer, str) else None for answer in answers],
            [None if isinstance(answer, str) else str(answer) for answer in answers],
        )
        return [
            Done() if sent else Failed(str(answer) or repr(answer))
            for sent, answer in zip(is_sent, answers, strict=True)
        ]

    def _outgoing(self, row: Any) -> Outgoing:
        variables = msgspec.json.decode(row["variables"])
        if row["kind"] in ACCOUNT_KINDS:
            variables["token"] = self._token_of(row["occasion"])
        message = render(row["kind"], row["channel"], row["language"], variables)
        return Outgoing(row["channel"], row["recipient"], message.subject, message.text, message.html, row["order_id"])


async def _follow(tx: Tx, passages: Sequence[Passage]) -> None:
    skipped = [one.subject for one in passages if one.is_by_hand and one.direction == "forward"]
    if skipped:
        await SKIP.run(tx, skipped)
    failed = [one.subject for one in passages if one.event == "stuck"]
    if failed:
        count = len(failed)
        await SETTLE.run(tx, failed, ["FAILED"] * count, [None] * count, ["given up on"] * count)
