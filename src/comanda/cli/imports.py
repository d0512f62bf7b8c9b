"""`comanda import`: a file straight into the database, a batch at a time. Run again, it goes on where it was."""

import asyncio
import csv
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import IO, Annotated, Any, BinaryIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from comanda.cli import shapes
from comanda.cli.terminal import DataDir, actor, run, show
from comanda.clock import new_id
from comanda.db import Database
from comanda.errors import ConfigurationFault, DependencyFault, Fault
from comanda.failpoints import Boundary
from comanda.imports import batches, files, imports
from comanda.imports.files import MOST_OF_RECORD, Format, Line
from comanda.imports.imports import OUTCOMES, File, Import, Intake, KeyReused, Unreadable
from comanda.imports.lines import Kind, Rejection
from comanda.imports.report import COLUMNS, cells
from comanda.messaging.streams import Streams

STORE = Boundary("operator.import")

_CHUNK = 1024 * 1024
_MOST_SHOWN = 50
_PAGE = 1000
_TRIES = 20  # at what is away, a quarter of a second apart
_SUFFIXES: dict[str, Format] = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson"}


def import_command(
    kind: Annotated[Kind, typer.Argument(help="products or stock.")],
    file: Annotated[Path, typer.Argument(help="CSV or NDJSON, by its suffix; - reads from stdin.")],
    format: Annotated[Format | None, typer.Option(help="Where the suffix does not say.")] = None,  # noqa: A002 - an option
    dry_run: Annotated[bool, typer.Option("--dry-run", help="What would come of it now; nothing is written.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Once more, though this file was imported before.")] = False,
    rejections: Annotated[Path | None, typer.Option(help="Write the rejected lines to this file, as CSV.")] = None,
    data_dir: DataDir = Path(".comanda"),
    json: Annotated[bool, typer.Option("--json", help="NDJSON on stdout: rejected lines, then the result.")] = False,
) -> None:
    """Make or change products, or bring stock to where a file says; exit code 1 when lines were rejected."""
    _check_report(rejections, file)
    with imports.spool() as spool:
        read = _read(kind, file, format or _SUFFIXES.get(file.suffix.lower()), spool)

        async def work(database: Database, _streams: Streams) -> Any:
            if dry_run:
                return await _rehearsed(database, read)
            return await _imported(database, read, is_again=again)

        result, rejected = run(data_dir, work)
    if rejections is not None:
        _write(rejections, rejected)
    _tell(result, rejected, json=json)
    if rejected:
        raise Fault(f"{len(rejected)} lines were rejected.")


def _check_report(path: Path | None, source: Path) -> None:
    """Before anything is imported: who could not be told afterwards would not know what was."""
    if path is None:
        return
    try:
        path.open("a").close()
        if source.exists() and source.samefile(path):
            raise ConfigurationFault(f"Nothing was imported. {path} is the file itself: --rejections needs another.")
    except OSError as fault:
        raise ConfigurationFault(f"Nothing was imported. {path} can't be written: {fault.strerror}") from None


def _read(kind: Kind, path: Path, format_: Format | None, spool: IO[bytes]) -> File:
    if format_ is None:
        raise ConfigurationFault("Say --format csv or --format ndjson: the name does not tell.")
    intake = Intake(kind, format_, spool)
    try:
        with _opened(path) as source:
            while chunk := source.read(_CHUNK):
                intake.take(chunk)
    except OSError as fault:
        raise ConfigurationFault(f"{path} can't be read: {fault.strerror}") from None
    file = intake.done()
    if isinstance(file, Unreadable):
        wrong = "; ".join(f"{column}: {message}" if column else message for column, message in file.wrong)
        raise Fault(f"Nothing was imported. {wrong}")
    return file


def _opened(path: Path) -> AbstractContextManager[BinaryIO]:
    return nullcontext(sys.stdin.buffer) if str(path) == "-" else path.open("rb")


