"""What `--json` prints: a class for each kind of line. docs/cli.md is made of this, and output is checked against it.

Fields are camelCase, ids UUIDs, times RFC 3339 in UTC, amounts integers in minor units beside a `currency`. Fields are
only ever added. Documents that nest are described as far as their first level.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta


class Line(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One line of NDJSON."""


def _is(description: str) -> Meta:
    return Meta(description=description)


Step = Annotated[str, _is("the step's name, as in the saga's table")]
Direction = Annotated[str, _is("`forward`, or `backward`: it is being undone")]
Milliseconds = Annotated[float | None, _is("ms")]
Detail = Annotated[str | None, _is("a sentence, or null")]


class Saga(Line, frozen=True, kw_only=True):
    """Where a saga stands."""

    id: Annotated[UUID, _is("of the saga")]
    kind: Annotated[str, _is("`order`, `refund`, `notification`, `webhook`, `alert`")]
    version: Annotated[int, _is("of its definition")]
    subject: Annotated[UUID, _is("the order, refund or message that it is about")]
    state: Annotated[str, _is("`RUNNING`, `COMPENSATING`, `COMPLETED`, `COMPENSATED`, `COMPENSATION_FAILED` (stuck)")]
    step: Step
    direction: Direction
    queue: Annotated[str, _is("where it stands")]
    priority: Annotated[int, _is("0 is first, 2 last")]
    reached: Annotated[str, _is("the last mark that it passed")]
    attempt: Annotated[int, _is("attempts begun at this step")]
    since: Annotated[datetime, _is("when it came to this step")]
    waits_until: Annotated[datetime | None, _is("not due before")]
    lease_until: Annotated[datetime | None, _is("a call is out until then at the latest")]
    worker: Annotated[str | None, _is("whose call it is")]
    reason: Annotated[str | None, _is("why it is undone")]
    note: Annotated[str | None, _is("what the last attempt said")]
    correlation_id: Annotated[str, _is("of the request that began it")]
    created_at: datetime
    updated_at: datetime
    ended_at: datetime | None


class Attempt(Line, frozen=True, kw_only=True):
    """One attempt at a step."""

    saga_id: UUID
    at: Annotated[datetime, _is("when its outcome was stored")]
    step: Step
    direction: Direction
    attempt: Annotated[int, _is("counted from 1; 0: an operator's")]
    outcome: Annotated[str, _is("`done`, `refused`, `later`, `failed`, `lost`, `stuck`, `operator`")]
    detail: Detail
    worker: Annotated[str, _is("who made it")]
    duration_ms: Annotated[float, _is("ms")]


class Acted(Line, frozen=True, kw_only=True):
    """What became of one saga that was acted upon."""

    saga: UUID
    kind: Annotated[str, _is("empty where there is no such saga")]
    subject: Annotated[UUID | None, _is("what it is about")]
    was: Annotated[str, _is("where it stood")]
    now: Annotated[str, _is("where it stands")]
    refusal: Annotated[str | None, _is("why nothing was done")]


class Redriven(Line, frozen=True, kw_only=True):
    """What became of a dead letter's saga."""

    saga: UUID
    now: Annotated[str, _is("where it stands")]
    refusal: Annotated[str | None, _is("why nothing was done")]


class Queue(Line, frozen=True, kw_only=True):
    """A queue."""

    queue: Annotated[str, _is("its name")]
    ready: Annotated[int, _is("jobs that are due; counting ends at 100,000")]
    delayed: Annotated[int, _is("jobs that wait for a time")]
    running: Annotated[int, _is("calls that are out")]
    oldest_seconds: Annotated[float, _is("s for which the oldest that is ready waits")]
    limit: Annotated[int | None, _is("jobs a second of all workers together; null: none")]
    paused: bool
    completed: Annotated[int | None, _is("since Redis was last empty; null: it does not answer")]
    failed: Annotated[int | None, _is("since Redis was last empty; null: it does not answer")]


class Switch(Line, frozen=True, kw_only=True):
    """How a queue was switched."""

    queue: Annotated[str, _is("its name")]
    limit: Annotated[int | None, _is("jobs a second of all workers together; null: none")]
    paused: bool


