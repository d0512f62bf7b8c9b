"""The gateway's durable store: SQLite in a folder, shared commits, nothing answered before it is on disk."""

import asyncio
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec

from comanda import clock
from comanda.db.batcher import Batcher
from comanda.gateway.model import (
    Answer,
    Book,
    Charge,
    Charging,
    Command,
    FindingRefund,
    Refund,
    RefundRequest,
    Replaying,
)

MAX_BATCH = 500
PAGE = 2_000  # lines of the ledger that are read at once: a few milliseconds away from the next commit

_TWIN = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
_PARTS = re.split(r"^-- name: (\w+)\n", _TWIN, flags=re.MULTILINE)
_STATEMENTS = dict(zip(_PARTS[1::2], map(str.strip, _PARTS[2::2]), strict=True))

SCHEMA = _STATEMENTS["schema"]
LOAD_CHARGES = _STATEMENTS["load_charges"]
LOAD_REFUNDS = _STATEMENTS["load_refunds"]
SAVE_CHARGES = _STATEMENTS["save_charges"]
SAVE_REFUNDS = _STATEMENTS["save_refunds"]
APPEND_LINES = _STATEMENTS["append_lines"]
READ_LINES = _STATEMENTS["read_lines"]
LAST_LINE = _STATEMENTS["last_line"]

Result = TypeVar("Result")


class LedgerLine(msgspec.Struct, frozen=True, rename="camel"):
    seq: int
    type: str
    order_id: str
    amount: int
    currency: str
    key: str
    at: str


class Store:
    """Open it with `Store.open`; one per process."""

    def __init__(self, db: sqlite3.Connection, thread: ThreadPoolExecutor) -> None:
        self._db = db
        self._thread = thread
        self._batches: Batcher[Command, Answer | None] = Batcher(self._write, limit=MAX_BATCH)

    @classmethod
    async def open(cls, folder: Path) -> Self:
        """Open the store in this folder, making both where they are missing."""
        # One thread, because SQLite has one writer anyway and the event loop must never wait for the disk.
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        return cls(await asyncio.get_running_loop().run_in_executor(thread, _connect, folder), thread)

    async def close(self) -> None:
        """Finish what was submitted, then close."""
        await self._batches.drain()
        await self._run(self._db.close)
        self._thread.shutdown()

    def submit(self, command: Command) -> asyncio.Future[Answer | None]:
        """Decide a command; its answer comes once all that it changed is on disk. None: see `Replaying`."""
        return self._batches.submit(command)

    async def lines(self, *, after: int = 0, limit: int | None = None) -> AsyncIterator[list[LedgerLine]]:
        """The ledger in pages, as far as it goes now; `after` is a seq."""
        last = await self._run(self._last_line)
        left = last if limit is None else limit
        while left > 0 and after < last:
            page = await self._run(partial(self._read_lines, after, last, min(left, PAGE)))
            yield page
            after, left = page[-1].seq, left - len(page)

    async def _run(self, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _write(self, commands: Sequence[Command]) -> list[Answer | None]:
        return await self._run(lambda: self._commit(commands))

    # Below: only in the store's thread.

    def _commit(self, commands: Sequence[Command]) -> list[Answer | None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            book = self._load(commands)
            answers = [book.answer(command) for command in commands]
            self._save(SAVE_CHARGES, book.changed.values())
            self._save(SAVE_REFUNDS, book.refunded)
            self._save(APPEND_LINES, book.lines)
            self._db.execute("COMMIT")
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
        return answers

    def _load(self, commands: Sequence[Command]) -> Book:
        charge_keys, refund_keys = set(), set()
        for command in commands:
            match command:
                case Charging(request) | Replaying(request):
                    charge_keys.add(request.key)
                case RefundRequest():
                    charge_keys.add(command.charge_key)
                    refund_keys.add(command.key)
                case FindingRefund(key):
                    refund_keys.add(key)
                case _:
                    charge_keys.add(command.key)
        charges = [Charge(*row) for row in self._select(LOAD_CHARGES, charge_keys)]
        refunds = [Refund(*row) for row in self._select(LOAD_REFUNDS, refund_keys)] if refund_keys else []
        return Book(
            {charge.key: charge for charge in charges},
            {refund.key: refund for refund in refunds},
            at=clock.rfc3339(clock.now()),
            new_id=lambda: clock.new_id().hex,
        )

    def _select(self, statement: str, keys: set[str]) -> list[tuple[Any, ...]]:
        return self._db.execute(statement, (_json(keys),)).fetchall()

    def _save(self, statement: str, rows: Iterable[msgspec.Struct]) -> None:
        if rows:
            self._db.execute(statement, (_json(rows),))

    def _last_line(self) -> int:
        (last,) = self._db.execute(LAST_LINE).fetchone()
        assert isinstance(last, int)
        return last

    def _read_lines(self, after: int, last: int, limit: int) -> list[LedgerLine]:
        return [LedgerLine(*row) for row in self._db.execute(READ_LINES, (after, last, limit))]


def _json(rows: Iterable[object]) -> str:
    return msgspec.json.encode(list(rows)).decode()


def _connect(folder: Path) -> sqlite3.Connection:
    folder.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(folder / "gateway.sqlite3", isolation_level=None, check_same_thread=False, timeout=5)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    db.executescript(SCHEMA)
    return db
