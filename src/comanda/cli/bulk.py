"""Acts on all that a filter shows: begun, watched, stopped, resumed. The relay carries them out."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from comanda.bulk import bulks, chunks, filters, selection
from comanda.bulk.bulks import Bulk, Result
from comanda.bulk.chunks import Rehearsal
from comanda.bulk.filters import BulkVerb, Filter
from comanda.bulk.selection import MOST
from comanda.cli.terminal import DataDir, Json, Limit, Reason, actor, because, by_hand, run, show
from comanda.clock import new_id
from comanda.console import effects
from comanda.db import Database
from comanda.db.database import LISTS
from comanda.errors import DependencyFault, Fault
from comanda.failpoints import Boundary
from comanda.messaging.streams import Streams
from comanda.saga.settling import Settling

BULK = Boundary("operator.bulk")

_LOOK_EVERY = 0.25  # seconds
_UNBEGUN = 40  # looks after which somebody is told that nobody has begun it
_MOST_SHOWN = 50
_PAGE = 1000
_INTERRUPTED = 130

Filters = Annotated[
    list[str] | None,
    typer.Option("--filter", help="name=value, as the console's list has it; given often, all of them hold."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="With --filter: what it would do now; nothing is changed.")]
Detach = Annotated[bool, typer.Option("--detach", help="Begin it, and don't wait for its end.")]
BulkId = Annotated[UUID, typer.Argument(help="Of a bulk act.")]

bulk_app = typer.Typer(help="Acts on many at once: what a filter showed, in the background.", no_args_is_help=True)


def wanted(of: str, given: Sequence[str]) -> Filter:
    """The filter that these `name=value` say.

    Raises:
        BadParameter: they can't be read.
    """
    asked: dict[str, str] = {}
    for one in given:
        name, joint, value = one.partition("=")
        if not joint or not value.strip() or name.strip() in asked:
            raise typer.BadParameter("each reads like error=timeout, each name once", param_hint="--filter")
        asked[name.strip()] = value
    found = filters.read(of, asked)
    if isinstance(found, str):
        raise typer.BadParameter(found, param_hint="--filter")
    return found


def act_on_all(
    verb: BulkVerb, what: Filter, reason: str, data_dir: Path, *, dry_run: bool, detach: bool, json: bool
) -> None:
    """Do it to all that match, or say what that would do."""
    if dry_run:
        _tell(run(data_dir, _rehearsing(verb, what)), verb, what, json=json)
        return
    because(reason)
    begun: list[Bulk] = []

    async def work(database: Database, _streams: Streams) -> tuple[Bulk | None, list[Result]]:
        one = await _begun(database, verb, what, reason)
        if one is None or detach:
            return one, []
        begun.append(one)
        return await _watched(database, one)

    try:
        one, left = run(data_dir, work)
    except KeyboardInterrupt:
        for one in begun:
            Console(stderr=True).print(f"It goes on without you; comanda bulk stop {one.id} stops it.")
        raise typer.Exit(_INTERRUPTED) from None
    if one is None:
        Console(stderr=True).print("Nothing matches that could be acted on.")
        return
    _show_results(left if json else left[:_MOST_SHOWN], json=json, empty="")
    if len(left) > _MOST_SHOWN and not json:
        Console(stderr=True).print(f"… and {len(left) - _MOST_SHOWN} more: comanda bulk show {one.id} --refused")
    _show_bulks([one], json=json)
    if left:
        raise Fault(f"{len(left)} of {one.items} not done: the last column says why.")


@bulk_app.command("list")
def list_bulks(limit: Limit = 50, data_dir: DataDir = Path(".comanda"), json: Json = False) -> None:
    """The newest acts on many."""

    async def work(database: Database, _streams: Streams) -> list[Bulk]:
        async with database.connection() as tx:
            return await bulks.page(tx, before=None, limit=limit)

    _show_bulks(run(data_dir, work), json=json)


@bulk_app.command("show")
def show_bulk(
    bulk: BulkId,
    refused: Annotated[bool, typer.Option("--refused", help="Only what was not done.")] = False,
    after: Annotated[int, typer.Option(min=0, help="Only items after this one.")] = 0,
    limit: Limit = 50,
    data_dir: DataDir = Path(".comanda"),
    json: Json = False,
) -> None:
    """How far it is, and what came of each."""

    async def work(database: Database, _streams: Streams) -> tuple[Bulk, list[Result]]:
        async with database.connection() as tx:
            one = _known(await bulks.find(tx, [bulk]), bulk)
            return one, await bulks.results(tx, bulk, after=after, limit=limit, without_done=refused)

    one, results = run(data_dir, work)
    _show_results(results, json=json, empty="None.")
    _show_bulks([one], json=json)


@bulk_app.command("stop")
def stop_bulk(bulk: BulkId, reason: Reason, data_dir: DataDir = Path(".comanda"), json: Json = False) -> None:
    """Do no more of it; what is done stays done."""
    _switch(bulk, reason, data_dir, is_on=False, json=json)


@bulk_app.command("resume")
def resume_bulk(bulk: BulkId, reason: Reason, data_dir: DataDir = Path(".comanda"), json: Json = False) -> None:
    """Go on where it was stopped."""
    _switch(bulk, reason, data_dir, is_on=True, json=json)


def _switch(bulk: UUID, reason: str, data_dir: Path, *, is_on: bool, json: bool) -> None:
    because(reason)

    async def work(database: Database, _streams: Streams) -> tuple[Bulk | None, Bulk]:
        async with database.transaction(BULK) as tx:
            (switched,) = await (bulks.resume if is_on else bulks.stop)(tx, [bulk], actor=actor(), reason=reason)
            return switched, _known(await bulks.find(tx, [bulk]), bulk)

    switched, standing = run(data_dir, work)
    _show_bulks([standing], json=json)
    if switched is None:
        raise Fault(f"It is {standing.state}: nothing was changed.")


def _known(found: Sequence[Bulk | None], bulk: UUID) -> Bulk:
    (one,) = found
    if one is None:
        raise Fault(f"There is no bulk act {bulk}.")
    return one


async def _begun(database: Database, verb: BulkVerb, what: Filter, reason: str) -> Bulk | None:
    lists = await _lists(database)
    try:
        async with lists.connection() as tx:
            selected = await selection.select(tx, what, await selection.moment(tx))
    finally:
        await lists.close()
    if len(selected) > MOST:
        raise Fault(f"More than {MOST} match: make the filter narrower.")
    if not selected:
        return None
    async with database.transaction(BULK) as tx:
        return await bulks.begin(tx, new_id(), verb, what, selected, actor=actor(), reason=reason)


async def _watched(database: Database, one: Bulk) -> tuple[Bulk, list[Result]]:
    """Until it has ended, or somebody stops it; and what was not done."""
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    looks = 0
    with Progress(*columns, console=console, disable=not console.is_terminal) as shown:
        task = shown.add_task(one.verb, total=one.items)
        while one.state == "RUNNING":
            await asyncio.sleep(_LOOK_EVERY)
            looks += 1
            try:
                async with database.connection() as tx:
                    one = _known(await bulks.find(tx, [one.id]), one.id)
            except DependencyFault:
                continue  # it is looked again; the act does not depend on who watches
            held = " (held back: the queues are full enough)" if one.is_held_back else ""
            shown.update(task, completed=one.worked, description=f"{one.verb}{held}")
            if looks == _UNBEGUN and not one.worked and not held:
                console.print("Nobody has begun it: does a relay run, and is an earlier act under way?")
    if one.state == "STOPPED":
        console.print(f"Somebody has stopped it; comanda bulk resume {one.id} goes on.")
    left: list[Result] = []
    async with database.connection() as tx:
        while page := await bulks.results(
            tx, one.id, after=left[-1].position if left else 0, limit=_PAGE, without_done=True
        ):
            left += page
    return one, left


def _rehearsing(verb: BulkVerb, what: Filter) -> Any:
    async def work(database: Database, _streams: Streams) -> tuple[Rehearsal, Settling]:
        lists, settling = await _lists(database), by_hand(database)
        try:
            seen = await chunks.rehearse(database, lists, lambda _actor: settling, what, verb, actor())
        finally:
            await lists.close()
        return seen, settling

    return work


async def _lists(database: Database) -> Database:
    """A connection for searches."""
    return await Database.open(database.url, name="comanda-cli-lists", size=1, session=LISTS)


def _tell(found: tuple[Rehearsal, Settling], verb: BulkVerb, what: Filter, *, json: bool) -> None:
    seen, settling = found
    console = Console(stderr=True)
    for one, count in seen.groups:
        console.print(f"{count} of {one.kind or 'unreadable'} {one.stood or one.step}", markup=False, highlight=False)
        saga = settling.sagas.get((one.kind or "", one.version or 0))
        if saga is not None and one.step in {step.name for step in saga.steps}:
            row = {"id": "…", "step": one.step, "direction": one.direction}
            for text, values in effects.of("retry" if verb == "redrive" else verb, row, saga):
                console.print(f"  {text.format(**values)}", markup=False, highlight=False)
    rows: list[dict[str, Any]] = [{"count": count, "stands": it} for it, count in seen.stands.most_common()]
    rows += [{"count": count, "refusal": it} for it, count in seen.refused.most_common()]
    show(rows, {"count": "count", "stands": "will stand", "refusal": "not possible, because"}, json=json, empty="")
    worth = [{"amount": amount, "currency": currency} for amount, currency in seen.amounts]
    summary: dict[str, Any] = {"verb": verb, "filter": what.plain(), "match": seen.total, "cut": seen.is_cut,
                               "tried": seen.looked, "orders": seen.orders, "worth": worth}  # fmt: skip
    if not json:
        summary |= {"filter": _words(what), "worth": ", ".join(f"{one['amount']} {one['currency']}" for one in worth)}
    show([summary], {name: name for name in summary}, json=json, empty="")


def _words(what: Filter) -> str:
    return " ".join(f"{name}={value}" for name, value in what.plain().items())


def _show_bulks(rows: Sequence[Bulk], *, json: bool) -> None:
    shown = [
        {"bulk": one.id, "verb": one.verb, "state": one.state, "items": one.items, "done": one.done,
         "refused": one.refused, "failed": one.failed, "at": one.created_at, "who": one.actor, "because": one.reason,
         "filter": one.filter.plain() if json else _words(one.filter)}
        for one in rows
    ]  # fmt: skip
    columns = ("bulk", "state", "verb", "items", "done", "refused", "failed", "at", "who", "because", "filter")
    show(shown, {name: name for name in columns}, json=json, empty="Nobody has acted on many at once.")


def _show_results(rows: Sequence[Result], *, json: bool, empty: str) -> None:
    shown = [
        {"item": one.position, "saga": one.saga_id, "letter": one.letter_id, "kind": one.kind, "subject": one.subject,
         "outcome": one.outcome, "stood": one.stood, "now": one.stands, "because": one.said}
        for one in rows
    ]  # fmt: skip
    columns = {"item": "item", "saga": "saga", "kind": "kind", "stood": "stood", "outcome": "outcome", "now": "stands",
               "because": "not done, because"}  # fmt: skip
    show(shown, columns, json=json, empty=empty)
