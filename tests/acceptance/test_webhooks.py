"""Webhooks as a receiver meets them: signed, in order, again when it was down, never to where they don't belong."""

import asyncio
import json
import shutil
import signal
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from standardwebhooks import Webhook

from comanda.db.database import connect
from receiver import Receiver
from up import COMANDA, PASSWORD, Reply, Up, Visitor, environment, eventually, running

NPM = Path(__file__).parents[1] / "foreign"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.close()


async def endpoint(admin: Visitor, url: str, *types: str) -> dict[str, Any]:
    made: dict[str, Any] = await admin.made("/webhooks", {"url": url, "eventTypes": list(types)})
    return made


async def ask_database(up: Up, statement: str, *arguments: Any) -> list[Any]:
    connection = await connect(up.facts["databaseUrl"], name="tests")
    try:
        return list(await connection.fetch(statement, *arguments))
    finally:
        connection.terminate()


async def test_events_come_signed_in_the_order_of_each_order(up: Up, admin: Visitor, receiver: Receiver) -> None:
    customer = await up.registered()
    product = await admin.product()
    made = await endpoint(admin, receiver.url)
    orders = [await customer.order(product, method=method) for method in ("pm_success", "pm_decline_CARD_DECLINED")]
    await customer.ended(*orders)
    await eventually(lambda: receiver.of_order(orders[0])[-1:] == ["OrderConfirmed"])
    await eventually(lambda: receiver.of_order(orders[1])[-1:] == ["OrderCancelled"])
    assert receiver.of_order(orders[0])[0] == "OrderCreated"
    for headers, body in receiver.heard:
        told = Webhook(made["secret"]).verify(body, headers)
        assert {"id", "type", "timestamp", "data"} <= told.keys()
        assert headers["webhook-id"] == told["id"]
    seqs = await ask_database(
        up,
        "SELECT event_id FROM webhook_deliveries WHERE endpoint_id = $1 AND lane = $2 ORDER BY seq",
        made["id"],
        orders[0],
    )
    heard = [one["id"] for one in receiver.bodies() if one["type"] in receiver.of_order(orders[0])]
    mine = [str(row["event_id"]) for row in seqs]
    assert [one for one in heard if one in mine] == mine, "each once, in the order of the outbox"
    assert (await admin.ask("DELETE", f"/webhooks/{made['id']}")).status == 204


async def _run(*command: str, given: str = "") -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=NPM, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate(given.encode())
    return process.returncode or 0, said.decode().strip()


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not there: its package can't verify")
async def test_the_npm_package_of_that_name_verifies_them_too(admin: Visitor, receiver: Receiver) -> None:
    made = await endpoint(admin, receiver.url, "OrderCreated")
    await admin.made(f"/webhooks/{made['id']}/test", None)
    await eventually(lambda: receiver.heard)
    headers, body = receiver.heard[0]
    assert (await _run("npm", "ci", "--no-fund", "--no-audit", "--loglevel=error"))[0] == 0
    sent = {"secret": made["secret"], "headers": headers, "body": body.decode()}
    assert await _run("node", "verify.mjs", given=json.dumps(sent)) == (0, "webhook.test")
    assert (await _run("node", "verify.mjs", given=json.dumps(sent | {"body": body.decode() + " "})))[0] == 1
    assert (await admin.ask("DELETE", f"/webhooks/{made['id']}")).status == 204


async def test_only_what_was_asked_for_comes(up: Up, admin: Visitor, receiver: Receiver) -> None:
    customer = await up.registered()
    made = await endpoint(admin, receiver.url, "OrderConfirmed")
    order_id = await customer.order(await admin.product())
    await eventually(lambda: receiver.of_order(order_id))
    assert {one["type"] for one in receiver.bodies()} == {"OrderConfirmed"}
    assert (await admin.ask("POST", "/webhooks", {"url": receiver.url, "eventTypes": ["Nonsense"]})).status == 422
    await admin.ask("DELETE", f"/webhooks/{made['id']}")


