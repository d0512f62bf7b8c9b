"""Imports: files that were handed in, how far they have been read, what came of their lines."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from tempfile import SpooledTemporaryFile
from typing import IO, Literal
from uuid import UUID

from comanda.clock import new_id
from comanda.db import Record, Tx, twin
from comanda.imports import files
from comanda.imports.files import MOST_OF_LINE, MOST_OF_RECORD, Format, Malformed
from comanda.imports.lines import Kind, Rejection, wrong_columns
from comanda.sentences import Sentence

_sql = twin(__file__)
STORE = _sql["store"]
STORE_PIECES = _sql["store_pieces"]
OF_KEY = _sql["of_key"]
OF_FILE = _sql["of_file"]
FIND = _sql["find"]
PAGE = _sql["page"]
TAKE = _sql["take"]
TAKE_THIS = _sql["take_this"]
PIECES = _sql["pieces"]
MOVE_ON = _sql["move_on"]
CANCEL = _sql["cancel"]
FORGET_PIECES = _sql["forget_pieces"]
REJECT = _sql["reject"]
REJECTIONS = _sql["rejections"]
FORGET_REJECTIONS = _sql["forget_rejections"]
FORGET = _sql["forget"]

PIECE = 128 * 1024  # bytes
_PIECES_AT_ONCE = 4
_IN_MEMORY = 256 * 1024  # bytes of a file that comes in; what is larger waits on the disk

State = Literal["PENDING", "RUNNING", "COMPLETED", "CANCELLED"]
Outcome = Literal["created", "changed", "unchanged", "rejected"]
OUTCOMES: Sequence[Outcome] = ("created", "changed", "unchanged", "rejected")


@dataclass(frozen=True, slots=True)
class Import:
    """A file that was handed in. `lines` are those of the file, header and empty ones too; outcomes count records."""

    id: UUID
    kind: Kind
    format: Format
    columns: Sequence[str]
    key: str | None
    actor: str
    correlation_id: str
    state: State
    bytes: int
    lines: int
    bytes_read: int
    lines_read: int
    created: int
    changed: int
    unchanged: int
    rejected: int
    created_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True)
class File:
    """A file that can be worked off. `begin`: bytes before its lines; `first`: the number of the first of them.

    `spool` holds its content.
    """

    kind: Kind
    format: Format
    columns: Sequence[str]
    digest: bytes
    spool: IO[bytes]
    bytes: int
    lines: int
    begin: int
    first: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Refused: nothing of the file is done. Each is (column, or empty; what is wrong)."""

    wrong: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class KeyReused:
    """Refused: the key names another file."""


def spool() -> SpooledTemporaryFile[bytes]:
    """Where a file waits until all of it has come: in memory while it is small, else in a file without a name."""
    return SpooledTemporaryFile(_IN_MEMORY)


class Intake:
    """A file as it comes in, bytes by bytes.

    Args:
        kind, format_: of the file.
        spool: keeps its content; closed by whoever has opened it.
    """

    def __init__(self, kind: Kind, format_: Format, spool: IO[bytes]) -> None:
        self._kind = kind
        self._format = format_
        self._hash = hashlib.sha256()
        self._spool = spool
        self._size = 0
        self._lines = 0
        self._open = 0  # bytes of the line that has not ended yet
        self._too_long: int | None = None

    def take(self, chunk: bytes) -> None:
        """Raises OSError when there is no room for it."""
        self._hash.update(chunk)
        self._size += len(chunk)
        self._measure(chunk)
        self._spool.write(chunk)

    def _measure(self, chunk: bytes) -> None:
        ends = chunk.split(b"\n")
        longest = max(self._open + len(ends[0]), *(len(one) for one in ends[1:]), 0)
        if longest > MOST_OF_LINE and self._too_long is None:
            lengths = [self._open + len(ends[0]), *(len(one) for one in ends[1:])]
            self._too_long = self._lines + 1 + next(n for n, one in enumerate(lengths) if one > MOST_OF_LINE)
        self._lines += len(ends) - 1
        self._open = len(ends[-1]) if len(ends) > 1 else self._open + len(chunk)

    def done(self) -> File | Unreadable:
        """All of it has come."""
        if self._too_long is not None:
            return Unreadable(
                [("", Sentence("Line {line} is longer than {most} bytes", line=self._too_long, most=MOST_OF_LINE))]
            )
        self._spool.seek(0)
        begin = self._spool.read(MOST_OF_RECORD)
        head = files.head(begin, self._format, is_whole=len(begin) == self._size)
        if isinstance(head, Malformed):
            return Unreadable([("", head.message)])
        wrong = wrong_columns(self._kind, head) if self._format == "csv" else []
        if wrong:
            return Unreadable(wrong)
        if head.size == self._size:
            return Unreadable([("", Sentence("There are no lines in it"))])
        lines = self._lines + (self._open > 0)
        return File(
            self._kind, self._format, head.columns, self._hash.digest(), self._spool, self._size, lines, head.size,
            head.following,
        )  # fmt: skip


