"""Events on their way to the shop's systems: fanned out by the relay, each delivered by a saga of its own, in order."""

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import msgspec

from comanda import tracing
from comanda.clock import new_id, rfc3339
from comanda.db import Database, Record, Tx, twin
from comanda.failpoints import Boundary
from comanda.messaging import outbox
from comanda.resilience.backoff import Policy
from comanda.resilience.turns import Turns
from comanda.saga import Done, Failed, Job, Later, Outcome, Passage, Refused, Saga, Start, log, nothing, remote, start
from comanda.saga.definition import Due
from comanda.webhooks import endpoints
from comanda.webhooks.model import TEST
from comanda.webhooks.sender import Answered, NotSent, Request, Sender

_sql = twin(__file__)
FAN_OUT = _sql["fan_out"]
SEND = _sql["send"]
SEND_THESE_AGAIN = _sql["send_these_again"]
SEND_A_TIME_AGAIN = _sql["send_a_time_again"]
FORGET = _sql["forget"]
DUE = _sql["due"]
ATTEMPTED = _sql["attempted"]
SETTLE = _sql["settle"]
FOLLOWING = _sql["following"]
MUTE_SINCE = _sql["mute_since"]
PAGE = _sql["page"]
FIND = _sql["find"]
ATTEMPTS = _sql["attempts"]

FAN = Boundary("webhook.fan_out")

SINK = "webhooks"
MOST_AGAIN = 10_000
_BATCH = 500
_AFTER_THE_ORDERS = 2  # priority
_BEHIND = timedelta(hours=1)  # who comes next is woken by whoever ends, and none of those behind it before
# Calls that a worker has out. The places of its queue (500) are shared with the customers' mails, and who hangs takes
# them for seconds: half of them is left to the mails, most of the other half to endpoints that answer.
_AT_ONCE = 250
_AT_ONCE_TO_ONE = 50
_AT_ONCE_TO_THE_MUTE = 2
_FULL = 5.0  # seconds
_NO_ID_IS_GREATER = UUID(int=2**128 - 1)

State = Literal["PENDING", "DELIVERED", "FAILED"]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one endpoint. `is_again`: somebody asked for it once more."""

    id: UUID
    endpoint_id: UUID
    event_id: UUID
    event_type: str
    body: str
    is_again: bool
    state: State
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try. `status` None: nobody answered, and `error` says why."""

    delivery_id: UUID
    attempt: int
    at: datetime
    headers: Mapping[str, str]
    status: int | None
    answer: str | None
    error: str | None
    duration_ms: float


def webhook_saga(sender: Sender | None, retry: Policy) -> Saga:
    """How an event gets to an endpoint. One that can't be delivered in days is given up on; the log keeps it."""
    return Saga(
        "webhook",
        steps=[
            remote(
                "deliver",
                _Posting(sender),
                compensate=nothing,
                queue="notification-sending",
                reached="DELIVERED",
                retry=retry,
            )
        ],
        undone=_given_up,
        follow=_let_through,
    )


async def fan_out(database: Database, saga: Saga) -> tuple[Sequence[Due], bool] | None:
    """Take the next events of the outbox to every endpoint that wants them.

    Returns:
        The deliveries that are due now, and whether there may be more events; None where nobody wants any.
    """
    async with database.transaction(FAN) as tx:
        if not await endpoints.is_anybody_there(tx):
            await outbox.skip(tx, SINK)
            return None
        events = await outbox.take(tx, SINK, _BATCH)
        if not events:
            return (), False
        rows = await FAN_OUT.rows(
            tx,
            [row["id"] for row in events],
            [row["type"] for row in events],
            [_lane(row) for row in events],
            [_body(row) for row in events],
            [row["correlation_id"] or str(row["id"]) for row in events],
            [row["at"] for row in events],
            [row["traceparent"] for row in events],
        )
        return await _begin(tx, saga, rows), len(events) == _BATCH


async def ping(
    tx: Tx, saga: Saga, endpoint_ids: Sequence[UUID], correlation_id: str, at: datetime
) -> tuple[list[UUID], Sequence[Due]]:
    """Send each a test, whatever it wants; the deliveries."""
    ids, events = [new_id() for _ in endpoint_ids], [new_id() for _ in endpoint_ids]
    bodies = [
        msgspec.json.encode({"id": event, "type": TEST, "timestamp": rfc3339(at), "data": {"endpointId": one}}).decode()
        for event, one in zip(events, endpoint_ids, strict=True)
    ]
    count = len(ids)
    correlation_ids = [correlation_id] * count
    rows = await SEND.rows(tx, ids, endpoint_ids, events, [TEST] * count, bodies, correlation_ids, tracing.current())
    return ids, await _begin(tx, saga, rows)