class Letter(Line, frozen=True, kw_only=True):
    """A dead letter."""

    id: UUID
    saga_id: Annotated[UUID | None, _is("null: a message that could not be read")]
    queue: str
    step: Step
    direction: Direction
    error: Annotated[str, _is("the last one")]
    payload: Annotated[str, _is("what it carried, as JSON text")]
    created_at: datetime
    redriven_at: datetime | None
    redriven_by: Annotated[str | None, _is("who sent it round again")]
    reason: Annotated[str | None, _is("why")]


class StoredMessage(Line, frozen=True, kw_only=True):
    """The message that a dead letter is about; one of an account without its recipient and language."""

    message: UUID
    kind: str
    channel: Annotated[str, _is("`EMAIL` or `SMS`")]
    recipient: str | None = None
    language: Annotated[str | None, _is("`en` or `es`")] = None
    state: Annotated[str, _is("`PENDING`, `SENT`, `FAILED`")]
    error: str | None


class Corrected(Line, frozen=True, kw_only=True):
    """What somebody changed in a message."""

    at: datetime
    who: str
    because: str
    before: Annotated[dict[str, str], _is("`{recipient, language}`")]
    after: Annotated[dict[str, str], _is("`{recipient, language}`")]


class Edited(Line, frozen=True, kw_only=True):
    """A field of a message that was changed, or with `--dry-run` would be."""

    letter: UUID
    field: Annotated[str, _is("`recipient` or `language`")]
    was: str
    is_: Annotated[str, _is("what it is now")] = msgspec.field(name="is")


class BulkAct(Line, frozen=True, kw_only=True):
    """An act on many."""

    bulk: UUID
    verb: Annotated[str, _is("`retry`, `skip`, `compensate`, `resolve`, `redrive`")]
    state: Annotated[str, _is("`RUNNING`, `STOPPED`, `ENDED`")]
    items: Annotated[int, _is("that it is about")]
    done: int
    refused: int
    failed: int
    at: Annotated[datetime, _is("when it was begun")]
    who: str
    because: str
    filter: Annotated[dict[str, str], _is("`of`, and what was asked for")]


class BulkItem(Line, frozen=True, kw_only=True):
    """What came of an item of an act on many."""

    item: Annotated[int, _is("counted from 1")]
    saga: UUID | None
    letter: UUID | None
    kind: Annotated[str | None, _is("of its saga")]
    subject: Annotated[UUID | None, _is("what that is about")]
    outcome: Annotated[str | None, _is("`done`, `refused`, `failed`; null: it waits")]
    stood: Annotated[str, _is("where it stood when it was chosen")]
    now: Annotated[str | None, _is("where it stood afterwards")]
    because: Annotated[str | None, _is("why nothing was done")]


class WouldStand(Line, frozen=True, kw_only=True):
    """`--dry-run`: how many would stand where."""

    count: int
    stands: str


class WouldBeRefused(Line, frozen=True, kw_only=True):
    """`--dry-run`: how many would be refused, and why."""

    count: int
    refusal: str


class Rehearsed(Line, frozen=True, kw_only=True):
    """`--dry-run`: what the act would be about; nothing was changed."""

    verb: Annotated[str, _is("`retry`, `skip`, `compensate`, `resolve`, `redrive`")]
    filter: Annotated[dict[str, str], _is("`of`, and what was asked for")]
    match: Annotated[int, _is("how many")]
    cut: Annotated[bool, _is("there are more than one act may be about")]
    tried: Annotated[int, _is("so many of them were tried")]
    orders: Annotated[int, _is("that they belong to")]
    worth: Annotated[list[dict[str, Any]], _is("`{amount, currency}`, in minor units")]


class Order(Line, frozen=True, kw_only=True):
    """An order."""

    order: UUID
    state: Annotated[str, _is("as the API's `status`")]
    total: Annotated[int, _is("minor units")]
    currency: Annotated[str, _is("ISO 4217")]
    reason: Annotated[str | None, _is("why it failed")]


