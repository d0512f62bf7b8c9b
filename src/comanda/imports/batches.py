"""The lines of imports, worked off in batches: each in the transaction that also moves the import's mark."""

import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from comanda import telemetry
from comanda.catalog import products
from comanda.catalog.products import CategoryUnknown, Incomplete, Upserted
from comanda.db import Database, Tx
from comanda.errors import DependencyFault
from comanda.failpoints import Boundary
from comanda.imports import files, imports
from comanda.imports.files import MOST_OF_RECORD, Line, Read
from comanda.imports.imports import OUTCOMES, Import, Outcome
from comanda.imports.lines import Kind, ProductLine, Rejection, StockLine, judge, refused
from comanda.inventory import admin
from comanda.inventory.admin import Addition, Brought, Change, HeldStock, Level, NoStock, TooMuchStock

BATCH = Boundary("imports.batch")

MOST = 500
"""Lines of a batch."""

_log = telemetry.log("imports")


@dataclass(frozen=True, slots=True)
class Worked:
    """Where an import stands after a batch, and what came of the batch's lines."""

    standing: Import
    counts: Counter[Outcome]


async def advance(database: Database, wanted: UUID | None = None) -> Worked | None:
    """Work off the next lines of the import that is next, or of this one; None where there is nothing to do.

    A batch that raises is repeated one by one, and a line that raises alone is rejected.
    """
    try:
        async with database.transaction(BATCH) as tx:
            return await _batch(tx, wanted, MOST, apply)
    except DependencyFault:
        raise
    except Exception:  # noqa: BLE001 - one line must not hold the others
        _log.exception("a batch is repeated line by line")
    worked = None
    counts: Counter[Outcome] = Counter()
    for _ in range(MOST):
        worked = await _one(database, wanted)
        if worked is None:
            return None
        counts += worked.counts
        if worked.standing.ended_at is not None:
            break
    return None if worked is None else Worked(worked.standing, counts)


async def _one(database: Database, wanted: UUID | None) -> Worked | None:
    tried: Import | None = None

    async def attempt(tx: Tx, one: Import, lines: Sequence[Line]) -> list[Outcome | Rejection]:
        nonlocal tried
        tried = one
        return await apply(tx, one, lines)

    try:
        async with database.transaction(BATCH) as tx:
            return await _batch(tx, wanted, 1, attempt)
    except DependencyFault:
        raise
    except Exception:
        if tried is None:  # there is no line that it could be about
            raise
        _log.exception("a line can't be imported")
    async with database.transaction(BATCH) as tx:
        return await _batch(tx, wanted, 1, _give_up, mark=tried)


class _Rehearsed(Exception):
    """Everything was as it would be: now it is rolled back."""


async def rehearse(
    database: Database, kind: Kind, format_: files.Format, lines: Sequence[Line], actor: str
) -> list[Outcome | Rejection]:
    """What would come of these lines now; nothing does."""
    answers: list[Outcome | Rejection] = []
    with contextlib.suppress(_Rehearsed):
        async with database.transaction(BATCH) as tx:
            answers = await _apply(tx, kind, format_, lines, (actor, "rehearsal", UUID(int=0)))
            raise _Rehearsed
    return answers


_By = tuple[str, str, UUID]
"""Actor, correlation id, import."""
_Apply = Callable[[Tx, Import, Sequence[Line]], Awaitable[list[Outcome | Rejection]]]


async def _batch(tx: Tx, wanted: UUID | None, most: int, apply_: _Apply, mark: Import | None = None) -> Worked | None:
    """The next lines. `mark`: only as long as they are those that this one stood before."""
    one = await imports.take(tx, wanted)
    if one is None:
        return None
    if mark is not None and (one.id, one.bytes_read) != (mark.id, mark.bytes_read):
        return Worked(one, Counter())  # somebody else had more luck with them meanwhile
    content = await imports.window(tx, one, 2 * MOST_OF_RECORD)
    is_last = one.bytes_read + len(content) == one.bytes
    read = files.read(content, one.format, one.columns, number=one.lines_read + 1, is_last=is_last, most=most)
    if not read.size:  # somebody has deleted pieces of it: it must not hold those after it
        _log.error("an import can't be read on", importId=str(one.id), bytesRead=one.bytes_read)
        (cancelled,) = await imports.cancel(tx, [one.id])
        assert cancelled is not None  # it is locked, and has not ended
        return Worked(cancelled, Counter())
    answers = await apply_(tx, one, read.lines)
    return await _moved(tx, one, read, answers)


