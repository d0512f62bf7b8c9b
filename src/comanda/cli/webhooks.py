"""Webhooks: for developers a receiver of their own, for operators the endpoints and what was delivered to them."""

import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import msgspec
import typer
import uvloop
from rich.console import Console
from rich.text import Text

from comanda import clock, settings
from comanda.assembly import definitions
from comanda.audit import acts
from comanda.audit.acts import Act
from comanda.cli import shapes
from comanda.cli.commands import LONGEST
from comanda.cli.processes import stopped_by_signal
from comanda.cli.terminal import Because, DataDir, Json, Limit, actor, run, show
from comanda.db import Database, Tx
from comanda.errors import ConfigurationFault, Fault
from comanda.failpoints import Boundary
from comanda.messaging.streams import Streams
from comanda.payments.gateway import InstantGateway
from comanda.proof import instance, receiver
from comanda.proof.load.prepare import Person
from comanda.proof.receiver import Answer, Heard, Receiver
from comanda.saga.rescue import by_queue
from comanda.settings import Settings
from comanda.webhooks import deliveries, endpoints
from comanda.webhooks.deliveries import State

REDELIVER = Boundary("operator.redeliver")

Endpoint = Annotated[UUID, typer.Argument(help="An endpoint's id: `comanda webhooks list` has them.")]

webhooks_app = typer.Typer(help="Webhooks: hear them, see what was delivered, send it again.", no_args_is_help=True)


@webhooks_app.command("listen")
def listen_command(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the loopback; 0: a free one.")] = 0,
    forward: Annotated[str | None, typer.Option(help="Send each on to this URL, and answer as it does.")] = None,
    types: Annotated[list[str] | None, typer.Option("--type", help="Only these events; may be given often.")] = None,
    data_dir: Annotated[Path, typer.Option("--data-dir", help="Of a running `comanda up`.")] = Path(".comanda"),
    json: Json = False,
) -> None:
    """Hear what the instance sends, from now on: print it, verify its signature; the endpoint goes with Ctrl-C."""
    if forward is not None and not forward.startswith(("http://", "https://")):
        raise typer.BadParameter("it has to begin with http:// or https://", param_hint="--forward")
    uvloop.run(_listen(settings.load(), data_dir, port=port, forward=forward, types=types or [], json=json))


async def _listen(
    known: Settings, data_dir: Path, *, port: int, forward: str | None, types: list[str], json: bool
) -> None:
    stop = stopped_by_signal()
    where = instance.written(data_dir)
    admin = Person(known.admin_email, instance.admin_password(known, data_dir))
    errors = Console(stderr=True)
    async with AsyncExitStack() as stack:
        answer: Answer = receiver.taken
        if forward is not None:
            answer = await stack.enter_async_context(receiver.forwarding(forward))

        async def heard(one: Heard) -> int:
            status = await answer(one)
            _print(one, status, json=json)
            return status

        api = await stack.enter_async_context(receiver.signed_in(where.api, admin))
        listening = await stack.enter_async_context(Receiver(heard, port=port))
        mine = f"comanda webhooks listen, {socket.gethostname()}"
        endpoint_id = await receiver.register(api, admin, listening, description=mine, types=types)
        stack.push_async_callback(receiver.remove, api, admin, endpoint_id)
        to = "" if forward is None else f", forwarded to {forward}"
        errors.print(f"Endpoint {endpoint_id} at {listening.url}{to}; Ctrl-C ends it", highlight=False, soft_wrap=True)
        await stop.wait()


def _print(one: Heard, status: int, *, json: bool) -> None:
    if json:
        told = {"at": _time(one.at), "id": one.id, "type": one.type, "orderId": one.order or None,
                "isVerified": one.is_signed, "status": status}  # fmt: skip
        typer.echo(msgspec.json.encode(told).decode())
        return
    line = Text.assemble(
        (f"{_time(one.at)}  ", "dim"),
        f"{_printable(one.type):<22} {_printable(one.order) or '-':<36}  ",
        ("verified", "green") if one.is_signed else ("NOT VERIFIED", "bold red"),
        f"  {status}",
    )
    Console().print(line, soft_wrap=True, highlight=False)


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _time(seconds: float) -> str:
    return clock.rfc3339(datetime.fromtimestamp(seconds, UTC))