class Standing(Line, frozen=True, kw_only=True):
    """What one of an order's sagas waits for."""

    of: Annotated[str, _is("what it is about, else its kind")]
    saga: UUID
    stands: Annotated[str, _is("a sentence")]


class StoryLine(Line, frozen=True, kw_only=True):
    """One thing that happened to an order."""

    at: datetime
    source: Annotated[
        str, _is("`request`, `state`, `event`, `attempt`, `gateway`, `mail`, `webhook`, `operator`, `note`")
    ]
    what: str
    how: Annotated[str, _is("its outcome, or empty")]
    said: Detail
    who: Annotated[str, _is("or empty")]
    ms: Milliseconds
    about: Annotated[str, _is("whose saga it was; empty: the order's own")]


class Act(Line, frozen=True, kw_only=True):
    """What an operator did."""

    id: UUID
    at: datetime
    actor: Annotated[str, _is("who; `cli:NAME` for commands")]
    act: Annotated[str, _is("`saga.retry`, `queue.pause`, …")]
    subject: Annotated[str, _is("the saga, queue or endpoint")]
    reason: str
    detail: Annotated[str, _is("JSON text")]


class Endpoint(Line, frozen=True, kw_only=True):
    """An endpoint of webhooks."""

    id: UUID
    url: str
    event_types: Annotated[list[str], _is("empty: all")]
    is_active: bool
    disabled_reason: str | None
    description: str | None
    created_at: datetime


class Delivery(Line, frozen=True, kw_only=True):
    """An event on its way to an endpoint."""

    id: UUID
    at: datetime
    type: Annotated[str, _is("of the event")]
    event: Annotated[UUID, _is("its id, the `webhook-id`")]
    status: Annotated[str, _is("`PENDING`, `DELIVERED`, `FAILED`")]
    again: Annotated[bool, _is("it was sent once more by hand")]
    attempts: int
    answer: Annotated[int | str | None, _is("the last status, or what went wrong")]


class Redelivered(Line, frozen=True, kw_only=True):
    """A delivery that was made anew."""

    delivery: UUID


class HeardLine(Line, frozen=True, kw_only=True):
    """What an endpoint heard."""

    at: datetime
    id: Annotated[str, _is("the `webhook-id`")]
    type: str
    order_id: str | None
    is_verified: Annotated[bool, _is("its signature is right")]
    status: Annotated[int, _is("that it was answered with")]


class Rejected(Line, frozen=True, kw_only=True):
    """A line of a file that was not done."""

    line: Annotated[int, _is("counted from 1")]
    text: str
    field: Annotated[str, _is("empty: the whole line")]
    code: str
    message: str


class Imported(Line, frozen=True, kw_only=True):
    """What came of a file; without `id` and `known` it was a dry run."""

    kind: Annotated[str, _is("`products` or `stock`")]
    state: Annotated[str, _is("`COMPLETED`, `CANCELLED`; `DRY_RUN`")]
    lines: int
    created: int
    changed: int
    unchanged: int
    rejected: int
    id: UUID | None = None
    known: Annotated[bool, _is("the file was imported before")] = False


class Restarted(Line, frozen=True, kw_only=True):
    """A process that was replaced."""

    process: Annotated[str, _is("its name")]
    was: Annotated[int, _is("pid")]
    now: Annotated[int, _is("pid")]
    seconds: Annotated[float, _is("s")]


class Migration(Line, frozen=True, kw_only=True):
    """A migration that ran."""

    number: int
    name: str


class Ready(Line, frozen=True, kw_only=True):
    """Once everything runs."""

    api: Annotated[str, _is("URL")]
    docs: Annotated[str, _is("URL")]
    console: Annotated[str | None, _is("URL")]
    gateway: Annotated[str | None, _is("URL")]
    admin_email: str
    admin_password: Annotated[str | None, _is("where it was made up")]
    data_dir: str
    seconds: Annotated[float, _is("s until ready")]