async def _imported(database: Database, file: File, *, is_again: bool) -> tuple[dict[str, Any], list[Rejection]]:
    new = new_id()
    async with database.transaction(STORE) as tx:
        stored = await imports.store(
            tx, file, actor=actor(), key=f"again-{new}" if is_again else None, correlation_id=f"import-{new}"
        )
    assert not isinstance(stored, KeyReused)  # the key is new
    standing, is_new = stored
    if not is_new:
        Console(stderr=True).print(f"This file is known: import {standing.id}, {standing.state}. --again imports anew.")
    with _progress(file) as shown:
        task = shown.add_task(file.kind, total=standing.lines, completed=standing.lines_read)
        while standing.ended_at is None:
            worked = await _patiently(database, standing)
            if worked is None:  # whoever else was at it has ended it
                async with database.connection() as tx:
                    (found,) = await imports.find(tx, [standing.id])
                assert found is not None  # imports stay
                standing = found
            else:
                standing = worked.standing
            shown.update(task, completed=standing.lines_read)
    rejected: list[Rejection] = []
    async with database.connection() as tx:
        while page := await imports.rejections(
            tx, standing.id, after=rejected[-1].line if rejected else 0, limit=_PAGE
        ):
            rejected += page
    return _result(standing, is_new=is_new), rejected


async def _patiently(database: Database, standing: Import) -> batches.Worked | None:
    """What is away for a moment is waited for."""
    for _ in range(_TRIES):
        try:
            return await batches.advance(database, standing.id)
        except DependencyFault:
            await asyncio.sleep(0.25)
    return await batches.advance(database, standing.id)


async def _rehearsed(database: Database, file: File) -> tuple[dict[str, Any], list[Rejection]]:
    counts: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
    rejected: list[Rejection] = []
    with _progress(file) as shown:
        task = shown.add_task(f"{file.kind} (dry run)", total=file.lines)
        for lines, following in _batches(file):
            for answer in await batches.rehearse(database, file.kind, file.format, lines, actor()):
                if isinstance(answer, Rejection):
                    rejected.append(answer)
                counts["rejected" if isinstance(answer, Rejection) else answer] += 1
            shown.update(task, completed=following - 1)
    return {"kind": file.kind, "state": "DRY_RUN", "lines": file.lines, **counts}, rejected


def _batches(file: File) -> Iterator[tuple[Sequence[Line], int]]:
    at, number = file.begin, file.first
    while at < file.bytes:
        file.spool.seek(at)
        window = file.spool.read(2 * MOST_OF_RECORD)
        is_last = at + len(window) == file.bytes
        read = files.read(window, file.format, file.columns, number=number, is_last=is_last, most=batches.MOST)
        yield read.lines, read.following
        at, number = at + read.size, read.following


def _progress(file: File) -> Progress:
    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    return Progress(*columns, console=console, disable=not console.is_terminal or not file.lines)


def _result(one: Import, *, is_new: bool) -> dict[str, Any]:
    return {
        "id": str(one.id), "kind": one.kind, "state": one.state, "lines": one.lines, "created": one.created,
        "changed": one.changed, "unchanged": one.unchanged, "rejected": one.rejected, "known": not is_new,
    }  # fmt: skip


def _write(path: Path, rejected: Sequence[Rejection]) -> None:
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(COLUMNS)
        writer.writerows(cells(one) for one in rejected)


def _tell(result: dict[str, Any], rejected: Sequence[Rejection], *, json: bool) -> None:
    columns = {"line": "line", "field": "field", "code": "code", "message": "because", "text": "text"}
    shown = rejected if json else rejected[:_MOST_SHOWN]
    if shown:
        show([asdict(one) for one in shown], columns, json=json, empty="", line=shapes.Rejected)
    if len(rejected) > len(shown):
        Console(stderr=True).print(f"… and {len(rejected) - len(shown)} more: --rejections FILE has all.")
    show([result], {name: name for name in result}, json=json, empty="", line=shapes.Imported)