async def test_a_receiver_that_was_down_for_an_hour_gets_everything_in_order(
    up: Up, admin: Visitor, receiver: Receiver
) -> None:
    customer = await up.registered()
    product = await admin.product()
    made = await endpoint(admin, receiver.url)
    receiver.status = 503
    orders = [await customer.order(product) for _ in range(5)]
    await customer.ended(*orders)
    for tries in (1, 2, 3):
        await eventually(partial(_all_have_failed, up, made["id"], orders, tries))
        assert all(set(receiver.of_order(one)) == {"OrderCreated"} for one in orders), "what comes later waits"
        if tries == 3:
            receiver.status = 200
        await _let_an_hour_pass(up)
    for one in orders:
        await eventually(partial(receiver.has_heard_the_end, one))
        lane = await _lane(up, made["id"], one)
        heard = [told["id"] for told in receiver.bodies() if told["id"] in lane]
        assert heard[-len(lane) :] == list(lane), "every event, each once, in the order of the outbox"
        assert set(heard[: -len(lane)]) == {heard[-len(lane)]}, "only the first was tried in vain"
        assert len(heard) >= len(lane) + 3
        wanted = ["OrderCreated", "InventoryReserved", "PaymentProcessed", "OrderConfirmed"]
        assert [kind for kind in lane.values() if kind in wanted] == wanted
    await eventually(lambda: _all_delivered(admin, f"/webhooks/{made['id']}"))
    log = await admin.get(f"/webhooks/{made['id']}/deliveries?limit=100")
    first = next(one for one in log["items"] if one["eventType"] == "OrderCreated")
    told = await admin.get(f"/webhooks/{made['id']}/deliveries/{first['id']}")
    statuses = [one["status"] for one in told["attempts"]]
    assert (set(statuses[:-1]), statuses[-1], len(statuses) >= 4) == ({503}, 200, True)
    assert told["attempts"][0]["answer"] == "ok\n"
    assert told["attempts"][0]["headers"]["webhook-id"] == first["eventId"]
    known = await admin.get(f"/webhooks/{made['id']}")
    assert (known["isActive"], known["disabledReason"]) == (True, None), "an hour of silence disables nobody"
    await admin.ask("DELETE", f"/webhooks/{made['id']}")


async def _all_have_failed(up: Up, endpoint_id: str, orders: list[str], tries: int) -> bool:
    """Whether the first event of each order was tried so often, and waits for the next time."""
    rows = await ask_database(
        up,
        "SELECT (SELECT count(*) FROM webhook_attempts WHERE delivery_id = webhook_deliveries.id) AS attempts"
        "  FROM webhook_deliveries JOIN sagas ON sagas.subject = webhook_deliveries.id AND sagas.kind = 'webhook'"
        " WHERE endpoint_id = $1 AND lane = ANY($2::uuid[]) AND event_type = 'OrderCreated' AND waits_until > now()",
        endpoint_id,
        orders,
    )
    return len(rows) == len(orders) and all(row["attempts"] >= tries for row in rows)


async def _let_an_hour_pass(up: Up) -> None:
    """The clock of what waits is moved."""
    await ask_database(up, "UPDATE sagas SET waits_until = waits_until - interval '1 hour' WHERE kind = 'webhook'")


async def _lane(up: Up, endpoint_id: str, order_id: str) -> dict[str, str]:
    """The events that are sent of an order, in the order of the outbox: types by ids."""
    lane = "SELECT event_id, event_type FROM webhook_deliveries WHERE endpoint_id = $1 AND lane = $2 ORDER BY seq"
    return {str(row["event_id"]): row["event_type"] for row in await ask_database(up, lane, endpoint_id, order_id)}


