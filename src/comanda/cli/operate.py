"""For who is paged: what stands where, why, and the switches. `--json` gives NDJSON, one object a line."""

import getpass
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import msgspec
import typer
import uvloop
from rich.console import Console
from rich.table import Table

from comanda import settings
from comanda.cli.running import located
from comanda.clock import rfc3339
from comanda.db import Database
from comanda.errors import ConfigurationFault, Fault
from comanda.failpoints import Boundary
from comanda.messaging import dead_letters, outbox, switches
from comanda.messaging.streams import QUEUES, Streams
from comanda.orders import reads
from comanda.saga import log
from comanda.saga.rescue import by_queue

LIMIT = Boundary("operator.limit")
PAUSE = Boundary("operator.pause")
REDRIVE = Boundary("operator.redrive")

DataDir = Annotated[
    Path, typer.Option("--data-dir", help="Of a running `comanda up`, unless COMANDA_DATABASE_URL is set.")
]
Json = Annotated[bool, typer.Option("--json", help="NDJSON on stdout.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="Rows at the most.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept with your name.")]

saga_app = typer.Typer(help="Sagas: the recorded process of each order and message.", no_args_is_help=True)
queue_app = typer.Typer(help="The four queues: depths, limits, pauses.", no_args_is_help=True)
letters_app = typer.Typer(help="Dead letters: what was given up on.", no_args_is_help=True)
orders_app = typer.Typer(help="Orders.", no_args_is_help=True)

# Columns that are copied into the next command.
_WHOLE = {"saga", "letter", "order", "queue", "of", "kind", "state"}

Work = Callable[[Database, Streams], Coroutine[Any, Any, Any]]


def _run(data_dir: Path, work: Work) -> Any:
    """Connect to what runs, do the work, close."""

    async def main() -> Any:
        where = located(settings.load(), data_dir)
        database = await Database.open(where.database_url, name="comanda-cli", size=2)
        streams = Streams.open(where.redis_url, name="cli")
        try:
            return await work(database, streams)
        finally:
            await streams.close()
            await database.close()

    return uvloop.run(main())


def _plain(value: Any) -> Any:
    return rfc3339(value) if isinstance(value, datetime) else value


def _show(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], *, json: bool, empty: str) -> None:
    """Rows as a table for people, or one JSON object a line."""
    rows = list(rows)
    if json:
        for row in rows:
            typer.echo(msgspec.json.encode({name: _plain(value) for name, value in row.items()}).decode())
        return
    if not rows:
        Console(stderr=True).print(empty)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in columns.values():
        table.add_column(title, overflow="fold", no_wrap=title in _WHOLE)
    for row in rows:
        table.add_row(*("" if row.get(name) is None else str(_plain(row[name])) for name in columns))
    Console().print(table)


def _actor() -> str:
    return f"cli:{getpass.getuser()}"


@saga_app.command("list")
def list_sagas(
    stuck: Annotated[bool, typer.Option("--stuck", help="Only those that could not be undone.")] = False,
    running: Annotated[bool, typer.Option("--running", help="Only those that have not ended.")] = False,
    queue: Annotated[str | None, typer.Option(help="Only those that stand in this queue.")] = None,
    limit: Limit = 50,
    data_dir: DataDir = Path(".comanda"),
    json: Json = False,
) -> None:
    """The newest sagas."""
    states = ["COMPENSATION_FAILED"] if stuck else ["RUNNING", "COMPENSATING"] if running else None

    async def work(database: Database, _streams: Streams) -> Any:
        async with database.connection() as tx:
            return await log.listed(tx, states, queue, limit)

    columns = {
        "id": "saga", "kind": "kind", "subject": "of", "state": "state", "step": "step", "direction": "",
        "attempt": "attempts",
        "waits_until": "waits until", "note": "last said", "reason": "undone for",
    }  # fmt: skip
    _show(_run(data_dir, work), columns, json=json, empty="No such sagas.")


@saga_app.command("show")
def show_saga(
    subject: Annotated[UUID, typer.Argument(help="An order's, message's or saga's id.")],
    data_dir: DataDir = Path(".comanda"),
    json: Json = False,
) -> None:
    """Where it stands, and every attempt: who, when, how long, with what outcome."""

    async def work(database: Database, _streams: Streams) -> Any:
        async with database.connection() as tx:
            return await log.show(tx, subject)

    sagas, attempts = _run(data_dir, work)
    if not sagas:
        raise Fault(f"There is no saga of {subject}.")
    columns = {"id": "saga", "kind": "kind", "state": "state", "reached": "reached", "step": "next step",
               "direction": "", "waits_until": "waits until", "note": "last said", "reason": "undone for"}  # fmt: skip
    _show(sagas, columns, json=json, empty="")
    columns = {"at": "at", "step": "step", "direction": "", "attempt": "attempt", "outcome": "outcome",
               "duration_ms": "ms", "worker": "worker", "detail": "said"}  # fmt: skip
    _show(attempts, columns, json=json, empty="No attempt yet.")


@queue_app.command("list")
def list_queues(data_dir: DataDir = Path(".comanda"), json: Json = False) -> None:
    """Depth of each queue, its limit, and how many jobs it has done since Redis was last empty."""

    async def work(database: Database, streams: Streams) -> Any:
        async with database.connection() as tx:
            depths, known = await log.depths(tx), await switches.read(tx)
        for row in depths:
            switch = known[row["queue"]]
            counted = await streams.counters(row["queue"])
            row |= {
                "limit": switch.rate_limit,
                "paused": switch.is_paused,
                "completed": counted.get("completed", 0),
                "failed": counted.get("failed", 0),
            }
        return depths

    columns = {"queue": "queue", "ready": "ready", "delayed": "delayed", "running": "running",
               "oldest_seconds": "oldest (s)", "limit": "limit /s", "paused": "paused",
               "completed": "completed", "failed": "failed"}  # fmt: skip
    _show(_run(data_dir, work), columns, json=json, empty="")


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
            return await log.listed(tx, ["RUNNING", "COMPENSATING", "COMPENSATION_FAILED"], queue, limit)

    columns = {"id": "saga", "kind": "kind", "step": "step", "reached": "progress", "priority": "priority",
               "attempt": "attempts", "waits_until": "waits until", "lease_until": "leased until",
               "worker": "worker", "note": "last said"}  # fmt: skip
    _show(_run(data_dir, work), columns, json=json, empty="Nothing stands there.")


@queue_app.command("limit")
def limit_queue(
    queue: Annotated[str, typer.Argument(help="One of the four queues.")],
    rate: Annotated[int, typer.Argument(min=0, help="Jobs a second for all workers together; 0: no limit.")],
    data_dir: DataDir = Path(".comanda"),
) -> None:
    """Limit a queue while everything runs; workers follow within a second."""

    async def work(database: Database, _streams: Streams) -> Any:
        async with database.transaction(LIMIT) as tx:
            return await switches.set_limit(tx, _known(queue), rate or None, actor=_actor())

    _run(data_dir, work)
    Console(stderr=True).print(f"{queue}: {f'at most {rate} jobs a second' if rate else 'no limit'}")


@queue_app.command("pause")
def pause_queue(queue: Annotated[str, typer.Argument()], data_dir: DataDir = Path(".comanda")) -> None:
    """Start nothing more in a queue; what is under way goes on."""
    _switch(queue, data_dir, is_paused=True)


@queue_app.command("resume")
def resume_queue(queue: Annotated[str, typer.Argument()], data_dir: DataDir = Path(".comanda")) -> None:
    """Work on a paused queue again."""
    _switch(queue, data_dir, is_paused=False)


def _switch(queue: str, data_dir: Path, *, is_paused: bool) -> None:
    async def work(database: Database, _streams: Streams) -> Any:
        async with database.transaction(PAUSE) as tx:
            return await switches.set_paused(tx, _known(queue), is_paused=is_paused, actor=_actor())

    _run(data_dir, work)
    Console(stderr=True).print(f"{queue}: {'paused' if is_paused else 'runs'}")


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
            return await dead_letters.listed(tx, with_redriven=with_redriven, queue=queue, limit=limit)

    columns = {"id": "letter", "created_at": "since", "saga_id": "saga", "queue": "queue", "step": "step",
               "direction": "", "error": "error", "redriven_by": "redriven by"}  # fmt: skip
    _show(_run(data_dir, work), columns, json=json, empty="No dead letters.")


@letters_app.command("redrive")
def redrive_letters(
    reason: Reason,
    ids: Annotated[list[UUID] | None, typer.Argument(help="Which; without any, --all is needed.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are open.")] = False,
    limit: Limit = 1000,
    data_dir: DataDir = Path(".comanda"),
    json: Json = False,
) -> None:
    """Send dead letters round again: their sagas stand at their step, with all attempts before them."""
    if bool(ids) == everything:
        raise ConfigurationFault("Name the letters to redrive, or say --all.")

    async def work(database: Database, streams: Streams) -> Any:
        async with database.transaction(REDRIVE) as tx:
            sagas = await dead_letters.mark_redriven(tx, ids or None, actor=_actor(), reason=reason, limit=limit)
            due = await log.resume(tx, sagas, actor=_actor(), reason=reason)
        await streams.offer_all(by_queue(due))
        return [{"saga": one.id, "queue": one.queue} for one in due]

    _show(_run(data_dir, work), {"saga": "saga", "queue": "goes on in"}, json=json, empty="Nothing to redrive.")


@orders_app.command("show")
def show_order(
    order_id: Annotated[UUID, typer.Argument()], data_dir: DataDir = Path(".comanda"), json: Json = False
) -> None:
    """An order: its state, its sagas' attempts, its events."""

    async def work(database: Database, _streams: Streams) -> Any:
        async with database.connection() as tx:
            (order,) = await reads.find(tx, [order_id])
            events = await outbox.of_orders(tx, [order_id])
            return order, await log.show(tx, order_id), events

    order, (_, attempts), events = _run(data_dir, work)
    if order is None:
        raise Fault(f"There is no order {order_id}.")
    status = {"order": order_id, "state": order.state, "total": order.total_amount, "currency": order.currency,
              "reason": order.failure_reason}  # fmt: skip
    _show([status], {name: name for name in status}, json=json, empty="")
    story = [
        {"at": one["at"], "what": f"{one['step']} {one['direction']}", "how": one["outcome"], "said": one["detail"]}
        for one in attempts
    ]
    story += [{"at": one["at"], "what": one["type"], "how": "event", "said": None} for one in events]
    story.sort(key=lambda line: line["at"])
    _show(story, {"at": "at", "what": "what", "how": "how", "said": "said"}, json=json, empty="")
