"""An order's whole story on one time line: what happened, in whose hands, and what it waits for. Reads only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from comanda.accounts import accounts
from comanda.audit import acts
from comanda.checkout import causes
from comanda.checkout.causes import Tried
from comanda.db import Record, Tx, twin
from comanda.messaging import outbox
from comanda.notifications import mailbox
from comanda.notifications.mailbox import Mail
from comanda.orders import notes, reads
from comanda.orders.reads import Order
from comanda.saga.transitions import ENDED

_sql = twin(__file__)
SUBJECTS = _sql["subjects"]
SAGAS = _sql["sagas"]
DELIVERIES = _sql["deliveries"]
HISTORY = _sql["history"]

Source = Literal["request", "state", "event", "attempt", "gateway", "mail", "webhook", "operator", "note", "letter"]
_FAILURES = {"refused", "failed", "lost", "stuck"}
_AT_THE_GATEWAY = {"process_payment", "refund_payment"}
_MOST_MAILS = 50


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that happened. `about`: whose saga it was, where it was not the order's own."""

    at: datetime
    source: Source
    what: str
    outcome: str = ""
    said: str | None = None
    who: str = ""
    duration_ms: float | None = None
    about: str = ""
    is_failure: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a saga stands, and what it waits for.

    `waits_for`: `nothing` (it has ended), `operator` (it is stuck), `call` (of `worker`, until `until` at the latest),
    `time` (until `until`, because of `said`), `worker` (it is due).
    """

    saga_id: UUID
    kind: str
    about: str
    state: str
    step: str
    direction: str
    attempt: int
    queue: str
    waits_for: Literal["nothing", "operator", "call", "time", "worker"]
    until: datetime | None
    said: str | None
    worker: str | None
    version: int


@dataclass(frozen=True, slots=True)
class Story:
    """`lines` oldest first; `standings`: the order's own saga first."""

    order: Order
    lines: list[Line]
    standings: list[Standing]

    @property
    def first_failure(self) -> int | None:
        """Which line is the first that went wrong; None: none did."""
        return next((number for number, line in enumerate(self.lines) if line.is_failure), None)


async def tell(tx: Tx, order_id: UUID) -> Story | None:
    """The story of an order; None where there is no such order."""
    (order,) = await reads.find(tx, [order_id])
    if order is None:
        return None
    about = {row["id"]: f"{row['kind']}: {row['about']}" for row in await SUBJECTS.rows(tx, [order_id])}
    sagas = await SAGAS.rows(tx, [order_id, *about])
    subjects = {row["id"]: row["subject"] for row in sagas}
    events = await outbox.of_orders(tx, [order_id])
    history = [row for row in await HISTORY.rows(tx, list(subjects)) if row["outcome"] != "operator"]
    # What an operator did the audit tells, with who and why.
    named = [str(order_id), *(str(one) for one in subjects)]
    first = [Line(order.created_at, "request", "order accepted", said=f"correlation {order.correlation_id}")]
    first += [
        Line(one["at"], "operator", one["act"], _change(one["detail"]), one["reason"], one["actor"])
        for one in await acts.of_subjects(tx, named)
    ]
    written = (await notes.of_orders(tx, [order_id], is_for_staff=True))[order_id]
    writers = await accounts.find(tx, [one.actor for one in written])
    for note, writer in zip(written, writers, strict=True):
        first.append(Line(note.created_at, "note", note.text, who=writer.email if writer else str(note.actor)))
    first += [_attempt(row, about.get(subjects[row["saga_id"]], "")) for row in history]
    effects = [
        Line(move.at, "state", f"{move.from_state or '—'} → {move.to_state}", "", move.reason, move.actor)
        for move in (await reads.moves(tx, [order_id]))[order_id]
    ]
    effects += [Line(one["at"], "event", one["type"]) for one in events]
    mails = await mailbox.listed(tx, None, order_id, _MOST_MAILS, of_orders_only=True)
    tries = [_delivery(row) for row in await DELIVERIES.rows(tx, [one["id"] for one in events])]
    tried = [Tried(row["at"], row["step"], row["direction"], row["outcome"] in _FAILURES) for row in history]
    names = [line.what.rpartition(" ")[2] for line in effects]
    after = causes.moments([(line.at, name) for line, name in zip(effects, names, strict=True)], tried)
    placed = [(line.at, 0, line) for line in first]
    placed += [
        (at, 2 if name in causes.ANNOUNCES else 1, line) for at, name, line in zip(after, names, effects, strict=True)
    ]
    placed += [(_answered_at(one, history), 1, _mail(one)) for one in mails]
    placed += [(line.at, 3, line) for line in tries]
    placed.sort(key=lambda one: one[:2])
    standings = [standing(row, about.get(row["subject"], "")) for row in sagas]
    standings.sort(key=lambda one: one.about != "")
    return Story(order, [line for _, _, line in placed], standings)


