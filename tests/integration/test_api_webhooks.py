"""Endpoints over HTTP: what can be asked of those that listen, of those that are off, and of those that are gone."""

from datetime import timedelta
from typing import Any

import pytest

from api_client import Client, Person
from comanda.clock import now, rfc3339

URL = "http://127.0.0.1:9/hook"  # nobody works here: what is sent waits


async def made(api: Client, admin: Person) -> str:
    reply = await api.post("/api/v1/webhooks", {"url": URL}, token=admin.token)
    assert reply.status == 201, reply
    return f"/api/v1/webhooks/{reply.body['id']}"


async def pinged(api: Client, admin: Person, path: str) -> str:
    reply = await api.post(f"{path}/test", None, token=admin.token)
    assert reply.status == 202, reply
    return f"{path}/deliveries/{reply.body['id']}"


async def ended(api: Client) -> None:
    async with api.database.connection() as tx:
        await tx.execute("UPDATE webhook_deliveries SET state = 'FAILED', ended_at = now()")


async def test_nothing_is_sent_to_what_is_switched_off(api: Client) -> None:
    admin = await api.person("admin")
    path = await made(api, admin)
    delivery = await pinged(api, admin, path)
    await ended(api)
    since = {"since": rfc3339(now() - timedelta(hours=1))}
    await api.ask("PATCH", path, json={"isActive": False}, token=admin.token)
    for asked, body in ((f"{path}/test", None), (f"{delivery}/redeliver", None), (f"{path}/redeliver", since)):
        reply = await api.post(asked, body, token=admin.token)
        assert (reply.status, reply.body["code"]) == (409, "WEBHOOK_DISABLED"), asked
    await api.ask("PATCH", path, json={"isActive": True}, token=admin.token)
    assert (await api.post(f"{path}/redeliver", since, token=admin.token)).body == {"deliveries": 1}


async def test_who_sent_something_stands_in_the_audit(api: Client) -> None:
    admin = await api.person("admin")
    path = await made(api, admin)
    delivery = await pinged(api, admin, path)
    await ended(api)
    await api.post(f"{delivery}/redeliver", None, token=admin.token)
    await api.post(f"{path}/redeliver", {"since": rfc3339(now() - timedelta(hours=1))}, token=admin.token)
    async with api.database.connection() as tx:
        told = await tx.fetch("SELECT act, actor, subject, detail::text AS detail FROM audit ORDER BY id")
    endpoint, sent = path.rpartition("/")[2], delivery.rpartition("/")[2]
    assert {(row["actor"], row["subject"]) for row in told} == {(admin.email, endpoint)}
    assert [row["act"] for row in told] == ["webhook.create", "webhook.test", "webhook.redeliver", "webhook.redeliver"]
    assert sent in told[2]["detail"]
    assert told[3]["detail"] == '{"deliveries": 1}'


async def test_what_is_deleted_is_gone_with_its_log(api: Client) -> None:
    admin = await api.person("admin")
    path = await made(api, admin)
    delivery = await pinged(api, admin, path)
    await ended(api)
    await api.ask("DELETE", path, token=admin.token)
    for method, asked in (("GET", f"{path}/deliveries"), ("GET", delivery), ("POST", f"{delivery}/redeliver")):
        reply = await api.ask(method, asked, token=admin.token)
        assert (reply.status, reply.body["code"]) == (404, "WEBHOOK_NOT_FOUND"), asked


@pytest.mark.parametrize(
    "time",
    ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00", "2026-01-01T00:00:00", "2026-01-01", "1", 0, -1e11],
)
async def test_what_is_no_time_is_refused(api: Client, time: Any) -> None:
    admin = await api.person("admin")
    path = await made(api, admin)
    reply = await api.post(f"{path}/redeliver", {"since": time}, token=admin.token)
    assert (reply.status, reply.body["errors"][0]["code"]) == (422, "NOT_A_TIME")


async def test_a_time_before_all_times_means_everything(api: Client) -> None:
    admin = await api.person("admin")
    path = await made(api, admin)
    await pinged(api, admin, path)
    await ended(api)
    for since in ("1969-12-31T23:59:59Z", "0001-01-01T00:00:00Z"):
        reply = await api.post(f"{path}/redeliver", {"since": since}, token=admin.token)
        assert reply.body == {"deliveries": 1}, since


async def test_a_time_that_ends_before_it_begins_is_refused(api: Client) -> None:
    admin = await api.person("admin")
    path = await made(api, admin)
    since = rfc3339(now())
    reply = await api.post(f"{path}/redeliver", {"since": since, "until": since}, token=admin.token)
    assert (reply.status, reply.body["errors"][0]["field"]) == (422, "until")
