"""For who is paged: queues, dead letters, orders, the audit. `--json` gives NDJSON, one object a line."""

from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console

from comanda.audit import acts
from comanda.checkout import story
from comanda.cli import bulk, shapes
from comanda.cli.terminal import Because, DataDir, Json, Limit, Reason, actor, because, by_hand, run, show
from comanda.db import Database
from comanda.errors import ConfigurationFault, Fault, RedisFault
from comanda.failpoints import Boundary
from comanda.messaging import dead_letters, switches
from comanda.messaging.queues import QUEUES
from comanda.messaging.streams import Streams
from comanda.notifications import corrections
from comanda.notifications.corrections import Stored, Wish
from comanda.saga import log, switching, verbs

LIMIT = Boundary("operator.limit")
PAUSE = Boundary("operator.pause")
REDRIVE = Boundary("operator.redrive")

_AT_ONCE = 1000  # letters in one transaction
_FASTEST = 1_000_000  # jobs a second: more is no limit

audit_app = typer.Typer(help="Who did what, and why.", no_args_is_help=True)
queue_app = typer.Typer(help="The four queues: depths, limits, pauses.", no_args_is_help=True)
letters_app = typer.Typer(help="Dead letters: what was given up on.", no_args_is_help=True)
orders_app = typer.Typer(help="Orders.", no_args_is_help=True)


@queue_app.command("list")
def list_queues(data_dir: DataDir = Path(".comanda"), json: Json = False) -> None:
    """Depth of each queue, its limit, and how many jobs it has done since Redis was last empty."""

    async def work(database: Database, streams: Streams) -> Any:
        async with database.connection() as tx:
            depths, known = await log.depths(tx), await switches.read(tx)
        for row in depths:
            switch = known[row["queue"]]
            row |= {"limit": switch.rate_limit, "paused": switch.is_paused, "completed": None, "failed": None}
        try:
            for row in depths:
                counted = await streams.counters(row["queue"])
                row |= {name: counted.get(name, 0) for name in ("completed", "failed")}
        except RedisFault as fault:  # what waits is in PostgreSQL, and that is what somebody looks for now
            Console(stderr=True).print(f"How many are completed and failed is not known. {fault}", highlight=False)
        return depths

    columns = {"queue": "queue", "ready": "ready", "delayed": "delayed", "running": "running",
               "oldest_seconds": "oldest (s)", "limit": "limit /s", "paused": "paused",
               "completed": "completed", "failed": "failed"}  # fmt: skip
    show(run(data_dir, work), columns, json=json, empty="", line=shapes.Queue)


@queue_app.command("jobs")
def list_jobs(
    queue: Annotated[str, typer.Argument(help="One of the four queues.")],
    limit: Limit = 50,
    data_dir: DataDir = Path(".comanda"),
    json: Json = False,
) -> None:
    """What stands in a queue, and how far each job's saga has come."""

    async def work(database: Database, _streams: Streams) -> Any:
        async with database.connection() as tx:
            return await log.unended(tx, _known(queue), limit)

    columns = {"id": "saga", "kind": "kind", "step": "step", "reached": "progress", "priority": "priority",
               "attempt": "attempts", "waits_until": "waits until", "lease_until": "leased until",
               "worker": "worker", "note": "last said"}  # fmt: skip
    show(run(data_dir, work), columns, json=json, empty="Nothing stands there.", line=shapes.Saga)


@queue_app.command("limit")
def limit_queue(
    queue: Annotated[str, typer.Argument(help="One of the four queues.")],
    rate: Annotated[
        int, typer.Argument(min=0, max=_FASTEST, help="Jobs a second for all workers together; 0: no limit.")
    ],
    reason: Because,
    data_dir: DataDir = Path(".comanda"),
    json: Json = False,
) -> None:
    """Limit a queue while everything runs; workers follow within a second."""

    async def work(database: Database, _streams: Streams) -> Any:
        async with database.transaction(LIMIT) as tx:
            await switching.limit(tx, _known(queue), rate or None, actor=actor(), reason=reason)
            return (await switches.read(tx))[queue]

    _tell_switch(queue, run(data_dir, work), f"at most {rate} jobs a second" if rate else "no limit", json=json)


@queue_app.command("pause")
def pause_queue(
    queue: Annotated[str, typer.Argument(help="One of the four queues.")],
    reason: Because,
    data_dir: DataDir = Path(".comanda"),
    json: Json = False,
) -> None:
    """Start nothing more in a queue; what is under way goes on."""
    _switch(queue, data_dir, reason, is_paused=True, json=json)


@queue_app.command("resume")
def resume_queue(
    queue: Annotated[str, typer.Argument(help="One of the four queues.")],
    reason: Because,
    data_dir: DataDir = Path(".comanda"),
    json: Json = False,
) -> None:
    """Work on a paused queue again."""
    _switch(queue, data_dir, reason, is_paused=False, json=json)


