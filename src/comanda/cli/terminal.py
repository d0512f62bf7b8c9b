"""What every command for operators has in common: where to connect, how rows are shown, who asks and decides."""

import getpass
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
import uvloop
from rich.console import Console
from rich.table import Table
from rich.text import Text

from comanda import failpoints, settings
from comanda.assembly import definitions
from comanda.cli.running import located
from comanda.clock import rfc3339
from comanda.db import Database
from comanda.messaging.streams import Streams
from comanda.payments.gateway import Gateway, InstantGateway
from comanda.saga.settling import Settling

DataDir = Annotated[
    Path, typer.Option("--data-dir", help="Of a running `comanda up`, unless COMANDA_DATABASE_URL is set.")
]
Json = Annotated[bool, typer.Option("--json", help="NDJSON on stdout.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="Rows at the most.")]
_LONGEST_REASON = 1000


def _said(reason: str) -> str:
    """A reason as it is kept: text that can be stored and shown."""
    try:
        reason.encode()
    except UnicodeEncodeError:
        raise typer.BadParameter("it is not readable as UTF-8") from None
    if "\0" in reason or len(reason) > _LONGEST_REASON:
        raise typer.BadParameter(f"at most {_LONGEST_REASON} characters, none of them NUL")
    return reason


Reason = Annotated[str, typer.Option("--reason", help="Why; kept with your name.", callback=_said)]

# Columns that are copied into the next command, and names that nobody reads in pieces.
_WHOLE = {
    "saga",
    "letter",
    "order",
    "queue",
    "of",
    "kind",
    "state",
    "step",
    "next step",
    "outcome",
    "worker",
    "at",
    "bulk",
}
_PIPED_WIDTH = 240

Work = Callable[[Database, Streams], Coroutine[Any, Any, Any]]


def run(data_dir: Path, work: Work) -> Any:
    """Connect to what runs, do the work, close."""

    async def main() -> Any:
        known = settings.load()
        if known.failpoints is not None:
            failpoints.switch_on(known.failpoints)
        where = located(known, data_dir)
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


def show(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str], *, json: bool, empty: str) -> None:
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
        table.add_row(*(_cell(row.get(name)) for name in columns))
    console = Console()
    # Whoever reads from a pipe has no width: nothing is folded for him.
    (console if console.is_terminal else Console(width=_PIPED_WIDTH)).print(table)


def _cell(value: Any) -> Text:
    """As it is: what customers and operators wrote is neither markup nor a command to the terminal."""
    if value is None:
        return Text()
    shown = f"{value:.1f}" if isinstance(value, float) else str(_plain(value))
    return Text("".join(letter if letter.isprintable() else " " for letter in shown))


def actor() -> str:
    return f"cli:{getpass.getuser()}"


def by_hand(database: Database, gateway: Gateway | None = None) -> Settling:
    """What settles the outcomes that an operator decides; runs nothing itself. `gateway`: is asked what it has done."""
    known = definitions(settings.load(), database, gateway or InstantGateway(), None, None)
    return Settling.by_hand(known.sagas, actor=actor(), lease=settings.load().lease)
