"""Requests that schemathesis makes up from the OpenAPI document: no answer that the document does not promise."""

import asyncio
import contextlib
import re
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

import fuzzed
from comanda.db.database import connect
from up import Up, Visitor, eventually, running

# A valid request is more than a schema can say: a price of 3.0, a blank name, half a surrogate pair are refused.
LEFT_OUT = "positive_data_acceptance"
EVERYTHING = ("--checks", "all", "--exclude-checks", LEFT_OUT)
# Would sign out whoever asks; would never end.
NOT_ASKED = "/auth/logout|/orders/{order_id}/events"
# A share of the routes each, and walks along links: a process each, as two threads trip the interpreter. To make up
# orders (lists of lines, and an address of any shape) takes as long as everything else.
GOODS = "/(products|categories|inventory|imports|mailbox)"
PLACING = "/orders$"
SHARES = {
    "placing": ("--phases", "fuzzing", "--include-path-regex", PLACING),
    "goods": ("--phases", "fuzzing", "--include-path-regex", GOODS, "--exclude-path-regex", NOT_ASKED),
    "others": ("--phases", "fuzzing", "--exclude-path-regex", f"{GOODS}|{PLACING}|{NOT_ASKED}"),
    "walks": ("--phases", "stateful", "--exclude-path-regex", NOT_ASKED),
}
# Of who may do less: that nothing breaks, and that each refusal is a documented one.
IN_SHORT = (
    "--checks", "not_a_server_error,status_code_conformance,response_schema_conformance",
    "--phases", "fuzzing", "--exclude-path-regex", NOT_ASKED,
)  # fmt: skip
LEAST = 3000
LEAST_OF_MANY = 50_000  # with as many examples of each as `make fuzz` asks for
MANY = 750
_LOOK_EVERY = 0.1  # seconds
SHARE_OF_OTHERS = 20  # the customer and who is not signed in make a twentieth each of the admin's requests
# What follows an order asks for it to be paid by then.
QUICK = {"GATEWAY_LATENCY_MS": "0", "GATEWAY_OUTCOMES": "100/0/0"}
GIVEN_BACK = {"amount": 250, "reason": "a cup was chipped"}
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")


