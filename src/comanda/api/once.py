"""What may be done once under a key: the key is taken in the transaction that does it, with the answer that it gave."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

import msgspec
from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel

from comanda.accounts.accounts import Account
from comanda.api.answers import Answer
from comanda.api.parts import Parts
from comanda.api.problems import Problem
from comanda.db import Tx
from comanda.failpoints import Boundary
from comanda.field_errors import field_error
from comanda.idempotency import keys
from comanda.idempotency.model import Remembered, fingerprint, is_key
from comanda.saga.definition import Due
from comanda.saga.rescue import by_queue

ONCE = Boundary("orders.follow_up")
KEY_REFUSED = ("IDEMPOTENCY_KEY_REUSED", "IDEMPOTENCY_KEY_IN_USE")
"""What may be wrong with a key that was given, for the `responses` of a route."""

_LOOKS = 3
_HINT_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Did:
    """What was done: to what, what is answered, where it can be looked at, which sagas are due now."""

    subject: UUID
    answer: Answer
    location: str
    due: Sequence[Due] = ()


class _Taken(Exception):
    """Somebody else's commit had the key first: what was done is rolled back."""


async def _given(
    request: Request,
    idempotency_key: Annotated[
        str | None, Header(alias="Idempotency-Key", description="Your name for this intent: 1 to 255 characters")
    ] = None,
) -> str | None:
    if len(request.headers.getlist("idempotency-key")) > 1:
        raise Problem("MALFORMED_REQUEST", "Send one Idempotency-Key: which of two is meant, nobody can tell.")
    if idempotency_key is not None and not is_key(idempotency_key):
        raise Problem(
            "VALIDATION_FAILED",
            errors=[field_error("Idempotency-Key", "key")],
        )
    return idempotency_key


OptionalKey = Annotated[str | None, Depends(_given)]


async def _required(key: OptionalKey) -> str:
    if key is None:
        raise Problem(
            "IDEMPOTENCY_KEY_REQUIRED", "Send an Idempotency-Key, the same for each repeat: this moves money."
        )
    return key


Key = Annotated[str, Depends(_required)]


async def once(
    parts: Parts,
    account: Account,
    key: str,
    request: Request,
    body: BaseModel,
    work: Callable[[Tx], Awaitable[Did]],
    *,
    status: int = 202,
) -> Response:
    """Do it, or answer what was answered when it was done under this key.

    Raises:
        Problem: 422 when the key belongs to another request; whatever `work` raises, and then nothing is remembered.
    """
    asked = fingerprint(f"{request.method} {request.url.path} ".encode() + body.model_dump_json().encode())
    for _ in range(_LOOKS):
        async with parts.database.connection() as tx:
            (known,) = await keys.answers(tx, [(account.id, key)])
        if known is not None:
            if known.fingerprint != asked:
                raise Problem("IDEMPOTENCY_KEY_REUSED", "Use a new key for another request.")
            stored = msgspec.json.decode(known.answer)
            return _response(status, msgspec.json.encode(stored["answer"]), stored["location"], is_replay=True)
        try:
            async with parts.database.transaction(ONCE) as tx:
                did = await work(tx)
                answer = msgspec.Raw(did.answer.model_dump_json(by_alias=True).encode())
                stored = msgspec.json.encode({"answer": answer, "location": did.location})
                kind = request.url.path.rpartition("/")[2]
                await _take(tx, (account.id, key, kind, did.subject, Remembered(asked, stored)))
        except _Taken:
            continue
        except Problem:
            # Refused perhaps because its twin, under the same key, has done it meanwhile: then that is the answer.
            if await _is_known(parts, account, key):
                continue
            raise
        await hint(parts, did.due)
        return _response(status, bytes(answer), did.location, is_replay=False)
    raise Problem("IDEMPOTENCY_KEY_IN_USE")


async def _is_known(parts: Parts, account: Account, key: str) -> bool:
    async with parts.database.connection() as tx:
        return (await keys.answers(tx, [(account.id, key)]))[0] is not None


async def _take(tx: Tx, new: tuple[UUID, str, str, UUID, Remembered]) -> None:
    if not all(await keys.remember(tx, [new])):
        raise _Taken


async def hint(parts: Parts, due: Iterable[Due]) -> None:
    """After the commit: tell the workers. They would find out by themselves."""
    await hint_all(parts, by_queue(due))


async def hint_all(parts: Parts, due: Mapping[tuple[str, int], Sequence[UUID]]) -> None:
    """The same for sagas by their queue and priority. A Redis that hangs costs the request next to nothing."""
    await parts.assembly.streams.hint(due, patience=_HINT_SECONDS)


def answered(did: Did, *, status: int) -> Response:
    """What was done without a key: whoever asks again does it again."""
    return _response(status, did.answer.model_dump_json(by_alias=True).encode(), did.location, is_replay=False)


def _response(status: int, content: bytes, location: str, *, is_replay: bool) -> Response:
    headers = {"Location": location} | ({"Idempotent-Replayed": "true"} if is_replay else {})
    return Response(content, status, headers, "application/json")
