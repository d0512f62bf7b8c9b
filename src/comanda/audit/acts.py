"""What operators did: written in the transaction that does it, never changed afterwards."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import msgspec

from comanda.clock import new_id
from comanda.db import Tx, twin

_sql = twin(__file__)
RECORD = _sql["record"]
LISTED = _sql["listed"]
OF_SUBJECTS = _sql["of_subjects"]

_UNSEEN = "\u115f\u1160\u2800\u3164\uffa0"  # printable, they say, and empty all the same


@dataclass(frozen=True, slots=True)
class Act:
    """`act` is a stable name like `saga.retry`; `subject` what it was done to; `detail` what it changed."""

    actor: str
    act: str
    subject: str
    reason: str = ""
    detail: dict[str, Any] = field(default_factory=dict)


def is_blank(reason: str) -> bool:
    """Whether it says nothing: there is white space in it, and what nobody sees. Pure."""
    return not any(one.isprintable() and not one.isspace() and one not in _UNSEEN for one in reason)


async def record(tx: Tx, acts: Sequence[Act]) -> None:
    """Write down what was done by hand.

    Raises:
        ValueError: somebody does not say why. Whoever asks for the reason refuses that before.
    """
    if any(is_blank(one.reason) for one in acts):
        raise ValueError("an act without a reason")
    await note(tx, acts)


async def note(tx: Tx, acts: Sequence[Act]) -> None:
    """The same, of what is done through the API, which asks for no reason."""
    if not acts:
        return
    await RECORD.run(
        tx,
        [new_id() for _ in acts],
        [one.actor for one in acts],
        [one.act for one in acts],
        [one.subject for one in acts],
        [one.reason for one in acts],
        [msgspec.json.encode(one.detail).decode() for one in acts],
    )


async def listed(
    tx: Tx, *, subject: str | None = None, limit: int = 100, before: UUID | None = None
) -> list[dict[str, Any]]:
    """The newest acts, older than `before`: to one subject, or all."""
    return [dict(row) for row in await LISTED.rows(tx, subject, limit, before)]


async def of_subjects(tx: Tx, subjects: Sequence[str]) -> list[dict[str, Any]]:
    """Every act that was done to these, oldest first."""
    return [dict(row) for row in await OF_SUBJECTS.rows(tx, subjects)]