async def test_no_request_is_answered_as_the_document_does_not_say(
    tmp_path: Path, urls: dict[str, str], pytestconfig: pytest.Config
) -> None:
    examples = int(pytestconfig.getoption("--examples"))
    few = max(2, examples // SHARE_OF_OTHERS)
    async with running(tmp_path / "data", "--json", LOG_LEVEL="warning", **QUICK, **urls) as up:
        admin, customer = await up.signed_in(), await up.registered()
        before = await _resident(up.processes["api-1"])
        async with _staying_admin(up, admin):
            made = sum(
                await asyncio.gather(
                    *(
                        _make_up(up, tmp_path / name, examples, admin.headers, *EVERYTHING, *share)
                        for name, share in SHARES.items()
                    )
                )
            )
        reached = await _refunds(up)
        made += sum(
            await asyncio.gather(
                _make_up(up, tmp_path / "customer", few, customer.headers, *IN_SHORT),
                _make_up(up, tmp_path / "nobody", few, {}, *IN_SHORT),
            )
        )
        assert made >= (LEAST_OF_MANY if examples >= MANY else LEAST)
        broken = await _server_errors(up)
        after = await _resident(up.processes["api-1"])
        print(
            f"{made} requests, {broken} answers of 5xx; the API held {before} MiB before and {after} MiB after;"
            f" {reached} refunds reached"
        )
        assert broken == 0
        assert after < before + 100, "memory is steady"
        await admin.all_ended()
        await _walk_to_a_refund(admin)
        assert await _refunds(up) == reached + 1
        assert (await up.comanda("doctor", "--json")).code == 0
    if examples >= MANY:
        figures = {"requests": made, "serverErrors": broken, "mibBefore": before, "mibAfter": after, "refunds": reached}
        fuzzed.write(fuzzed.stamped(figures))


@contextlib.asynccontextmanager
async def _staying_admin(up: Up, admin: Visitor) -> AsyncIterator[None]:
    """Whoever may change every account changes his own too, once there is another admin: his rights are given back."""

    async def give_back() -> None:
        while True:
            await connection.execute(
                "UPDATE accounts SET role = 'admin', is_active = true, deleted_at = NULL WHERE id = $1"
                " AND (role <> 'admin' OR NOT is_active OR deleted_at IS NOT NULL)",
                UUID(admin.id),
            )
            await asyncio.sleep(_LOOK_EVERY)

    connection = await connect(up.facts["databaseUrl"], name="tests")
    giving = asyncio.create_task(give_back())
    try:
        yield
    finally:
        assert not giving.done(), giving.exception()
        giving.cancel()
        await asyncio.wait([giving])
        connection.terminate()


async def _make_up(up: Up, folder: Path, examples: int, headers: Mapping[str, str], *options: str) -> int:
    """How many requests were made, none of which was answered wrongly."""
    await asyncio.to_thread(folder.mkdir)
    given = [part for name, value in headers.items() for part in ("--header", f"{name}: {value}")]
    process = await asyncio.create_subprocess_exec(
        str(SCHEMATHESIS), "run", f"{up.api}/api/openapi.json", *given, *options,
        "--max-examples", str(examples),
        # One worker: two threads that read Python's source at a time trip the interpreter ("recursion depth mismatch").
        "--continue-on-failure", "--workers", "1", "--no-color",
        cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        said = (await process.communicate())[0].decode(errors="replace")
    finally:
        if process.returncode is None:  # another of them failed
            process.kill()
            await process.wait()
    made = re.search(r"^\s*(\d+) generated", said, re.MULTILINE)
    assert process.returncode == 0, said[max(0, said.find("= FAILURES")) :][:6000]
    assert made is not None, said[-500:]
    return int(made[1])


async def _server_errors(up: Up) -> int:
    """Answers of 5xx, as the API itself counted them."""
    counted = {name: n for name, n in (await up.metrics()).items() if name.startswith("http_requests_total{")}
    assert sum(counted.values()) > LEAST, "it counts"
    return int(sum(n for name, n in counted.items() if re.search(r'status="5\d\d"', name)))


async def _resident(pid: int) -> int:
    """MiB."""
    status = await asyncio.to_thread(Path(f"/proc/{pid}/status").read_text)
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) // 1024 if found else 0


async def _refunds(up: Up) -> int:
    connection = await connect(up.facts["databaseUrl"], name="tests")
    try:
        return int(await connection.fetchval("SELECT count(*) FROM refunds"))
    finally:
        connection.terminate()


async def _walk_to_a_refund(admin: Visitor) -> None:
    """From a new product to an order's refund, only as the document's links say."""
    async with admin.session.get(f"{admin.api}/api/openapi.json") as response:
        document = await response.json()
    product = await admin.made("/products", {"name": "Coffee", "sku": uuid4().hex, "price": 1250})
    stocked = await _follow(admin, document, "/products", "post /inventory", product, {})
    order = await _follow(admin, document, "/inventory", "post /orders", stocked, {})
    order_id = order["orderId"]
    assert [one["status"] for one in await admin.ended(order_id)] == ["CONFIRMED"]
    back = await _follow(admin, document, "/orders", "post /orders/{order_id}/refunds", order, GIVEN_BACK)

    async def is_given_back() -> bool:
        one = "get /orders/{order_id}/refunds/{refund_id}"
        found = await _follow(admin, document, "/orders/{order_id}/refunds", one, back, {}, order_id=order_id)
        return bool(found["status"] == "SUCCEEDED" and found["amount"] == 250)

    await eventually(is_given_back)


async def _follow(
    admin: Visitor, document: Any, made_by: str, then: str, answer: Any, body: Any, **path: str
) -> dict[str, Any]:
    """Ask `then` as the link of whoever made this answer tells; `path`: what stood in the path that made it."""
    method, _, where = then.partition(" ")
    wanted = document["paths"][f"/api/v1{where}"][method]["operationId"]
    answers = document["paths"][f"/api/v1{made_by}"]["post"]["responses"].values()
    (link,) = (one for told in answers for one in told.get("links", {}).values() if one["operationId"] == wanted)

    def given(said: Any) -> Any:
        match said:
            case dict():
                return {name: given(one) for name, one in said.items()}
            case list():
                return [given(one) for one in said]
            case str() if said.startswith("$response.body#/"):
                return answer[said.removeprefix("$response.body#/")]
            case str() if said.startswith("$request.path."):
                return path[said.removeprefix("$request.path.")]
        return said

    where = where.format(**given(link.get("parameters", {})))
    sent = None if method == "get" else given(link.get("requestBody", body))
    reply = await admin.ask(method.upper(), where, sent, Idempotency_Key=uuid4().hex)
    assert reply.status in {200, 201, 202}, (then, reply)
    found: dict[str, Any] = reply.body
    return found
