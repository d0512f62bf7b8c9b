"""Where events are sent: the shop's own systems."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from comanda.clock import new_id
from comanda.db import Record, Tx, twin

_sql = twin(__file__)
CREATE = _sql["create"]
LIVING = _sql["living"]
REWRITE = _sql["rewrite"]
LOCKED = _sql["locked"]
DELETE = _sql["delete"]
ROTATE = _sql["rotate"]
DISABLE = _sql["disable"]
IS_ANYBODY_THERE = _sql["is_anybody_there"]

OVERLAP = timedelta(hours=24)
_SECRET_BYTES = 32


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`event_types` empty: all of them. `disabled_reason`: why nothing is sent there."""

    id: UUID
    url: str
    description: str | None
    event_types: Sequence[str]
    is_active: bool
    disabled_reason: str | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Draft:
    """An endpoint to be made."""

    url: str
    description: str | None = None
    event_types: Sequence[str] = ()


async def create(tx: Tx, drafts: Sequence[Draft]) -> list[tuple[Endpoint, bytes]]:
    """Make endpoints; each with its secret, which is told nobody again."""
    ids, made = [new_id() for _ in drafts], [secrets.token_bytes(_SECRET_BYTES) for _ in drafts]
    rows = await CREATE.rows(
        tx,
        ids,
        [one.url for one in drafts],
        [one.description for one in drafts],
        [_json(one.event_types) for one in drafts],
        made,
    )
    found = {row["id"]: _endpoint(row) for row in rows}
    return [(found[one], secret) for one, secret in zip(ids, made, strict=True)]


async def listed(tx: Tx) -> list[Endpoint]:
    """All that there are, oldest first."""
    return [_endpoint(row) for row in await LIVING.rows(tx, None)]


async def find(tx: Tx, ids: Sequence[UUID]) -> list[Endpoint | None]:
    """Endpoints by their ids; None where there is none."""
    found = {row["id"]: _endpoint(row) for row in await LIVING.rows(tx, ids)}
    return [found.get(one) for one in ids]


async def locked(tx: Tx, ids: Sequence[UUID]) -> list[Endpoint | None]:
    """The same, and nobody else changes them before the transaction ends."""
    found = {row["id"]: _endpoint(row) for row in await LOCKED.rows(tx, ids)}
    return [found.get(one) for one in ids]


async def change(tx: Tx, changes: Sequence[tuple[UUID, Mapping[str, Any]]]) -> list[Endpoint | None]:
    """Set some fields, by the names of `Endpoint`; None where there is none."""
    standing = {row["id"]: _endpoint(row) for row in await LOCKED.rows(tx, [one for one, _ in changes])}
    for endpoint_id, fields in changes:
        if endpoint_id in standing:
            standing[endpoint_id] = replace(standing[endpoint_id], **fields)
    wanted = list(standing.values())
    rows = await REWRITE.rows(
        tx,
        [one.id for one in wanted],
        [one.url for one in wanted],
        [one.description for one in wanted],
        [_json(one.event_types) for one in wanted],
        [one.is_active for one in wanted],
    )
    written = {row["id"]: _endpoint(row) for row in rows}
    return [written.get(endpoint_id) for endpoint_id, _ in changes]


async def delete(tx: Tx, ids: Sequence[UUID]) -> list[bool]:
    """Send nothing there any more; what waits is given up. The log stays. False where there was none."""
    gone = {row["id"] for row in await DELETE.rows(tx, ids)}
    return [one in gone for one in ids]


async def rotate(tx: Tx, ids: Sequence[UUID]) -> list[bytes | None]:
    """Give new secrets; the old ones sign beside them for a day. None where there is no such endpoint."""
    made = [secrets.token_bytes(_SECRET_BYTES) for _ in ids]
    turned = {row["id"] for row in await ROTATE.rows(tx, ids, made, OVERLAP)}
    return [secret if one in turned else None for one, secret in zip(ids, made, strict=True)]


async def disable(tx: Tx, ids: Sequence[UUID], reason: str) -> None:
    """They don't want anything any more."""
    await DISABLE.run(tx, ids, reason)


async def is_anybody_there(tx: Tx) -> bool:
    """Whether anything is to be sent at all."""
    found: bool = await IS_ANYBODY_THERE.value(tx)
    return found


def _endpoint(row: Record) -> Endpoint:
    return Endpoint(**dict(row))


def _json(texts: Sequence[str]) -> str:
    return msgspec.json.encode(list(texts)).decode()