def _mail(one: Mail) -> Line:
    return Line(one.sent_at, "mail", one.subject or one.body_text, one.channel, one.recipient)


def _answered_at(one: Mail, history: Sequence[Record]) -> datetime:
    """When the attempt that sent it was accounted for; the message's key begins with its saga."""
    mine = (row["at"] for row in history if row["at"] >= one.sent_at and one.key.startswith(str(row["saga_id"])))
    return next(mine, one.sent_at)


def _attempt(row: Record, about: str) -> Line:
    back = " (undoing)" if row["direction"] == "backward" else ""
    return Line(
        row["at"],
        "gateway" if row["step"] in _AT_THE_GATEWAY else "attempt",
        f"{row['step']}{back}, attempt {row['attempt']}" if row["attempt"] else f"{row['step']}{back}",
        row["outcome"],
        row["detail"],
        row["worker"],
        row["duration_ms"],
        about,
        row["outcome"] in _FAILURES,
    )


def _delivery(row: Record) -> Line:
    is_taken = row["status"] is not None and row["status"] // 100 == 2
    return Line(
        row["at"],
        "webhook",
        f"{row['event_type']} → {_origin(row['url'])}, attempt {row['attempt']}",
        str(row["status"] or "no answer"),
        row["error"] and row["error"].replace(row["url"], _origin(row["url"])),
        "",
        row["duration_ms"],
        "",
        not is_taken,
    )


def _origin(url: str) -> str:
    """Where it leads. Paths and queries may be secrets, and endpoints are the admins' alone."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def standing(row: Record, about: str) -> Standing:
    """Where a saga stands, by its row."""
    waits_for: Literal["nothing", "operator", "call", "time", "worker"] = "worker"
    until = None
    if row["state"] in ENDED:
        waits_for = "nothing"
    elif row["state"] == "COMPENSATION_FAILED":
        waits_for = "operator"
    elif row["lease_until"] is not None and row["lease_until"] > row["now"]:
        waits_for, until = "call", row["lease_until"]
    elif row["waits_until"] is not None and row["waits_until"] > row["now"]:
        waits_for, until = "time", row["waits_until"]
    return Standing(
        row["id"], row["kind"], about, row["state"], row["step"], row["direction"], row["attempt"], row["queue"],
        waits_for, until, row["note"] or row["reason"], row["worker"], row["version"],
    )  # fmt: skip


def _change(detail: str) -> str:
    found: Any = msgspec.json.decode(detail)
    return f"{found['was']} → {found['now']}" if {"was", "now"} <= found.keys() else ""


def sentence(one: Standing) -> str:
    """What it waits for, and until when."""
    at = f"{one.step}{' (undoing)' if one.direction == 'backward' else ''}"
    said = f": {one.said}" if one.said else ""
    match one.waits_for:
        case "nothing":
            return f"{one.state}{said}"
        case "operator":
            return f"stuck at {at}, waits for an operator{said}"
        case "call":
            return f"at {at}: {one.worker} is calling, until {one.until:%Y-%m-%d %H:%M:%S} UTC at the latest"
        case "time":
            return f"at {at}: waits until {one.until:%Y-%m-%d %H:%M:%S} UTC{said}"
        case _:
            return f"at {at}: due, waits for a worker of {one.queue}"


def rows_of(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """As a command prints them."""
    return [{"at": one.at, "source": one.source, "what": one.what, "how": one.outcome, "said": one.said,
             "who": one.who, "ms": one.duration_ms, "about": one.about} for one in lines]  # fmt: skip