class Checked(Line, frozen=True, kw_only=True):
    """The doctor's report."""

    is_healthy: bool
    exit_code: int
    checked_at: datetime
    since: Annotated[datetime | None, _is("only orders from then on")]
    seconds: Annotated[float, _is("s")]
    orders: int
    orders_under_way: int
    checks: Annotated[
        list[dict[str, Any]],
        _is("`{name, invariant, meaning, status, count, rows, advice, note, seconds}`; `rows`: the first 20"),
    ]
    proposals: Annotated[
        list[dict[str, Any]] | None, _is("with `--repair`: `{check, kind, subject, amounts, command, why}`")
    ] = None


class Reconciled(Line, frozen=True, kw_only=True):
    """What a comparison with the gateway came to."""

    is_even: bool
    exit_code: int
    since: datetime | None
    until: datetime | None
    by: Annotated[str, _is("how the gateway was asked: `ledger`, `keys`")]
    is_whole: Annotated[bool, _is("false: of more payments only the newest were asked for")]
    payments: int
    under_way: int
    count: Annotated[int, _is("orders that differ")]
    sums: Annotated[
        list[dict[str, Any]],
        _is("`{currency, ours, theirs, underWay, difference}`; sides are `{captured, refunded}`, in minor units"),
    ]
    differences: Annotated[
        list[dict[str, Any]],
        _is(
            "the first 100: `{orderId, paymentId, state, currency, ours, theirs, amount, what, advice}`; amounts in"
            " minor units"
        ),
    ]


class Report(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a run came to: `proof/load/report.py` or `proof/chaos/report.py` has all of it."""

    is_fine: bool
    seed: int
    orders: Annotated[int, _is("that were wanted")]
    accepted: int
    ended: int
    total_amount: Annotated[int, _is("minor units")]
    seconds: Annotated[float, _is("s")]
    outcomes: Annotated[list[dict[str, Any]], _is("`{status, reason, orders}`")]


_BULK = (BulkItem, BulkAct, WouldStand, WouldBeRefused, Rehearsed)
"""What a verb prints with `--filter`."""

OF: Mapping[str, tuple[type[msgspec.Struct], ...]] = {
    "audit list": (Act,),
    "bulk list": (BulkAct,),
    "bulk resume": (BulkAct,),
    "bulk show": (BulkItem, BulkAct),
    "bulk stop": (BulkAct,),
    "chaos": (Report,),
    "compensate": (Acted, *_BULK),
    "dead-letters edit": (Edited,),
    "dead-letters list": (Letter,),
    "dead-letters redrive": (Redriven, *_BULK),
    "dead-letters show": (Letter, StoredMessage, Corrected),
    "doctor": (Checked,),
    "explain": (Order, Standing, StoryLine),
    "import": (Rejected, Imported),
    "load": (Report,),
    "migrate": (Migration,),
    "orders show": (Order, Standing, StoryLine),
    "queue jobs": (Saga,),
    "queue limit": (Switch,),
    "queue list": (Queue,),
    "queue pause": (Switch,),
    "queue resume": (Switch,),
    "reconcile": (Reconciled,),
    "resolve": (Acted, *_BULK),
    "restart": (Restarted,),
    "retry": (Acted, *_BULK),
    "saga compensate": (Acted, *_BULK),
    "saga list": (Saga,),
    "saga resolve": (Acted, *_BULK),
    "saga retry": (Acted, *_BULK),
    "saga show": (Saga, Attempt),
    "saga skip": (Acted, *_BULK),
    "skip": (Acted, *_BULK),
    "stuck": (Saga,),
    "up": (Ready,),
    "webhooks deliveries": (Delivery,),
    "webhooks list": (Endpoint,),
    "webhooks listen": (HeardLine,),
    "webhooks redeliver": (Redelivered,),
}
"""What each command prints with `--json`, in this order; a command that is not here prints nothing."""

SILENT = frozenset({"api", "worker", "relay", "gateway"})
"""Processes: they log, and print nothing (the gateway: its URL)."""


def camel(name: str) -> str:
    """A column's name as a field of JSON."""
    first, *others = name.split("_")
    return first + "".join(one[:1].upper() + one[1:] for one in others)