def _switch(queue: str, data_dir: Path, reason: str, *, is_paused: bool, json: bool) -> None:
    async def work(database: Database, _streams: Streams) -> Any:
        async with database.transaction(PAUSE) as tx:
            await switching.pause(tx, _known(queue), is_paused=is_paused, actor=actor(), reason=reason)
            return (await switches.read(tx))[queue]

    _tell_switch(queue, run(data_dir, work), "paused" if is_paused else "runs", json=json)


def _tell_switch(queue: str, switch: Any, sentence: str, *, json: bool) -> None:
    if not json:
        Console(stderr=True).print(f"{queue}: {sentence}")
        return
    row = {"queue": queue, "limit": switch.rate_limit, "paused": switch.is_paused}
    show([row], {}, json=True, empty="", line=shapes.Switch)


def _known(queue: str) -> str:
    if queue not in QUEUES:
        raise ConfigurationFault(f"No such queue: {queue}. There are {', '.join(QUEUES)}.")
    return queue


@letters_app.command("list")
def list_letters(
    with_redriven: Annotated[bool, typer.Option("--all", help="Those that were sent round again too.")] = False,
    queue: Annotated[str | None, typer.Option(help="Only of this queue.")] = None,
    limit: Limit = 100,
    data_dir: DataDir = Path(".comanda"),
    json: Json = False,
) -> None:
    """The newest dead letters, with why."""

    async def work(database: Database, _streams: Streams) -> Any:
        async with database.connection() as tx:
            named = None if queue is None else _known(queue)
            return await dead_letters.listed(tx, with_redriven=with_redriven, queue=named, limit=limit)

    columns = {"id": "letter", "created_at": "since", "saga_id": "saga", "queue": "queue", "step": "step",
               "direction": "", "error": "error", "redriven_by": "redriven by"}  # fmt: skip
    show(run(data_dir, work), columns, json=json, empty="No dead letters.", line=shapes.Letter)


@letters_app.command("redrive")
def redrive_letters(
    ids: Annotated[list[UUID] | None, typer.Argument(help="Which; without any, --all is needed.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are open.")] = False,
    filters: bulk.Filters = None,
    reason: Reason = "",
    dry_run: bulk.DryRun = False,
    detach: bulk.Detach = False,
    limit: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="With --all: so many at the most, the oldest; else 1000.")
    ] = None,
    data_dir: DataDir = Path(".comanda"),
    json: Json = False,
) -> None:
    """Send dead letters round again: their sagas stand at their step, with all attempts before them.

    A filter has fingerprint, error, queue, step and age (in minutes); what matches goes round in the background.
    """
    if bool(ids) + everything + bool(filters) != 1:
        raise ConfigurationFault("Name the letters to redrive, or say --all, or --filter.")
    if filters or dry_run or detach:
        if ids or limit is not None:
            raise ConfigurationFault(
                "--filter, --dry-run and --detach are about all that match: name no letters and no limit."
            )
        what = bulk.wanted("letters", filters or [])
        bulk.act_on_all("redrive", what, reason, data_dir, dry_run=dry_run, detach=detach, json=json)
        return
    because(reason)

    async def work(database: Database, streams: Streams) -> Any:
        async with database.transaction(REDRIVE) as tx:
            found = await dead_letters.find(tx, ids or [])
            if None in found:
                unknown = (ids or [])[found.index(None)]
                raise Fault(f"There is no dead letter {unknown}. Nothing was done.")
            acted, _, result = await verbs.redrive(
                tx, by_hand(database), ids or None, actor=actor(), reason=reason, limit=limit or _AT_ONCE
            )
        await streams.hint(result.onward)
        return [{"saga": one.saga_id, "now": one.now, "refusal": one.refusal} for one in acted]

    columns = {"saga": "saga", "now": "stands at", "refusal": ""}
    rows = run(data_dir, work)
    show(rows, columns, json=json, empty="Nothing to redrive.", line=shapes.Redriven)
    left = sum(row["refusal"] is not None for row in rows)
    if left:
        raise Fault(f"{left} of {len(rows)} not done: the last column says why, and their letters stay open.")


