"""The mock gateway as its callers meet it: a process of its own, behind a socket."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

PROGRAM = """
import json, socket, sys
from pathlib import Path
import uvloop
from comanda.gateway.serve import serve
fd, folder, options = sys.argv[1:]
options = json.loads(options)
uvloop.run(serve(
    socket=socket.socket(fileno=int(fd)),
    data_dir=Path(folder),
    latency_ms=tuple(options["latency_ms"]),
    outcomes=tuple(options["outcomes"]),
    seed=options["seed"],
))
"""
PATIENCE = 20


class Gateway:
    """The listening socket outlives the process, as it does under the supervisor."""

    def __init__(
        self, folder: Path, *, latency_ms: tuple[int, int] = (0, 0), outcomes: tuple[int, int, int] = (100, 0, 0)
    ) -> None:
        self._folder = folder
        self._options = json.dumps({"latency_ms": latency_ms, "outcomes": outcomes, "seed": 7})
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        fd = self._socket.fileno()
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(fd), str(self._folder), self._options], pass_fds=[fd]
        )

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def close(self) -> None:
        if self.process.poll() is None:
            self.stop(signal.SIGKILL)
        self._socket.close()


class Client:
    """Each call answers `(status, body)`."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def charge(self, key: str, method: str | None = "pm_success", **fields: Any) -> tuple[int, Any]:
        body = {"key": key, "orderId": f"order-{key}", "amount": 1000, "currency": "USD", **fields}
        return await self.post("/charges", body if method is None else {**body, "paymentMethod": method})

    async def void(self, key: str) -> tuple[int, Any]:
        return await self.post("/void", {"key": key})

    async def refund(self, key: str, charge_key: str, amount: int) -> tuple[int, Any]:
        return await self.post("/refunds", {"key": key, "chargeKey": charge_key, "amount": amount})

    async def find(self, key: str) -> tuple[int, Any]:
        return await self.get("/charges", key=key)

    async def find_refund(self, key: str) -> tuple[int, Any]:
        return await self.get("/refunds", key=key)

    async def movements(self, key: str) -> list[tuple[str, int]]:
        """What the ledger holds of the order that `charge` makes for this key."""
        _, lines = await self.get("/ledger")
        return [(line["type"], line["amount"]) for line in lines if line["orderId"] == f"order-{key}"]

    async def post(self, path: str, body: Any) -> tuple[int, Any]:
        return await self.send("POST", path, json.dumps(body).encode())

    async def get(self, path: str, **query: Any) -> tuple[int, Any]:
        async with self._session.get(path, params=query) as answer:
            return answer.status, await answer.json()

    async def send(self, method: str, path: str, body: bytes = b"") -> tuple[int, Any]:
        async with self._session.request(method, path, data=body) as answer:
            return answer.status, await answer.json()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    gateway = Gateway(tmp_path_factory.mktemp("gateway") / "not" / "there yet")
    yield gateway
    gateway.close()


@pytest.fixture
async def client(shared: Gateway) -> AsyncIterator[Client]:
    async with _client_of(shared) as session:
        yield Client(session)


@pytest.fixture
def key() -> str:
    return str(uuid4())


def _client_of(gateway: Gateway) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        gateway.url, timeout=aiohttp.ClientTimeout(PATIENCE), connector=aiohttp.TCPConnector(limit=32)
    )


