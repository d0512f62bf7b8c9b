"""Answers that need not be sent again: ETag and If-None-Match."""

from fastapi import Request, Response


def tagged(request: Request, tag: str, content: bytes) -> Response:
    """JSON with its tag; 304 without it when the client has that already."""
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if is_known(request.headers.get("if-none-match"), tag):
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type="application/json")


def is_known(if_none_match: str | None, tag: str) -> bool:
    """Whether one of the client's tags is this one; as RFC 9110 has it, weak and strong ones are compared alike."""
    if if_none_match is None:
        return False
    known = {one.strip().removeprefix("W/") for one in if_none_match.split(",")}
    return "*" in known or tag.removeprefix("W/") in known
