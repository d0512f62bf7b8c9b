"""What the outermost layer makes of faults: an answer always, and nothing of the fault in it."""

import json
from typing import Any

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from comanda.api.edge import HOT, Edge
from comanda.api.problems import Problem
from comanda.errors import DatabaseFault


def _raising(fault: Exception) -> ASGIApp:
    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise fault

    return app


async def _half(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise RuntimeError("the secret is 4711")


async def _ask(app: ASGIApp, path: str) -> list[Message]:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "http", "method": "POST", "path": path, "headers": []}
    await Edge(app, app)(scope, receive, send)
    return sent


@pytest.mark.parametrize("path", [HOT, "/api/v1/products"])
@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (RuntimeError("the secret is 4711"), 500, "INTERNAL"),
        (DatabaseFault("the secret is 4711"), 503, "UNAVAILABLE"),
        (Problem("BODY_TOO_LARGE"), 413, "BODY_TOO_LARGE"),
    ],
)
async def test_a_fault_is_answered_and_tells_nothing(path: str, fault: Exception, status: int, code: str) -> None:
    start, body = await _ask(_raising(fault), path)
    assert start["status"] == status
    read = json.loads(body["body"])
    assert (read["code"], read["instance"]) == (code, path)
    assert dict(start["headers"])[b"x-correlation-id"].decode() == read["correlationId"]
    assert b"4711" not in body["body"]


async def test_an_answer_that_has_begun_is_not_begun_again() -> None:
    assert [message["type"] for message in await _ask(_half, HOT)] == ["http.response.start"]