async def send_again(
    tx: Tx,
    saga: Saga,
    endpoint_id: UUID,
    *,
    ids: Sequence[UUID] | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> tuple[list[UUID], Sequence[Due]]:
    """Deliver once more what has ended: these, or all of a time, 10,000 at the most; the new deliveries."""
    if ids is not None:
        rows = await SEND_THESE_AGAIN.rows(tx, endpoint_id, ids)
    else:
        rows = await SEND_A_TIME_AGAIN.rows(tx, endpoint_id, since, until, MOST_AGAIN)
    return [row["id"] for row in rows], await _begin(tx, saga, rows)


async def forget(tx: Tx, age: timedelta, limit: int) -> int:
    """Delete what ended longer than `age` ago, with its tries and its saga; how many."""
    gone = [row["id"] for row in await FORGET.rows(tx, age, limit)]
    await log.forget(tx, gone, "webhook")
    return len(gone)


async def page(tx: Tx, endpoint_id: UUID, state: State | None, *, before: UUID | None, limit: int) -> list[Delivery]:
    """The newest deliveries to an endpoint, older than `before`."""
    rows = await PAGE.rows(tx, endpoint_id, state, before or _NO_ID_IS_GREATER, limit)
    return [Delivery(**dict(row)) for row in rows]


async def find(tx: Tx, ids: Sequence[UUID]) -> list[Delivery | None]:
    """Deliveries by their ids; None where there is none."""
    found = {row["id"]: Delivery(**dict(row)) for row in await FIND.rows(tx, ids)}
    return [found.get(one) for one in ids]


async def attempts(tx: Tx, ids: Sequence[UUID]) -> dict[UUID, list[Attempt]]:
    """Every try of these deliveries, in order."""
    found: dict[UUID, list[Attempt]] = {one: [] for one in ids}
    for row in await ATTEMPTS.rows(tx, ids):
        fields = dict(row)
        fields["headers"] = msgspec.json.decode(fields["headers"] or "{}")
        found[row["delivery_id"]].append(Attempt(**fields))
    return found


class _Posting:
    def __init__(self, sender: Sender | None) -> None:
        self._sender = sender
        self._out: Counter[UUID] = Counter()
        self._turns: dict[UUID, Turns] = {}  # by endpoint: one's crowd is no reason for another's few to wait
        self._mute: set[UUID] = set()  # endpoints that did not answer the last call that has come back

    async def prepare(self, tx: Tx, jobs: Sequence[Job]) -> Sequence[Request | Outcome]:
        rows = {row["id"]: row for row in await DUE.rows(tx, [job.subject for job in jobs])}
        room = {row["endpoint_id"]: self._room(row["endpoint_id"]) for row in rows.values()}
        left = _AT_ONCE - self._out.total()
        now = time.monotonic()
        self._turns = {one: turns for one, turns in self._turns.items() if turns.are_out(now)}
        asked: list[Request | Outcome] = []
        for job in jobs:
            one = _asked(rows[job.subject], lambda endpoint_id: self._turn(endpoint_id, now))
            if isinstance(one, Request):
                if left <= 0 or room[one.endpoint_id] <= 0:
                    one = Later("RECEIVER_BUSY", self._turn(one.endpoint_id, now))
                else:
                    room[one.endpoint_id] -= 1
                    left -= 1
            asked.append(one)
        return asked

    def _room(self, endpoint_id: UUID) -> int:
        most = _AT_ONCE_TO_THE_MUTE if endpoint_id in self._mute else _AT_ONCE_TO_ONE
        return most - self._out[endpoint_id]

    def _turn(self, endpoint_id: UUID, now: float) -> timedelta:
        turns = self._turns.setdefault(endpoint_id, Turns())
        (wait,) = turns.next(1, _FULL, now, random.random(), crowds=len(self._turns))  # noqa: S311 - jitter
        return timedelta(seconds=wait)

    async def call(self, request: Request, key: str) -> Answered:  # noqa: ARG002 - the message has an id of its own
        if self._sender is None:
            raise NotSent("nobody sends here", {}, 0)
        self._out[request.endpoint_id] += 1
        try:
            answered = await self._sender.post(request)
        except NotSent:
            self._mute.add(request.endpoint_id)
            raise
        else:
            self._mute.discard(request.endpoint_id)
            return answered
        finally:
            self._out[request.endpoint_id] -= 1

    async def record(self, tx: Tx, jobs: Sequence[Job], answers: Sequence[Any]) -> Sequence[Outcome]:
        await ATTEMPTED.run(
            tx,
            [job.subject for job in jobs],
            [job.attempt for job in jobs],
            [msgspec.json.encode(getattr(answer, "headers", {})).decode() for answer in answers],
            [answer.status if isinstance(answer, Answered) else None for answer in answers],
            [answer.text if isinstance(answer, Answered) else None for answer in answers],
            [None if isinstance(answer, Answered) else str(answer) for answer in answers],
            [getattr(answer, "duration_ms", 0.0) for answer in answers],
        )
        outcomes = [_outcome(answer) for answer in answers]
        done = [job.subject for job, outcome in zip(jobs, outcomes, strict=True) if isinstance(outcome, Done)]
        await _disable_gone(
            tx, [job.subject for job, one in zip(jobs, outcomes, strict=True) if isinstance(one, Refused)]
        )
        due = await _end(tx, done, "DELIVERED")
        first = next((at for at, outcome in enumerate(outcomes) if isinstance(outcome, Done)), None)
        if first is not None:
            outcomes[first] = Done(started=tuple(due))
        return outcomes


def _asked(row: Record, turn: Callable[[UUID], timedelta]) -> Request | Outcome:
    if not row["is_wanted"]:
        return Refused("ENDPOINT_DISABLED")
    if row["is_behind"]:
        # As long as the first of its lane: an outage of days is not looked at each minute by all that wait.
        wait = turn(row["endpoint_id"]) if row["is_soon"] else _BEHIND
        return Later("WAITS_FOR_EARLIER", max(wait, row["first_waits"] or wait))
    signers = (row["secret"], *([row["old_secret"]] if row["old_secret"] else []))
    return Request(row["url"], str(row["event_id"]), row["body"], signers, row["endpoint_id"])


def _outcome(answer: Any) -> Outcome:
    match answer:
        case Answered() if answer.is_taken:
            return Done()
        case Answered() if answer.is_farewell:
            return Refused("GONE")
        case Answered(status=status):
            return Failed(f"the receiver answers {status}", "NOT_DELIVERED")
        case fault:
            return Failed(str(fault) or repr(fault), "NOT_DELIVERED")


async def _disable_gone(tx: Tx, delivery_ids: Sequence[UUID]) -> None:
    """Who answers 410 wants nothing any more."""
    if delivery_ids:
        gone = [one.endpoint_id for one in await find(tx, delivery_ids) if one is not None]
        await endpoints.disable(tx, sorted(set(gone)), "GONE")


async def _given_up(tx: Tx, delivery_ids: Sequence[UUID], reasons: Sequence[str]) -> Sequence[Due]:
    """The log says so, and who comes next in the lane is let through. Who took nothing since is asked no more."""
    undelivered = [one for one, reason in zip(delivery_ids, reasons, strict=True) if reason == "NOT_DELIVERED"]
    if undelivered:
        mute = [row["endpoint_id"] for row in await MUTE_SINCE.rows(tx, undelivered)]
        await endpoints.disable(tx, mute, "UNREACHABLE")
    return await _end(tx, delivery_ids, "FAILED")


async def _let_through(tx: Tx, passages: Sequence[Passage]) -> None:
    """What counts as done by hand was recorded by nobody: it counts as delivered, and its lane goes on."""
    skipped = [one.subject for one in passages if one.is_by_hand and one.direction == "forward"]
    await _end(tx, skipped, "DELIVERED")  # who comes next is due: a worker finds it by itself


async def _end(tx: Tx, delivery_ids: Sequence[UUID], state: State) -> Sequence[Due]:
    settled = [row["id"] for row in await SETTLE.rows(tx, delivery_ids, state)] if delivery_ids else []
    if not settled:
        return ()
    return await log.hurry(tx, [row["id"] for row in await FOLLOWING.rows(tx, settled)])


async def _begin(tx: Tx, saga: Saga, rows: Sequence[Record]) -> Sequence[Due]:
    starts = [
        Start.of(saga, row["id"], row["correlation_id"], priority=_AFTER_THE_ORDERS, traceparent=row["traceparent"])
        for row in rows
    ]
    return await start(tx, starts)


def _lane(row: Record) -> UUID:
    """What keeps its order: the order that it is about. What is of no order (stock of a product) waits for nobody."""
    if row["aggregate_type"] == "order":
        return UUID(str(row["aggregate_id"]))
    about = msgspec.json.decode(row["payload"]).get("orderId")
    return UUID(about or str(row["id"]))


def _body(row: Record) -> str:
    """As Standard Webhooks have it (`type`, `timestamp`, `data`), and what else the envelope says."""
    fields = msgspec.json.decode(outbox.envelope(row), type=dict[str, msgspec.Raw])
    fields.pop("traceparent", None)  # a header says it
    return msgspec.json.encode({**fields, "timestamp": fields["time"]}).decode()