@asynccontextmanager
async def _on_its_way(gateway: Gateway, client: Client, key: str, method: str) -> AsyncIterator[asyncio.StreamReader]:
    """A charge that the gateway has read and not answered."""
    body = json.dumps(
        {"key": key, "orderId": f"order-{key}", "amount": 1000, "currency": "USD", "paymentMethod": method}
    ).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    try:
        writer.write(b"POST /charges HTTP/1.1\r\nhost: gateway\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        await writer.drain()
        for _ in range(3):  # each round trip lets the gateway read what came before it
            assert (await client.find(key))[0] == 404
        async with asyncio.timeout(PATIENCE):
            yield reader
    finally:
        writer.close()
        await writer.wait_closed()


async def test_it_says_that_it_is_well(client: Client) -> None:
    assert await client.get("/health") == (200, {"status": "ok"})


async def test_a_charge_is_captured_once_however_often_it_is_sent(client: Client, key: str) -> None:
    answers = await asyncio.gather(*(client.charge(key) for _ in range(20)))
    status, body = answers[0]
    assert status == 200
    assert body == {
        "id": body["id"],
        "key": key,
        "status": "captured",
        "amount": 1000,
        "currency": "USD",
        "capturedAt": body["capturedAt"],
        "capturedAmount": 1000,
        "refundedAmount": 0,
    }
    assert answers == [(200, body)] * 20
    assert await client.movements(key) == [("capture", 1000)]


@pytest.mark.parametrize("other", [{"amount": 1001}, {"orderId": "another"}, {"currency": "EUR"}])
async def test_a_key_serves_one_charge_only(client: Client, key: str, other: dict[str, Any]) -> None:
    await client.charge(key)
    status, body = await client.charge(key, **other)
    assert (status, body["code"]) == (422, "KEY_REUSED")
    assert await client.movements(key) == [("capture", 1000)]


async def test_a_decline_is_remembered(client: Client, key: str) -> None:
    declined = (402, {"status": "declined", "code": "INSUFFICIENT_FUNDS", "key": key})
    assert await client.charge(key, "pm_decline_INSUFFICIENT_FUNDS") == declined
    assert await client.charge(key, "pm_success") == declined
    status, found = await client.find(key)
    assert (status, found["status"], found["code"], found["capturedAmount"]) == (
        200,
        "declined",
        "INSUFFICIENT_FUNDS",
        0,
    )
    assert await client.movements(key) == []


async def test_what_is_settled_is_answered_without_a_wait(client: Client, key: str) -> None:
    first = await client.charge(key, "pm_slow_1")
    assert await client.charge(key, "pm_slow_3600000") == first
    assert (await client.void(key))[0] == 200
    assert (await client.charge(key, "pm_slow_3600000"))[0] == 409


async def test_a_flaky_card_fails_as_often_as_it_says(client: Client, key: str) -> None:
    for _ in range(2):
        assert await client.charge(key, "pm_flaky_2") == (503, {"status": "retry", "code": "PROCESSOR_BUSY"})
        assert (await client.find(key))[0] == 404
    assert (await client.charge(key, "pm_flaky_2"))[0] == 200
    assert (await client.charge(key, "pm_flaky_2"))[0] == 200
    assert await client.movements(key) == [("capture", 1000)]


async def test_an_unavailable_card_never_charges_but_is_voided(client: Client, key: str) -> None:
    for _ in range(3):
        assert (await client.charge(key, "pm_unavailable"))[0] == 503
    assert (await client.void(key))[0] == 200
    assert (await client.charge(key, "pm_unavailable"))[0] == 409
    assert await client.movements(key) == []


async def test_a_lost_answer_drops_the_connection_after_the_capture(client: Client, key: str) -> None:
    with pytest.raises(aiohttp.ClientConnectionError):
        await client.charge(key, "pm_timeout_after_capture")
    status, found = await client.find(key)
    assert (status, found["status"], found["capturedAmount"]) == (200, "captured", 1000)
    status, replay = await client.charge(key, "pm_timeout_after_capture")
    assert (status, replay["id"]) == (200, found["id"])
    assert await client.movements(key) == [("capture", 1000)]


async def test_a_void_gives_back_what_was_captured_once(client: Client, key: str) -> None:
    await client.charge(key)
    await client.refund(f"{key}:part", key, 300)
    voided = (200, {"key": key, "status": "voided", "capturedAmount": 1000, "refundedAmount": 1000})
    assert await asyncio.gather(*(client.void(key) for _ in range(20))) == [voided] * 20
    assert await client.movements(key) == [("capture", 1000), ("refund", 300), ("refund", 700)]
    _, lines = await client.get("/ledger")
    assert [line["key"] for line in lines if line["orderId"] == f"order-{key}"] == [key, f"{key}:part", f"{key}:void"]
    assert await client.charge(key) == (409, {"status": "voided", "code": "KEY_VOIDED"})
    assert (await client.find(key))[1]["status"] == "voided"


async def test_a_void_of_an_unknown_key_refuses_its_charge_for_ever(client: Client, key: str) -> None:
    assert await client.void(key) == (
        200,
        {"key": key, "status": "voided", "capturedAmount": 0, "refundedAmount": 0},
    )
    assert await client.charge(key) == (409, {"status": "voided", "code": "KEY_VOIDED"})
    assert await client.movements(key) == []


async def test_a_void_beats_a_charge_that_is_still_on_its_way(shared: Gateway, client: Client, key: str) -> None:
    async with _on_its_way(shared, client, key, "pm_slow_500") as reader:
        assert (await client.void(key))[0] == 200
        assert b" 409 " in await reader.readline()
    assert await client.movements(key) == []


async def test_refunds_never_exceed_what_was_captured(client: Client, key: str) -> None:
    await client.charge(key, amount=1000)
    answers = await asyncio.gather(*(client.refund(f"{key}:{n}", key, 30) for n in range(50)))
    codes = [body.get("code", body.get("status")) for _, body in answers]
    assert codes.count("refunded") == 33
    assert codes.count("REFUND_EXCEEDS_CAPTURE") == 17
    assert await client.movements(key) == [("capture", 1000)] + [("refund", 30)] * 33
    assert (await client.find(key))[1]["refundedAmount"] == 990


async def test_a_refund_is_made_once_however_often_it_is_sent(client: Client, key: str) -> None:
    await client.charge(key)
    answers = await asyncio.gather(*(client.refund(f"{key}:r", key, 400) for _ in range(20)))
    assert answers == [answers[0]] * 20
    assert answers[0] == (
        200,
        {"id": answers[0][1]["id"], "key": f"{key}:r", "chargeKey": key, "amount": 400, "status": "refunded"},
    )
    assert (await client.refund(f"{key}:r", key, 401))[1]["code"] == "KEY_REUSED"
    assert await client.movements(key) == [("capture", 1000), ("refund", 400)]


async def test_a_refund_is_found_by_its_key(client: Client, key: str) -> None:
    await client.charge(key)
    assert (await client.find_refund(f"{key}:r"))[0] == 404
    made = await client.refund(f"{key}:r", key, 400)
    assert await client.find_refund(f"{key}:r") == made
    assert (await client.find_refund(key))[0] == 404, "a charge's key is none of a refund"
    assert await client.movements(key) == [("capture", 1000), ("refund", 400)]


async def test_what_is_unknown_is_a_404(client: Client, key: str) -> None:
    for status, body in (await client.find(key), await client.refund("r", key, 1), await client.get("/nowhere")):
        assert status == 404
        assert set(body) == {"code", "message"}


async def test_the_ledger_is_read_in_windows(client: Client, key: str) -> None:
    await asyncio.gather(*(client.charge(f"{key}-{n}", orderId=key) for n in range(50)))
    _, everything = await client.get("/ledger")
    assert [line["seq"] for line in everything] == sorted({line["seq"] for line in everything})
    assert len([line for line in everything if line["orderId"] == key]) == 50
    middle = everything[20]["seq"]
    assert await client.get("/ledger", after=middle, limit=10) == (200, everything[21:31])
    assert await client.get("/ledger", after=middle) == (200, everything[21:])
    assert await client.get("/ledger", after=10**17) == (200, [])


async def test_a_ledger_longer_than_a_page_comes_whole(client: Client, key: str) -> None:
    for start in range(0, 2500, 500):
        await asyncio.gather(*(client.charge(f"{key}-{n}", orderId=key) for n in range(start, start + 500)))
    _, everything = await client.get("/ledger")
    assert len({line["key"] for line in everything if line["orderId"] == key}) == 2500
    assert [line["seq"] for line in everything] == list(range(1, len(everything) + 1))


GOOD = {"key": "k", "orderId": "o", "amount": 1, "currency": "USD"}
MALFORMED = {
    "empty": b"",
    "no JSON": b"{",
    "no UTF-8": b'{"key":"\xff\xfe"}',
    "null": b"null",
    "list": b"[]",
    "deep": b"[" * 60_000,
    "deep below an unknown field": b'{"x":' + b"[" * 30_000,
    "deep below a known field": b'{"key":' + b'{"a":' * 10_000,
    "field missing": b"{}",
    "unknown field": json.dumps({**GOOD, "more": 1}).encode(),
    "amount is text": json.dumps({**GOOD, "amount": "1"}).encode(),
    "amount is a fraction": json.dumps({**GOOD, "amount": 1.5}).encode(),
    "amount is true": json.dumps({**GOOD, "amount": True}).encode(),
    "amount is nothing": json.dumps({**GOOD, "amount": 0}).encode(),
    "amount is negative": json.dumps({**GOOD, "amount": -1}).encode(),
    "amount is huge": json.dumps({**GOOD, "amount": 2**63}).encode(),
    "amount is endless": b'{"key":"k","orderId":"o","currency":"USD","amount":' + b"9" * 9000 + b"}",
    "amount is infinite": b'{"key":"k","orderId":"o","currency":"USD","amount":1e999}',
    "key is empty": json.dumps({**GOOD, "key": ""}).encode(),
    "key is long": json.dumps({**GOOD, "key": "k" * 201}).encode(),
    "key has a zero": json.dumps({**GOOD, "key": "k\0"}).encode(),
    "key has a line end": json.dumps({**GOOD, "key": "k\n"}).encode(),
    "key is half a character": b'{"key":"\\ud800","orderId":"o","amount":1,"currency":"USD"}',
    "currency": json.dumps({**GOOD, "currency": "dollars"}).encode(),
    "method is a number": json.dumps({**GOOD, "paymentMethod": 1}).encode(),
    "too long": json.dumps({**GOOD, "paymentMethod": "x" * 70_000}).encode(),
    "far too long": b" " * 1_000_000,
}


@pytest.mark.parametrize("path", ["/charges", "/void", "/refunds"])
@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_body_is_refused(client: Client, path: str, body: bytes) -> None:
    status, answer = await client.send("POST", path, body)
    assert 400 <= status < 500
    assert set(answer) == {"code", "message"}
    assert (await client.get("/health"))[0] == 200


async def test_refusals_have_the_status_that_fits(client: Client) -> None:
    assert (await client.send("POST", "/charges", b"{"))[0] == 400
    assert (await client.post("/charges", {**GOOD, "more": 1}))[0] == 422
    assert (await client.send("POST", "/charges", MALFORMED["too long"]))[0] == 413
    assert (await client.send("DELETE", "/charges"))[0] == 405
    assert (await client.send("GET", "/void"))[0] == 405


@pytest.mark.parametrize("path", ["/charges?key=a&key=b", "/charges?other=a", "/charges?key=%ff%00", "/charges"])
async def test_a_strange_lookup_is_refused(client: Client, path: str) -> None:
    assert (await client.send("GET", path))[0] in {404, 422}


@pytest.mark.parametrize("query", ["limit=0", "limit=10001", "limit=x", "after=-1", "after=1e3", "more=1"])
async def test_a_strange_window_is_refused(client: Client, query: str) -> None:
    assert (await client.send("GET", f"/ledger?{query}"))[0] == 422


async def test_what_it_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    try:
        async with _client_of(gateway) as session:
            client = Client(session)
            acknowledged: dict[str, str] = {}
            enough = asyncio.Event()

            async def charge(key: str) -> None:
                _, body = await client.charge(key)
                acknowledged[key] = body["id"]
                if len(acknowledged) == 150:
                    enough.set()

            assert (await client.charge("flaky", "pm_flaky_2"))[0] == 503
            assert (await client.charge("declined", "pm_decline_LOST_CARD"))[0] == 402
            await client.void("voided")
            keys = [f"k{n}" for n in range(600)]
            charges = [asyncio.create_task(charge(key)) for key in keys]
            async with asyncio.timeout(PATIENCE):
                await enough.wait()
            gateway.stop(signal.SIGKILL)
            before = dict(acknowledged)
            gateway.start()
            await asyncio.gather(*charges, return_exceptions=True)

            replayed = await asyncio.gather(*(client.charge(key) for key in keys))
            assert {body["key"]: body["id"] for _, body in replayed}.items() >= acknowledged.items() >= before.items()
            _, lines = await client.get("/ledger")
            assert sorted(line["key"] for line in lines) == sorted(keys)
            assert (await client.charge("flaky", "pm_flaky_2"))[0] == 503
            assert (await client.charge("flaky", "pm_flaky_2"))[0] == 200
            assert (await client.charge("declined"))[1]["code"] == "LOST_CARD"
            assert (await client.charge("voided"))[0] == 409
    finally:
        gateway.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_it_stops_cleanly_and_charges_nobody_on_its_way_out(tmp_path: Path, number: int) -> None:
    gateway = Gateway(tmp_path)
    try:
        async with _client_of(gateway) as session:
            client = Client(session)
            assert (await client.charge("k"))[0] == 200
            async with _on_its_way(gateway, client, "slow", "pm_slow_3600000") as reader:
                gateway.process.send_signal(number)
                answer = await reader.read()
            assert b" 503 " in answer
            assert b"SHUTTING_DOWN" in answer
            assert await asyncio.to_thread(gateway.process.wait, PATIENCE) == 0
            gateway.start()
            assert await client.movements("k") == [("capture", 1000)]
            assert (await client.find("slow"))[0] == 404
    finally:
        gateway.close()


async def test_chance_follows_the_ratios_and_a_retry_draws_again(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path, latency_ms=(1, 5), outcomes=(40, 40, 20))
    try:
        async with _client_of(gateway) as session:
            client = Client(session)
            keys = [f"k{n}" for n in range(200)]
            first = await asyncio.gather(*(client.charge(key, None) for key in keys))
            shares = [sum(status == wanted for status, _ in first) for wanted in (200, 503, 402)]
            assert sum(shares) == 200
            assert all(abs(share - wanted) < 35 for share, wanted in zip(shares, (80, 80, 40), strict=True))
            for _ in range(40):
                busy = [key for key, (status, _) in zip(keys, first, strict=True) if status == 503]
                again = dict(zip(busy, await asyncio.gather(*(client.charge(key, None) for key in busy)), strict=True))
                first = [again.get(key, answer) for key, answer in zip(keys, first, strict=True)]
            assert {status for status, _ in first} == {200, 402}
            _, lines = await client.get("/ledger")
            assert len(lines) == sum(status == 200 for status, _ in first)
    finally:
        gateway.close()
