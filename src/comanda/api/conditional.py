"""What a client has seen already: ETag, If-None-Match and If-Match (RFC 9110, 13).

The tag of one thing is made of how it is shown, with the time of its last change, which never stands still: so it is a
strong one, and who sees more of it than others has another. What may not be kept by anybody between (orders, accounts,
webhooks) says so, as every answer does.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from hashlib import blake2b
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import Depends, Header, Request, Response

from comanda.api.answers import Answer
from comanda.api.problems import Problem
from comanda.db import Tx

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*")
_ONE = re.compile(_TAG)

# For the `responses` of a route that reads one thing.
TAGGED: dict[int | str, dict[str, Any]] = {
    200: {
        "headers": {
            "ETag": {"description": "Of this version: for `If-None-Match` and `If-Match`", "schema": {"type": "string"}}
        }
    },
    304: {"description": "It is as you have it (`If-None-Match`)"},
}
# Of one that reads what nobody changes by its tag: a list, or what goes on by itself.
SEEN: dict[int | str, dict[str, Any]] = {
    200: {"headers": {"ETag": {"description": "For `If-None-Match`", "schema": {"type": "string"}}}},
    304: TAGGED[304],
}

Shown = TypeVar("Shown", bound=Answer)
Locked = Callable[[Tx, Sequence[UUID]], Awaitable[Sequence[Any]]]


async def _asked(
    request: Request,
    _if_none_match: Annotated[
        str | None, Header(alias="If-None-Match", description="ETags of what you have: is it still so, 304")
    ] = None,
) -> Request:
    return request


async def _expected(
    request: Request,
    _if_match: Annotated[
        str | None,
        Header(alias="If-Match", description="The ETag that it had when you read it: has it changed since, 412"),
    ] = None,
) -> frozenset[str] | None:
    given = header_of(request, "if-match")
    # `*` asks for no more than that it is there, and what isn't is a 404.
    return None if given is None or given.strip() == "*" else strong(given)


Asked = Annotated[Request, Depends(_asked)]
IfMatch = Annotated[frozenset[str] | None, Depends(_expected)]


def strong(if_match: str) -> frozenset[str]:
    """The tags of an If-Match; weak ones are left out, for they never match.

    Raises:
        Problem: it is no list of tags.
    """
    if _TAGS.fullmatch(if_match) is None:
        raise Problem("MALFORMED_REQUEST", "If-Match has to hold ETags as they were sent, in quotes, or be *.")
    return frozenset(one for one in _ONE.findall(if_match) if not one.startswith("W/"))


async def unchanged(tx: Tx, if_match: IfMatch, locked: Locked, subject: UUID, answer: type[Answer]) -> None:
    """Go on only if that is as the client has seen it; then it stays so until the transaction ends.

    What isn't there is the caller's to tell.

    Args:
        tx: in which it is changed.
        if_match: what the client has seen; None: no matter what it is now.
        locked: finds such things, and keeps others from changing them.
        subject: which of them.
        answer: how it is shown.

    Raises:
        Problem: somebody has changed it since.
    """
    if if_match is None:
        return
    (found,) = await locked(tx, [subject])
    if found is not None and tag_of(answer.model_validate(found)) not in if_match:
        raise Problem(
            "PRECONDITION_FAILED", "Read it again, see whether your change still holds, and send its new ETag."
        )


def tag_of(shown: Answer) -> str:
    """A strong tag: another one for whatever is shown otherwise."""
    return _tag_of(_written(shown))


def marked(response: Response, shown: Shown) -> Shown:
    """What a write answers with; the response carries the tag that it is read with from now on."""
    response.headers["ETag"] = tag_of(shown)
    return shown


def single(asked: Request, shown: Answer, *, is_public: bool = False) -> Response:
    """One thing with its tag; 304 when the client has it.

    Args:
        asked: the request.
        shown: the answer.
        is_public: may be kept, and asked about before each use.
    """
    content = _written(shown)
    answer = tagged(asked, _tag_of(content), content)
    if not is_public:
        answer.headers["Cache-Control"] = "no-store"
    return answer


def tagged(request: Request, tag: str, content: bytes) -> Response:
    """JSON with its tag; 304 without it when the client has that already."""
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if is_known(header_of(request, "if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type="application/json")


def header_of(request: Request, header: str) -> str | None:
    """A header that holds a list: its lines are one. None where there is none."""
    return ", ".join(request.headers.getlist(header)) if header in request.headers else None


def is_known(if_none_match: str | None, tag: str) -> bool:
    """Whether one of the client's tags is this one; as RFC 9110 has it, weak and strong ones are compared alike."""
    if if_none_match is None:
        return False
    known = {one.strip().removeprefix("W/") for one in if_none_match.split(",")}
    return "*" in known or tag.removeprefix("W/") in known


def _written(shown: Answer) -> bytes:
    return shown.model_dump_json(by_alias=True).encode()


def _tag_of(content: bytes) -> str:
    return f'"{blake2b(content, digest_size=16).hexdigest()}"'
