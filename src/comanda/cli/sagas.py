"""Sagas for who is paged: what stands where and why, and the four verbs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import typer

from comanda import settings
from comanda.cli import bulk, shapes
from comanda.cli.running import located
from comanda.cli.terminal import DataDir, Json, Limit, Reason, actor, because, by_hand, run, show
from comanda.db import Database
from comanda.errors import ConfigurationFault, Fault
from comanda.failpoints import Boundary
from comanda.messaging.queues import QUEUES
from comanda.messaging.streams import Streams
from comanda.payments.gateway import HttpGateway
from comanda.saga import log, verbs

ACT = Boundary("operator.act")

Sagas = Annotated[list[UUID] | None, typer.Argument(help="Ids of sagas, orders or messages; or --filter.")]

Of = Annotated[
    Literal["orders", "stuck"],
    typer.Option(
        "--of",
        help="What the filter is of. orders (not ended): q, product, error, state, step, age. "
        "stuck (of any kind): kind, step, error, age; without --filter all of them.",
    ),
]


@dataclass(frozen=True)
class Many:
    """Options of a verb that is about many."""

    of: Literal["orders", "stuck"]
    filters: list[str] | None
    dry_run: bool
    detach: bool

    @property
    def is_asked(self) -> bool:
        return bool(self.filters) or self.of == "stuck"


saga_app = typer.Typer(help="Sagas: the recorded process of each order and message.", no_args_is_help=True)


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
    _list(states, queue, limit, data_dir, json=json, empty="No such sagas.")


def list_stuck(
    queue: Annotated[str | None, typer.Option(help="Only those that stand in this queue.")] = None,
    limit: Limit = 50,
    data_dir: DataDir = Path(".comanda"),
    json: Json = False,
) -> None:
    """What could not be undone and waits for an operator, with what it last said; `saga retry` goes on with it."""
    _list(["COMPENSATION_FAILED"], queue, limit, data_dir, json=json, empty="Nothing is stuck.")


def _list(states: list[str] | None, queue: str | None, limit: int, data_dir: Path, *, json: bool, empty: str) -> None:
    if queue is not None and queue not in QUEUES:
        raise ConfigurationFault(f"No such queue: {queue}. There are {', '.join(QUEUES)}.")

    async def work(database: Database, _streams: Streams) -> Any:
        async with database.connection() as tx:
            return await log.listed(tx, states, queue, limit)

    columns = {
        "id": "saga", "kind": "kind", "subject": "of", "state": "state", "step": "step", "direction": "",
        "attempt": "attempts",
        "waits_until": "waits until", "note": "last said", "reason": "undone for",
    }  # fmt: skip
    show(run(data_dir, work), columns, json=json, empty=empty, line=shapes.Saga)


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

    sagas, attempts = run(data_dir, work)
    if not sagas:
        raise Fault(f"There is no saga of {subject}: `comanda saga list` has the newest.")
    columns = {"id": "saga", "kind": "kind", "state": "state", "reached": "reached", "step": "next step",
               "direction": "", "waits_until": "waits until", "note": "last said", "reason": "undone for"}  # fmt: skip
    show(sagas, columns, json=json, empty="", line=shapes.Saga)
    columns = {"at": "at", "step": "step", "direction": "", "attempt": "attempt", "outcome": "outcome",
               "duration_ms": "ms", "worker": "worker", "detail": "said"}  # fmt: skip
    show(attempts, columns, json=json, empty="No attempt yet.", line=shapes.Attempt)


@saga_app.command("retry")
def retry(
    sagas: Sagas = None,
    filters: bulk.Filters = None,
    of: Of = "orders",
    reason: Reason = "",
    dry_run: bulk.DryRun = False,
    detach: bulk.Detach = False,
    data_dir: DataDir = Path(".comanda"),
    json: Json = False,
) -> None:
    """Once more: a stuck saga at its step with all attempts before it; one that waits, at once."""
    _act("retry", sagas, Many(of, filters, dry_run, detach), reason, data_dir, json=json)


@saga_app.command("skip")
def skip(
    sagas: Sagas = None,
    filters: bulk.Filters = None,
    of: Of = "orders",
    reason: Reason = "",
    dry_run: bulk.DryRun = False,
    detach: bulk.Detach = False,
    data_dir: DataDir = Path(".comanda"),
    json: Json = False,
) -> None:
    """Count the step it stands at as done, without doing it: you have seen that it is, or that it may be left out."""
    _act("skip", sagas, Many(of, filters, dry_run, detach), reason, data_dir, json=json)


@saga_app.command("compensate")
def compensate(
    sagas: Sagas = None,
    filters: bulk.Filters = None,
    of: Of = "orders",
    reason: Reason = "",
    dry_run: bulk.DryRun = False,
    detach: bulk.Detach = False,
    data_dir: DataDir = Path(".comanda"),
    json: Json = False,
) -> None:
    """Undo it from where it stands; an order ends CANCELLED, its money and stock given back.

    A refund is called off only if the gateway, which is asked, has not carried it out.
    """
    _act("compensate", sagas, Many(of, filters, dry_run, detach), reason, data_dir, json=json)


@saga_app.command("resolve")
def resolve(
    sagas: Sagas = None,
    filters: bulk.Filters = None,
    of: Of = "orders",
    reason: Reason = "",
    dry_run: bulk.DryRun = False,
    detach: bulk.Detach = False,
    data_dir: DataDir = Path(".comanda"),
    json: Json = False,
) -> None:
    """End it as undone: whatever was left to be undone, you have undone by hand."""
    _act("resolve", sagas, Many(of, filters, dry_run, detach), reason, data_dir, json=json)


async def _looked(
    database: Database, sagas: Sequence[UUID], verb: verbs.Verb, data_dir: Path
) -> Mapping[UUID, verbs.Seen]:
    """What the gateway says of refunds that may have gone out.

    Raises:
        ConfigurationFault: there are such, and nobody says where it is.
    """
    known = settings.load()
    url = located(known, data_dir).gateway_url
    async with HttpGateway(url, timeout=known.gateway_timeout_seconds) as gateway:
        async with database.connection() as tx:
            doubtful = await verbs.doubts(tx, by_hand(database, gateway), sagas, verb)
        if doubtful and not url:
            raise ConfigurationFault("COMANDA_GATEWAY_URL is not set: whether this has gone out has to be asked there")
        return await verbs.look(doubtful, patience=known.gateway_timeout_seconds)


def _act(verb: verbs.Verb, sagas: list[UUID] | None, many: Many, reason: str, data_dir: Path, *, json: bool) -> None:
    if bool(sagas) == many.is_asked:
        raise typer.BadParameter("name the sagas, or say --filter")
    if sagas and (many.dry_run or many.detach):
        raise typer.BadParameter("--dry-run and --detach go with --filter")
    if not sagas:
        what = bulk.wanted(many.of, many.filters or [])
        bulk.act_on_all(verb, what, reason, data_dir, dry_run=many.dry_run, detach=many.detach, json=json)
        return
    because(reason)

    async def work(database: Database, streams: Streams) -> Any:
        seen = await _looked(database, sagas, verb, data_dir)
        async with database.transaction(ACT) as tx:
            acted, result = await verbs.act(tx, by_hand(database), sagas, verb, actor=actor(), reason=reason, seen=seen)
        await streams.hint(result.onward)
        return acted

    acted: list[verbs.Acted] = run(data_dir, work)
    rows = [
        {"saga": one.saga_id, "kind": one.kind, "subject": one.subject, "was": one.was, "now": one.now,
         "refusal": one.refusal}
        for one in acted
    ]  # fmt: skip
    columns = {"saga": "saga", "kind": "kind", "was": "stood", "now": "stands", "refusal": "not done, because"}
    show(rows, columns, json=json, empty="", line=shapes.Acted)
    left = sum(one.refusal is not None for one in acted)
    if left:
        raise Fault(f"{left} of {len(acted)} not done: the last column says why.")
