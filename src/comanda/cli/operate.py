"""For who is paged: queues, dead letters, orders, the audit. `--json` gives NDJSON, one object a line."""

from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console

from comanda.audit import acts
from comanda.checkout import story
from comanda.cli.sagas import by_hand
from comanda.cli.terminal import DataDir, Json, Limit, Reason, actor, run, show
from comanda.db import Database
from comanda.errors import ConfigurationFault, Fault
from comanda.failpoints import Boundary
from comanda.messaging import dead_letters, switches
from comanda.messaging.streams import QUEUES, Streams
from comanda.saga import log, switching, verbs

LIMIT = Boundary("operator.limit")
PAUSE = Boundary("operator.pause")
REDRIVE = Boundary("operator.redrive")

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
    show(run(data_dir, work), columns, json=json, empty="")


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
            return await log.unended(tx, queue, limit)

    columns = {"id": "saga", "kind": "kind", "step": "step", "reached": "progress", "priority": "priority",
               "attempt": "attempts", "waits_until": "waits until", "lease_until": "leased until",
               "worker": "worker", "note": "last said"}  # fmt: skip
    show(run(data_dir, work), columns, json=json, empty="Nothing stands there.")


@queue_app.command("limit")
def limit_queue(
    queue: Annotated[str, typer.Argument(help="One of the four queues.")],
    rate: Annotated[
        int, typer.Argument(min=0, max=_FASTEST, help="Jobs a second for all workers together; 0: no limit.")
    ],
    reason: Reason = "",
    data_dir: DataDir = Path(".comanda"),
) -> None:
    """Limit a queue while everything runs; workers follow within a second."""

    async def work(database: Database, _streams: Streams) -> Any:
        async with database.transaction(LIMIT) as tx:
            await switching.limit(tx, _known(queue), rate or None, actor=actor(), reason=reason)

    run(data_dir, work)
    Console(stderr=True).print(f"{queue}: {f'at most {rate} jobs a second' if rate else 'no limit'}")


@queue_app.command("pause")
def pause_queue(
    queue: Annotated[str, typer.Argument()], reason: Reason = "", data_dir: DataDir = Path(".comanda")
) -> None:
    """Start nothing more in a queue; what is under way goes on."""
    _switch(queue, data_dir, reason, is_paused=True)


@queue_app.command("resume")
def resume_queue(
    queue: Annotated[str, typer.Argument()], reason: Reason = "", data_dir: DataDir = Path(".comanda")
) -> None:
    """Work on a paused queue again."""
    _switch(queue, data_dir, reason, is_paused=False)


def _switch(queue: str, data_dir: Path, reason: str, *, is_paused: bool) -> None:
    async def work(database: Database, _streams: Streams) -> Any:
        async with database.transaction(PAUSE) as tx:
            await switching.pause(tx, _known(queue), is_paused=is_paused, actor=actor(), reason=reason)

    run(data_dir, work)
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
    show(run(data_dir, work), columns, json=json, empty="No dead letters.")


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
            acted, result = await verbs.redrive(
                tx, by_hand(database), ids or None, actor=actor(), reason=reason, limit=limit
            )
        await streams.offer_all(result.onward)
        return [{"saga": one.saga_id, "now": one.now, "refusal": one.refusal} for one in acted]

    show(
        run(data_dir, work), {"saga": "saga", "now": "stands at", "refusal": ""}, json=json, empty="Nothing to redrive."
    )


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
    show([status], {name: name for name in status}, json=json, empty="")
    standings = [{"of": one.about or one.kind, "saga": one.saga_id, "stands": story.sentence(one)}
                 for one in told.standings]  # fmt: skip
    show(standings, {"of": "of", "saga": "saga", "stands": "stands"}, json=json, empty="")
    columns = {"at": "at", "source": "where", "what": "what", "how": "how", "said": "said", "who": "who", "ms": "ms"}
    show(story.rows_of(told.lines), columns, json=json, empty="")


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

    columns = {"at": "at", "actor": "who", "act": "did", "subject": "to", "reason": "because", "detail": "detail"}
    show(run(data_dir, work), columns, json=json, empty="Nobody has done anything yet.")
