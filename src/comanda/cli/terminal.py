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
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from comanda import failpoints, settings, telemetry
from comanda.assembly import definitions
from comanda.audit import acts
from comanda.cli import shapes
from comanda.cli.running import located
from comanda.clock import rfc3339
from comanda.db import Database
from comanda.messaging.streams import Streams
from comanda.payments.gateway import Gateway, InstantGateway
from comanda.saga.settling import Settling
from comanda.sentences import Sentence

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


def because(reason: str) -> str:
    """A reason that an act needs.

    Raises:
        BadParameter: it says nothing.
    """
    if acts.is_blank(reason):
        raise typer.BadParameter("say why: it is kept with your name", param_hint="--reason")
    return _said(reason)


Because = Annotated[str, typer.Option("--reason", help="Why; kept with your name.", callback=because)]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept with your name.", callback=_said)]

# Columns that are copied into the next command, and names that nobody reads in pieces.
_WHOLE = {"saga", "letter", "order", "queue", "of", "kind", "state", "step", "next step", "outcome", "worker", "at",
          "bulk"}  # fmt: skip
_PIPED_WIDTH = 240
_FOLDED_WIDTH = 24  # less than that of a sentence, and it is a column of single words

Work = Callable[[Database, Streams], Coroutine[Any, Any, Any]]


def run(data_dir: Path, work: Work) -> Any:
    """Connect to what runs, do the work, close."""

    async def main() -> Any:
        known = settings.load()
        if known.failpoints is not None:
            failpoints.switch_on(known.failpoints)
        where = located(known, data_dir)
        telemetry.configure(level="warning", directory=None, process="cli")  # to stderr: stdout is the answer
        database = await Database.open(where.database_url, name="comanda-cli", size=2)
        streams = Streams.open(where.redis_url, name="cli")
        try:
            return await work(database, streams)
        finally:
            await streams.close()
            await database.close()

    return uvloop.run(main())


def _plain(value: Any) -> Any:
    if isinstance(value, Sentence):
        return str(value)
    return rfc3339(value) if isinstance(value, datetime) else value


def show(
    rows: Iterable[Mapping[str, Any]],
    columns: Mapping[str, str],
    *,
    json: bool,
    empty: str,
    line: type[msgspec.Struct] | None = None,
) -> None:
    """Rows as a table for people, or one JSON object a line: the fields of `line`, else all that a row has."""
    rows = list(rows)
    if json:
        for row in rows:
            names = row if line is None else line.__struct_fields__
            told = {shapes.camel(name): _plain(row[name]) for name in names if name in row}
            typer.echo(msgspec.json.encode(told).decode())
        return
    if not rows:
        Console(stderr=True).print(empty)
        return
    console = Console()
    # Whoever reads from a pipe has no width: nothing is folded for him.
    console = console if console.is_terminal else Console(width=_PIPED_WIDTH)
    cells = {name: [_cell(row.get(name)) for row in rows] for name in columns}
    shown, below = _fitting(columns, cells, console.width)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in shown:
        table.add_column(columns[name], overflow="fold", no_wrap=columns[name] in _WHOLE)
    if not below:
        for number in range(len(rows)):
            table.add_row(*(cells[name][number] for name in shown))
        console.print(table)
        return
    for number in range(len(rows)):
        console.print(Text("  ").join(cells[name][number] for name in shown), soft_wrap=True)
        under = [
            Text.assemble((f"{columns[name] or name} ", "dim"), cells[name][number])
            for name in below
            if cells[name][number].plain.strip()
        ]
        console.print(Padding(Text("  ").join(under), (0, 0, 0, 4)))


def _fitting(columns: Mapping[str, str], cells: Mapping[str, list[Text]], width: int) -> tuple[list[str], list[str]]:
    """The columns that stand in a row, and those that stand below it since they would only be folded to pieces.

    A column whose text may be folded gets on with a few words' room.
    """
    needed = {
        name: max(len(title), *(len(one) for one in cells[name]))
        if title in _WHOLE
        else min(max(len(title), *(len(one) for one in cells[name])), _FOLDED_WIDTH)
        for name, title in columns.items()
    }
    if sum(needed.values()) + len(columns) - 1 <= width:
        return list(columns), []
    shown, left = list[str](), width
    for name in columns:
        left -= needed[name] + 2
        if left < 0 and shown:
            break
        shown.append(name)
    return shown, [name for name in columns if name not in shown]


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
