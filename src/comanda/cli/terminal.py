"""What every command for operators has in common: where to connect, how rows are shown, who asks."""

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

from comanda import failpoints, settings
from comanda.cli.running import located
from comanda.clock import rfc3339
from comanda.db import Database
from comanda.messaging.streams import Streams

DataDir = Annotated[
    Path, typer.Option("--data-dir", help="Of a running `comanda up`, unless COMANDA_DATABASE_URL is set.")
]
Json = Annotated[bool, typer.Option("--json", help="NDJSON on stdout.")]
Limit = Annotated[int, typer.Option(min=1, max=10_000, help="Rows at the most.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept with your name.")]
Why = Annotated[str, typer.Option("--reason", help="Why; kept with your name.")]

# Columns that are copied into the next command.
_WHOLE = {"saga", "letter", "order", "queue", "of", "kind", "state"}

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
        table.add_row(*("" if row.get(name) is None else str(_plain(row[name])) for name in columns))
    Console().print(table)


def actor() -> str:
    return f"cli:{getpass.getuser()}"