@webhooks_app.command("list")
def list_endpoints(data_dir: DataDir = Path(".comanda"), json: Json = False) -> None:
    """Where events are sent."""

    async def work(database: Database, _streams: Streams) -> Any:
        async with database.connection() as tx:
            return [_row(one, json=json) for one in await endpoints.listed(tx)]

    columns = {"id": "endpoint", "url": "url", "event_types": "events", "is_active": "active",
               "disabled_reason": "off because", "description": "what it is", "created_at": "since"}  # fmt: skip
    show(run(data_dir, work), columns, json=json, empty="Events are sent nowhere.", line=shapes.Endpoint)


@webhooks_app.command("deliveries")
def list_deliveries(
    endpoint: Endpoint,
    status: Annotated[str | None, typer.Option(help="PENDING, DELIVERED or FAILED; else all.")] = None,
    limit: Limit = 50,
    data_dir: DataDir = Path(".comanda"),
    json: Json = False,
) -> None:
    """The newest deliveries to an endpoint, with the last answer to each."""
    state = _state(status)

    async def work(database: Database, _streams: Streams) -> Any:
        async with database.connection() as tx:
            await _known(tx, endpoint)
            found = await deliveries.page(tx, endpoint, state, before=None, limit=limit)
            tries = await deliveries.attempts(tx, [one.id for one in found])
        rows = []
        for one in found:
            last = tries[one.id][-1] if tries[one.id] else None
            rows.append(
                {"id": one.id, "at": one.created_at, "type": one.event_type, "event": one.event_id,
                 "status": one.state, "again": one.is_again, "attempts": len(tries[one.id]),
                 "answer": last and (last.status or last.error)}
            )  # fmt: skip
        return rows

    columns = {"id": "delivery", "at": "at", "type": "type", "event": "event", "status": "state", "again": "again",
               "attempts": "attempts", "answer": "last answer"}  # fmt: skip
    show(run(data_dir, work), columns, json=json, empty="Nothing was sent there.", line=shapes.Delivery)


@webhooks_app.command("redeliver")
def redeliver(
    endpoint: Endpoint,
    reason: Because,
    ids: Annotated[list[UUID] | None, typer.Argument(help="Deliveries; without any, --since is needed.")] = None,
    since: Annotated[float | None, typer.Option(min=0, max=LONGEST, help="All of the last so many hours.")] = None,
    data_dir: DataDir = Path(".comanda"),
    json: Json = False,
) -> None:
    """Send what was delivered, or given up on, once more in its order, under the same ids; 10,000 at the most."""
    if bool(ids) == (since is not None):
        raise ConfigurationFault("Name deliveries, or say --since HOURS.")

    async def work(database: Database, streams: Streams) -> Any:
        saga = definitions(settings.load(), database, InstantGateway(), None, None).webhook
        async with database.transaction(REDELIVER) as tx:
            if not (await _known(tx, endpoint)).is_active:
                raise Fault(f"{endpoint} is off: PATCH /api/v1/webhooks/{endpoint} with isActive true first.")
            start = None if since is None else clock.now() - timedelta(hours=since)
            made, due = await deliveries.send_again(tx, saga, endpoint, ids=ids or None, since=start)
            if ids and not made:
                raise Fault("None of these is there and has ended: nothing is sent.")
            await acts.record(tx, [Act(actor(), "webhook.redeliver", str(endpoint), reason, {"deliveries": len(made)})])
        await streams.hint(by_queue(due))
        return [{"delivery": one} for one in made]

    columns, empty = {"delivery": "delivery"}, "Nothing of that has ended."
    show(run(data_dir, work), columns, json=json, empty=empty, line=shapes.Redelivered)


def _state(status: str | None) -> State | None:
    match status:
        case None | "PENDING" | "DELIVERED" | "FAILED":
            return status
    raise ConfigurationFault(f"--status {status}: there are PENDING, DELIVERED and FAILED")


async def _known(tx: Tx, endpoint: UUID) -> endpoints.Endpoint:
    (found,) = await endpoints.find(tx, [endpoint])
    if found is None:
        raise Fault(f"There is no endpoint {endpoint}.")
    return found


def _row(one: endpoints.Endpoint, *, json: bool) -> Mapping[str, Any]:
    types = one.event_types if json else ", ".join(one.event_types) or "all"
    return {"id": one.id, "url": one.url, "event_types": types,
            "is_active": one.is_active, "disabled_reason": one.disabled_reason, "description": one.description,
            "created_at": one.created_at}  # fmt: skip