async def _moved(tx: Tx, one: Import, read: Read, answers: Sequence[Outcome | Rejection]) -> Worked:
    rejected = [answer for answer in answers if isinstance(answer, Rejection)]
    counts = Counter[Outcome]("rejected" if isinstance(answer, Rejection) else answer for answer in answers)
    standing = await imports.move_on(
        tx,
        one,
        size=read.size,
        lines_read=read.following - 1,
        counts=[counts[outcome] for outcome in OUTCOMES],
        rejections=rejected,
    )
    return Worked(standing, counts)


async def apply(tx: Tx, one: Import, lines: Sequence[Line]) -> list[Outcome | Rejection]:
    """Do what the lines say, each as if it had come alone, in the order given."""
    return await _apply(tx, one.kind, one.format, lines, (one.actor, one.correlation_id, one.id))


async def _give_up(_tx: Tx, _one: Import, lines: Sequence[Line]) -> list[Outcome | Rejection]:
    return [refused(line, "", "INTERNAL", "Something went wrong here; the log says what") for line in lines]


async def _apply(
    tx: Tx, kind: Kind, format_: files.Format, lines: Sequence[Line], by: _By
) -> list[Outcome | Rejection]:
    judged = [judge(line, kind, format_) for line in lines]
    answers: dict[int, Outcome | Rejection] = {
        position: one for position, one in enumerate(judged) if isinstance(one, Rejection)
    }
    good = {position: one for position, one in enumerate(judged) if not isinstance(one, Rejection)}
    if kind == "products":
        answers |= await _products(tx, lines, good)
    else:
        answers |= await _stock(tx, lines, good, by)
    return [answers[position] for position in range(len(lines))]


async def _products(tx: Tx, lines: Sequence[Line], good: Mapping[int, Any]) -> dict[int, Outcome | Rejection]:
    wishes: dict[int, tuple[str, dict[str, Any]]] = {}
    for position, one in good.items():
        assert isinstance(one, ProductLine)
        fields = one.changes()
        wishes[position] = fields.pop("sku"), fields
    answers: dict[int, Outcome | Rejection] = {}
    if not wishes:
        return answers
    for position, answer in zip(wishes, await products.upsert(tx, list(wishes.values())), strict=True):
        match answer:
            case Upserted(_, how):
                answers[position] = how
            case Incomplete(missing):
                needs = f"A product that is new needs {' and '.join(missing)}"
                answers[position] = refused(lines[position], missing[0], "VALIDATION_FAILED", needs)
            case CategoryUnknown():
                told = "There is no such category"
                answers[position] = refused(lines[position], "categoryId", "CATEGORY_UNKNOWN", told)
    return answers


async def _stock(tx: Tx, lines: Sequence[Line], good: Mapping[int, Any], by: _By) -> dict[int, Outcome | Rejection]:
    ids = await products.of_skus(tx, list({one.sku: None for one in good.values()}))
    known = dict(zip({one.sku: None for one in good.values()}, ids, strict=True))
    answers: dict[int, Outcome | Rejection] = {}
    wishes: dict[int, Change | Level] = {}
    for position, one in good.items():
        assert isinstance(one, StockLine)
        product_id = known[one.sku]
        if product_id is None:
            answers[position] = refused(lines[position], "sku", "PRODUCT_UNKNOWN", "There is no product with this SKU")
        elif one.mode == "set":
            wishes[position] = Level(product_id, one.quantity, one.location, "import")
        else:
            kind: Addition = "RESTOCK" if one.quantity >= 0 else "ADJUSTMENT"
            wishes[position] = Change(product_id, one.quantity, kind, one.location, "import")
    if not wishes:
        return answers
    actor, correlation_id, reference = by
    brought = await admin.bring(
        tx, list(wishes.values()), actor=actor, correlation_id=correlation_id, reference=reference
    )
    for position, answer in zip(wishes, brought, strict=True):
        answers[position] = answer.how if isinstance(answer, Brought) else _refusal(lines[position], answer)
    return answers


def _refusal(line: Line, why: NoStock | HeldStock | TooMuchStock) -> Rejection:
    match why:
        case NoStock():
            return refused(line, "location", "STOCK_NOT_FOUND", "The product has no stock there")
        case HeldStock(free):
            return refused(
                line, "quantity", "STOCK_HELD", f"Orders hold what would go: only {free} units are free to go"
            )
        case TooMuchStock():
            return refused(line, "quantity", "STOCK_TOO_LARGE", "That is more stock than can be counted")