async def test_what_was_delivered_is_delivered_again_when_asked_for(up: Up, admin: Visitor, receiver: Receiver) -> None:
    customer = await up.registered()
    made = await endpoint(admin, receiver.url)
    order_id = await customer.order(await admin.product())
    await customer.ended(order_id)
    await eventually(lambda: receiver.of_order(order_id)[-1:] == ["OrderConfirmed"])
    before = receiver.of_order(order_id)
    path = f"/webhooks/{made['id']}"
    await eventually(lambda: _all_delivered(admin, path))
    confirmed = next(
        one
        for one in (await admin.get(f"{path}/deliveries?limit=100"))["items"]
        if one["eventType"] == "OrderConfirmed"
    )
    again = await admin.ask("POST", f"{path}/deliveries/{confirmed['id']}/redeliver")
    assert (again.status, again.body) == (202, {"deliveries": 1})
    await eventually(lambda: receiver.of_order(order_id) == [*before, "OrderConfirmed"])
    assert [one["id"] for one in receiver.bodies() if one["type"] == "OrderConfirmed"] == [confirmed["eventId"]] * 2
    receiver.heard.clear()
    ranged = await admin.ask("POST", f"{path}/redeliver", {"since": made["createdAt"]})
    assert ranged.body["deliveries"] >= len(before)
    await eventually(lambda: receiver.of_order(order_id) == before)
    await admin.ask("DELETE", path)


async def test_a_time_is_delivered_again_up_to_its_end(admin: Visitor, receiver: Receiver) -> None:
    made = await endpoint(admin, receiver.url)
    path = f"/webhooks/{made['id']}"
    first, second, third = [await admin.made(f"{path}/test", None) for _ in range(3)]
    await eventually(lambda: _all_delivered(admin, path))
    for since, until, again in ((first, second, [first]), (second, third, [second]), (first, third, [first, second])):
        receiver.heard.clear()
        asked = {"since": since["createdAt"], "until": until["createdAt"]}
        ranged = await admin.ask("POST", f"{path}/redeliver", asked)
        assert (ranged.status, ranged.body) == (202, {"deliveries": len(again)})
        await eventually(lambda: _all_delivered(admin, path))
        assert sorted(one["id"] for one in receiver.bodies()) == sorted(one["eventId"] for one in again)
    await admin.ask("DELETE", path)


async def _all_delivered(admin: Visitor, path: str) -> bool:
    items = (await admin.get(f"{path}/deliveries?limit=100"))["items"]
    return bool(items) and all(one["status"] == "DELIVERED" for one in items)


async def test_after_a_rotation_both_secrets_verify(admin: Visitor, receiver: Receiver) -> None:
    made = await endpoint(admin, receiver.url)
    turned = await admin.made(f"/webhooks/{made['id']}/rotate-secret", None)
    assert turned["secret"] != made["secret"]
    await admin.made(f"/webhooks/{made['id']}/test", None)
    await eventually(lambda: receiver.heard)
    headers, body = receiver.heard[0]
    for secret in (made["secret"], turned["secret"]):
        assert Webhook(secret).verify(body, headers)["type"] == "webhook.test"
    await admin.ask("DELETE", f"/webhooks/{made['id']}")


async def test_who_answers_410_is_left_alone(admin: Visitor, receiver: Receiver) -> None:
    made = await endpoint(admin, receiver.url)
    receiver.status = 410
    await admin.made(f"/webhooks/{made['id']}/test", None)
    path = f"/webhooks/{made['id']}"

    async def is_off() -> bool:
        found = await admin.get(path)
        return (found["isActive"], found["disabledReason"]) == (False, "GONE")

    await eventually(is_off)
    assert len(receiver.heard) == 1
    (log,) = (await admin.get(f"{path}/deliveries"))["items"]
    assert log["status"] == "FAILED"
    switched_on = await admin.ask("PATCH", path, {"isActive": True})
    assert (switched_on.body["isActive"], switched_on.body["disabledReason"]) == (True, None)
    await admin.ask("DELETE", path)


