"""One job of a queue: what it was given, how far it is, each attempt, what it said, what came of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args
from uuid import UUID

from starlette.responses import Response

from comanda.audit import acts
from comanda.checkout import story
from comanda.checkout.story import Line
from comanda.console.ask import Ask, Refusal
from comanda.console.orders import settling
from comanda.console.queues import known
from comanda.db import Record, Tx, twin
from comanda.messaging import outbox
from comanda.saga import log
from comanda.saga.definition import Saga
from comanda.saga.transitions import ENDED
from comanda.saga.verbs import Verb

_sql = twin(__file__)
JOB = _sql["job"]
ORDER_ABOUT = _sql["order_about"]
GIVEN = _sql["given"]
LETTERS = _sql["letters"]

# What stands in webhooks' bodies and in messages about accounts is for admins: the pages of both are theirs too.
_FOR_ADMINS = frozenset({"webhook", "alert"})


@dataclass(frozen=True, slots=True)
class Step:
    """A step of the job's process, and how it stands."""

    name: str
    queue: str
    stands: Literal["done", "here", "ahead", "undone"]


async def show(ask: Ask) -> Response:
    """A job, whichever of the queues it stands in by now."""
    queue, saga_id = known(ask), ask.id_of("saga_id")
    async with ask.parts.assembly.lists.connection() as tx:
        job = await JOB.row(tx, saga_id)
        if job is None:
            raise Refusal(404, "There is no such job.")
        order_id: UUID | None = await ORDER_ABOUT.value(tx, job["subject"])
        is_shown = ask.is_admin or (order_id is not None and job["kind"] not in _FOR_ADMINS)
        given = await GIVEN.row(tx, job["subject"], job["kind"]) if is_shown else None
        _, attempts = await log.show(tx, saga_id)
        lines = await _lines(tx, job, order_id)
    definition = settling(ask).sagas.get((job["kind"], job["version"]))
    return ask.page(
        "job.html",
        queue=queue,
        job=job,
        order_id=order_id,
        given=given,
        is_shown=is_shown,
        steps=[] if definition is None else steps(job, definition),
        standing=story.standing(job, ""),
        attempts=[one for one in attempts if one["outcome"] != "operator"],
        lines=lines,
        error=job["note"] or next((one.said for one in reversed(lines) if one.source == "letter"), None),
        verbs=get_args(Verb),
    )


def steps(job: Record, definition: Saga) -> list[Step]:
    """Where it is in its process; nothing where this release does not know the step. Pure."""
    if job["step"] not in {step.name for step in definition.steps}:
        return []
    at = definition.position(job["step"])
    found = []
    for number, step in enumerate(definition.steps):
        stands: Literal["done", "here", "ahead", "undone"] = "done" if number < at else "ahead"
        if job["state"] in ENDED:
            stands = "done" if job["state"] == "COMPLETED" else "undone"
        elif number == at:
            stands = "here"
        elif number > at and job["direction"] == "backward":
            stands = "undone"
        found.append(Step(step.name, step.queue, stands))
    return found


async def _lines(tx: Tx, job: Record, order_id: UUID | None) -> Sequence[Line]:
    """What is remembered of it beside its attempts: events, what was given up on, what operators did."""
    lines = [Line(job["created_at"], "request", "begun", said=f"correlation {job['correlation_id']}")]
    if job["subject"] == order_id:
        lines += [Line(one["at"], "event", one["type"]) for one in await outbox.of_orders(tx, [order_id])]
    lines += [
        Line(one["created_at"], "letter", one["step"], "stuck", one["error"], is_failure=True)
        for one in await LETTERS.rows(tx, job["id"])
    ]
    lines += [
        Line(one["at"], "operator", one["act"], "", one["reason"], one["actor"])
        for one in await acts.of_subjects(tx, [str(job["id"])])
    ]
    return sorted(lines, key=lambda line: line.at)