def _import(row: Record) -> Import:
    fields = dict(row)
    fields.pop("digest", None)
    return Import(**fields)


async def store(
    tx: Tx, file: File, *, actor: str, key: str | None, correlation_id: str
) -> tuple[Import, bool] | KeyReused:
    """Keep a file, to be worked off; and whether it is new.

    The same file is the same import, unless it comes under a key, which names one file of one actor.
    """
    while True:  # again only where what was there has been forgotten meanwhile
        row = await STORE.row(
            tx, new_id(), file.kind, file.format, file.columns, file.digest, key, actor, correlation_id, file.bytes,
            file.lines, file.begin, file.first - 1,
        )  # fmt: skip
        if row is not None:
            break
        known = await (OF_KEY.row(tx, actor, key) if key else OF_FILE.row(tx, file.kind, file.format, file.digest))
        if known is not None:
            is_same = (known["kind"], known["format"], known["digest"]) == (file.kind, file.format, file.digest)
            return (_import(known), False) if is_same else KeyReused()
    number = 0
    for some in _portions(file.spool):
        await STORE_PIECES.run(tx, row["id"], list(range(number, number + len(some))), some)
        number += len(some)
    return _import(row), True


def _portions(content: IO[bytes]) -> Iterator[list[bytes]]:
    """Its pieces, some at a time."""
    content.seek(0)
    while some := content.read(_PIECES_AT_ONCE * PIECE):
        yield [some[at : at + PIECE] for at in range(0, len(some), PIECE)]


async def find(tx: Tx, ids: Sequence[UUID]) -> list[Import | None]:
    found = {row["id"]: _import(row) for row in await FIND.rows(tx, ids)}
    return [found.get(one) for one in ids]


async def page(tx: Tx, *, before: UUID | None, limit: int) -> list[Import]:
    """The newest first."""
    return [_import(row) for row in await PAGE.rows(tx, before, limit)]


async def take(tx: Tx, wanted: UUID | None = None) -> Import | None:
    """The one that is next, or this one, locked until the commit; None where there is nothing to do about it."""
    row = await (TAKE.row(tx) if wanted is None else TAKE_THIS.row(tx, wanted))
    return None if row is None else _import(row)


async def window(tx: Tx, one: Import, size: int) -> bytes:
    """At least so many bytes from the mark on, or the rest."""
    first = one.bytes_read // PIECE
    rows = await PIECES.rows(tx, one.id, first, (one.bytes_read + size - 1) // PIECE)
    return b"".join(row["content"] for row in rows)[one.bytes_read - first * PIECE :]


async def move_on(
    tx: Tx, one: Import, *, size: int, lines_read: int, counts: Sequence[int], rejections: Sequence[Rejection]
) -> Import:
    """Move the mark by so many bytes; what came of the lines is counted in the order of `OUTCOMES`."""
    if rejections:
        await REJECT.run(
            tx,
            one.id,
            [rejection.line for rejection in rejections],
            [rejection.text for rejection in rejections],
            [rejection.field for rejection in rejections],
            [rejection.code for rejection in rejections],
            [rejection.message for rejection in rejections],
        )
    row = await MOVE_ON.row(tx, one.id, one.bytes_read + size, lines_read, *counts)
    assert row is not None  # it is locked
    moved = _import(row)
    if moved.ended_at is not None:
        await FORGET_PIECES.run(tx, [one.id])
    return moved


async def cancel(tx: Tx, ids: Sequence[UUID]) -> list[Import | None]:
    """Stop between two batches: what is done stays done. None where it has ended, or never was."""
    found = {row["id"]: _import(row) for row in await CANCEL.rows(tx, ids)}
    await FORGET_PIECES.run(tx, list(found))
    return [found.get(one) for one in ids]


async def rejections(tx: Tx, import_id: UUID, *, after: int, limit: int) -> list[Rejection]:
    """Rejected lines after that one, in the order of the file."""
    return [Rejection(**dict(row)) for row in await REJECTIONS.rows(tx, import_id, after, limit)]


async def forget(tx: Tx, age: timedelta, limit: int) -> int:
    """Delete what ended longer than `age` ago: so many lines of reports, so many imports without one; the larger count.

    A file that is sent again after that is a new import.
    """
    gone = await FORGET_REJECTIONS.run(tx, age, limit)
    return max(gone, await FORGET.run(tx, age, limit))