async def test_one_event_that_a_receiver_refuses_is_no_silence(up: Up, admin: Visitor, receiver: Receiver) -> None:
    made = await endpoint(admin, receiver.url, "OrderDelivered")
    path = f"/webhooks/{made['id']}"

    async def is_given_up(delivery_id: str) -> bool:
        # Days pass: its attempts are used up but for one.
        await ask_database(
            up, "UPDATE sagas SET attempt = 9, waits_until = now() WHERE subject = $1 AND waits_until > now()",
            UUID(delivery_id),
        )  # fmt: skip
        status: str = (await admin.get(f"{path}/deliveries/{delivery_id}"))["status"]
        return status == "FAILED"

    receiver.status = 422
    refused = await admin.made(f"{path}/test", None)
    await eventually(lambda: receiver.heard)
    receiver.status = 200
    taken = await admin.made(f"{path}/test", None)
    await eventually(lambda: _is_delivered(admin, f"{path}/deliveries/{taken['id']}"))
    receiver.status = 422
    await eventually(lambda: is_given_up(refused["id"]))
    assert (await admin.get(path))["isActive"], "what came later was taken"
    silent = await admin.made(f"{path}/test", None)
    await eventually(lambda: is_given_up(silent["id"]))
    found = await admin.get(path)
    assert (found["isActive"], found["disabledReason"]) == (False, "UNREACHABLE")
    await admin.ask("DELETE", path)


async def _is_delivered(admin: Visitor, path: str) -> bool:
    found: str = (await admin.get(path))["status"]
    return found == "DELIVERED"


async def test_a_redirect_is_followed_by_nobody(admin: Visitor, receiver: Receiver) -> None:
    other = Receiver()
    receiver.status, receiver.location = 302, other.url
    made = await endpoint(admin, receiver.url)
    await admin.made(f"/webhooks/{made['id']}/test", None)
    await eventually(lambda: receiver.heard)
    (log,) = (await admin.get(f"/webhooks/{made['id']}/deliveries"))["items"]

    async def is_refused() -> bool:
        told = await admin.get(f"/webhooks/{made['id']}/deliveries/{log['id']}")
        return [one["status"] for one in told["attempts"]][:1] == [302]

    await eventually(is_refused)
    assert other.heard == []
    other.close()
    await admin.ask("DELETE", f"/webhooks/{made['id']}")


SOMEWHERE_ELSE = [
    "http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://[::1]:{port}/", "http://0.0.0.0:{port}/",
    "http://2130706433:{port}/", "http://0x7f.1:{port}/", "http://0177.0.0.1:{port}/", "http://127.1:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/", "http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/",
    "http://10.0.0.1/", "http://192.168.0.1/", "http://[64:ff9b::7f00:1]:{port}/", "http://localhost.:{port}/",
    "http://\uff11\uff12\uff17.0.0.1:{port}/",
]  # fmt: skip


async def test_nothing_is_ever_sent_to_where_it_does_not_belong(
    tmp_path: Path, urls: dict[str, str], receiver: Receiver
) -> None:
    """Refused at once where it can be seen, else at delivery, when the name is looked up."""
    port = receiver.url.rpartition(":")[2].partition("/")[0]
    async with running(tmp_path / "data", "--json", WEBHOOK_NETWORKS="none", **urls) as up:
        admin = await up.signed_in()
        tried = []
        for url in SOMEWHERE_ELSE:
            reply: Reply = await admin.ask("POST", "/webhooks", {"url": url.format(port=port)})
            assert reply.status in {201, 422}, reply
            if reply.status == 201:
                await admin.made(f"/webhooks/{reply.body['id']}/test", None)
                tried.append(reply.body["id"])

        async def all_were_refused() -> bool:
            for one in tried:
                (log,) = (await admin.get(f"/webhooks/{one}/deliveries"))["items"]
                told = await admin.get(f"/webhooks/{one}/deliveries/{log['id']}")
                if not told["attempts"]:
                    return False
                assert {attempt["status"] for attempt in told["attempts"]} == {None}, told
            return True

        await eventually(all_were_refused)
        assert tried, "some are names, which are looked up at delivery"
        assert receiver.heard == []