@letters_app.command("show")
def show_letter(
    letter: Annotated[UUID, typer.Argument(help="A dead letter's id.")],
    data_dir: DataDir = Path(".comanda"),
    json: Json = False,
) -> None:
    """What went wrong, with what; the message that it is about, and what was ever changed in that."""

    async def work(database: Database, _streams: Streams) -> Any:
        async with database.connection() as tx:
            (found,) = await dead_letters.find(tx, [letter])
            (message,) = await corrections.messages(tx, [letter])
            told = [] if message is None else (await corrections.of_messages(tx, [message.id]))[message.id]
        return found, message, told

    found, message, told = run(data_dir, work)
    if found is None:
        raise Fault(f"There is no dead letter {letter}.")
    columns = {"id": "letter", "created_at": "since", "saga_id": "saga", "queue": "queue", "step": "step",
               "error": "error", "payload": "payload", "redriven_by": "redriven by"}  # fmt: skip
    show([found], columns, json=json, empty="", line=shapes.Letter)
    if message is not None:
        show([_message(message)], {name: name for name in _message(message)}, json=json, empty="")
    rows = [{"at": one.at, "who": one.actor, "because": one.reason, "before": dict(one.before),
             "after": dict(one.after)} for one in told]  # fmt: skip
    show(rows, {"at": "at", "who": "who", "because": "because", "before": "was", "after": "is"}, json=json, empty="")


@letters_app.command("edit")
def edit_letter(
    letter: Annotated[UUID, typer.Argument(help="The dead letter of a message that could not be delivered.")],
    recipient: Annotated[str | None, typer.Option(help="Whom it is to go to instead.")] = None,
    language: Annotated[str | None, typer.Option(help="en or es.")] = None,
    reason: Reason = "",
    dry_run: bulk.DryRun = False,
    data_dir: DataDir = Path(".comanda"),
    json: Json = False,
) -> None:
    """Put the message right that a letter is about, and send it round again. What it was is kept."""
    if not dry_run:
        because(reason)

    async def work(database: Database, streams: Streams) -> Any:
        async with database.connection() as tx:
            (message,) = await corrections.messages(tx, [letter])
        if message is None:
            raise Fault(f"{letter} is about no message: there is nothing in it to change.")
        wish = Wish(letter, recipient or message.recipient, language or message.language)
        refusal = corrections.refused(message, wish)
        if refusal is None and not dry_run:
            async with database.transaction(REDRIVE) as tx:
                (refusal,), result = await corrections.correct(
                    tx, by_hand(database), [wish], actor=actor(), reason=reason
                )
                if refusal is not None:
                    raise Fault(refusal)
            await streams.hint(result.onward)
        if refusal is not None:
            raise Fault(refusal)
        return [
            {"letter": letter, "field": name, "was": getattr(message, name), "is": getattr(wish, name)}
            for name in corrections.changed(message, wish)
        ]

    columns = {"letter": "letter", "field": "field", "was": "was", "is": "would be" if dry_run else "is"}
    show(run(data_dir, work), columns, json=json, empty="")


def _message(one: Stored) -> dict[str, Any]:
    whom = {} if one.is_of_an_account else {"recipient": one.recipient, "language": one.language}
    return {"message": one.id, "kind": one.kind, "channel": one.channel, **whom, "state": one.state, "error": one.error}


@orders_app.command("show")
def show_order(
    order_id: Annotated[UUID, typer.Argument()], data_dir: DataDir = Path(".comanda"), json: Json = False
) -> None:
    """An order: where it stands and what it waits for, and its whole story, as the console tells it."""

    async def work(database: Database, _streams: Streams) -> Any:
        async with database.connection() as tx:
            return await story.tell(tx, order_id)

    told: story.Story | None = run(data_dir, work)
    if told is None:
        raise Fault(f"There is no order {order_id}.")
    order = told.order
    status = {"order": order_id, "state": order.state, "total": order.total_amount, "currency": order.currency,
              "reason": order.failure_reason}  # fmt: skip
    show([status], {name: name for name in status}, json=json, empty="", line=shapes.Order)
    standings = [{"of": one.about or one.kind, "saga": one.saga_id, "stands": story.sentence(one)}
                 for one in told.standings]  # fmt: skip
    show(standings, {"of": "of", "saga": "saga", "stands": "stands"}, json=json, empty="", line=shapes.Standing)
    columns = {"at": "at", "source": "where", "what": "what", "how": "how", "said": "said", "who": "who", "ms": "ms"}
    show(story.rows_of(told.lines), columns, json=json, empty="", line=shapes.StoryLine)


@audit_app.command("list")
def list_acts(
    subject: Annotated[str | None, typer.Option(help="Only what was done to this saga or queue.")] = None,
    limit: Limit = 100,
    data_dir: DataDir = Path(".comanda"),
    json: Json = False,
) -> None:
    """The newest acts of operators."""

    async def work(database: Database, _streams: Streams) -> Any:
        async with database.connection() as tx:
            return await acts.listed(tx, subject=subject, limit=limit)

    empty = "Nobody has done anything yet." if subject is None else f"Nobody has done anything to {subject}."
    columns = {"at": "at", "actor": "who", "act": "did", "subject": "to", "reason": "because", "detail": "detail"}
    show(run(data_dir, work), columns, json=json, empty=empty, line=shapes.Act)