@asynccontextmanager
async def listening(up: Up, *options: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, list[dict[str, Any]]]]:
    """`comanda webhooks listen`, and what it prints; ended by Ctrl-C at the end."""
    command = (*COMANDA, "webhooks", "listen", "--json", "--data-dir", str(up.folder), *options)
    process = await asyncio.create_subprocess_exec(
        *command, env=environment({"ADMIN_PASSWORD": PASSWORD}), stdout=PIPE, stderr=PIPE
    )
    printed: list[dict[str, Any]] = []
    assert process.stdout is not None
    assert process.stderr is not None

    async def read(out: asyncio.StreamReader) -> None:
        while line := await out.readline():
            printed.append(json.loads(line))

    reading = asyncio.create_task(read(process.stdout))
    try:
        async with asyncio.timeout(30):
            assert b"Ctrl-C ends it" in await process.stderr.readline(), (await process.stderr.read()).decode()
        yield process, printed
        process.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            assert await process.wait() == 0, (await process.stderr.read()).decode()
        await reading
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _is_listening(one: dict[str, Any]) -> bool:
    return str(one["description"]).startswith("comanda webhooks listen")


async def test_a_developer_listens_to_what_an_order_tells(up: Up, admin: Visitor, receiver: Receiver) -> None:
    customer = await up.registered()
    product = await admin.product()
    receiver.status = 202
    async with listening(up, "--forward", receiver.url) as (_, printed):
        (made,) = [row for row in (await up.comanda("webhooks", "list", "--json")).rows if _is_listening(row)]
        order_id = await customer.order(product)
        await eventually(lambda: "OrderConfirmed" in [one["type"] for one in printed])
        mine = [one for one in printed if one["orderId"] == order_id]
        assert (mine[0]["type"], mine[-1]["type"]) == ("OrderCreated", "OrderConfirmed")
        assert {(one["isVerified"], one["status"]) for one in printed} == {(True, 202)}
        assert receiver.of_order(order_id) == [one["type"] for one in mine], "sent on, in that order"
        # Unchanged: its signature is still of what was sent.
        (sent,) = [one for one in receiver.heard if json.loads(one[1])["type"] == "OrderConfirmed"]
        assert sent[0]["webhook-id"] == mine[-1]["id"]
        receiver.heard.clear()
        await eventually(lambda: _all_delivered(admin, f"/webhooks/{made['id']}"))
        sent_to = await up.comanda("webhooks", "deliveries", made["id"], "--status", "DELIVERED", "--json")
        (row,) = [row for row in sent_to.rows if row["event"] == mine[-1]["id"]]
        assert (row["type"], row["attempts"], row["answer"]) == ("OrderConfirmed", 1, 202)
        again = await up.comanda("webhooks", "redeliver", made["id"], row["id"], "--reason", "a look", "--json")
        assert (again.code, len(again.rows)) == (0, 1), again.err
        await eventually(lambda: receiver.heard)
        assert receiver.heard[0][0]["webhook-id"] == mine[-1]["id"]
    assert (await admin.ask("GET", f"/webhooks/{made['id']}")).status == 404


async def test_who_listens_sees_that_a_delivery_was_forged(up: Up, admin: Visitor) -> None:
    async with listening(up, "--type", "OrderConfirmed") as (_, printed):
        (made,) = [one for one in (await admin.get("/webhooks"))["items"] if _is_listening(one)]
        forged = {"webhook-id": "x", "webhook-timestamp": str(int(time.time())), "webhook-signature": "v1,AAAA"}
        async with admin.session.post(made["url"], json={"type": "OrderConfirmed"}, headers=forged) as response:
            assert response.status == 204
        await eventually(lambda: printed)
        assert (printed[0]["type"], printed[0]["isVerified"]) == ("OrderConfirmed", False)


async def test_a_redelivery_of_nothing_in_particular_is_refused(up: Up) -> None:
    assert (await up.comanda("webhooks", "redeliver", str(uuid4()), "--reason", "a look")).code == 2
    assert (await up.comanda("webhooks", "redeliver", str(uuid4()), "--since", "1", "--reason", "a look")).code == 1


async def test_webhooks_that_nobody_knows_are_not_there(admin: Visitor) -> None:
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/test"),
        ("GET", "/deliveries"),
        ("POST", "/rotate-secret"),
    ):
        reply = await admin.ask(method, f"/webhooks/{uuid4()}{path}")
        assert (reply.status, reply.body["code"]) == (404, "WEBHOOK_NOT_FOUND")
