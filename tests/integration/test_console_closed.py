"""What the console keeps shut: addresses that are secrets, streams of who is out, odd origins and queries, floods."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import aiohttp
from test_console_access import Browser, browser
from test_console_pages import scene
from test_console_story import explained
from yarl import URL

from api_client import PASSWORD, Client, running_api
from comanda.console.ask import COOKIE
from comanda.webhooks import endpoints

PATIENCE = 20.0  # seconds


async def test_a_story_names_the_host_of_a_webhook_and_no_more_of_its_address(
    database_url: str, redis_url: str
) -> None:
    url = "https://hooks.example.com:8443/services/T0PSECRET?key=s3cr3t"
    async with (
        scene(database_url, redis_url, role="viewer") as (api, open_shop, viewer),
        browser(api, "admin") as admin,
    ):
        coffee = (await open_shop.sells(coffee=5))["coffee"]
        order_id = await open_shop.order({coffee: 1}, "pm_success")
        async with open_shop.database.transaction() as tx:
            ((endpoint, _),) = await endpoints.create(tx, [endpoints.Draft(url, "", ("OrderShipped",))])
            delivery = uuid4()
            await tx.execute(
                "INSERT INTO webhook_deliveries (id, endpoint_id, event_id, event_type, lane, body, state, ended_at,"
                " correlation_id) SELECT $1, $2, id, type, $1, '{}', 'FAILED', now(), 'x' FROM outbox"
                " WHERE aggregate_id = $3 AND type = 'OrderCreated'",
                delivery, endpoint.id, order_id,
            )  # fmt: skip
            await tx.execute(
                "INSERT INTO webhook_attempts (delivery_id, attempt, error) VALUES ($1, 1, $2)",
                delivery, f"{url} can't be reached",
            )  # fmt: skip
        for who in (viewer, admin):
            page = (await who.get(f"/admin/orders/{order_id}")).text
            assert "OrderCreated → https://hooks.example.com:8443, attempt 1" in page
            assert "T0PSECRET" not in page
            assert "s3cr3t" not in page
        lines = await explained(database_url, redis_url, order_id)
        (line,) = [line for line in lines if line["source"] == "webhook"]
        assert line["what"] == "OrderCreated → https://hooks.example.com:8443, attempt 1"
        assert line["said"] == "https://hooks.example.com:8443 can't be reached"
        assert "T0PSECRET" in (await admin.get(f"/admin/webhooks/{endpoint.id}")).text


@asynccontextmanager
async def listening(one: Browser) -> AsyncIterator[aiohttp.ClientResponse]:
    """To the overview's stream, from its first words on."""
    timeout = aiohttp.ClientTimeout(total=None)
    async with one.session.get(f"{one.url}/admin/live?view=overview", timeout=timeout) as stream:
        assert await stream.content.readline() == b"retry: 1000\n"
        yield stream


async def test_a_stream_ends_when_its_account_is_out_and_the_others_go_on(api: Client) -> None:
    async with browser(api, "viewer") as another, listening(another) as goes_on:
        for change in (
            "UPDATE accounts SET is_active = false WHERE role = 'operator'",
            "UPDATE accounts SET role = 'customer' WHERE role = 'operator'",
            "DELETE FROM console_sessions USING accounts WHERE accounts.id = account_id AND role = 'operator'",
        ):
            async with browser(api, "operator") as one, listening(one) as ends:
                async with api.database.transaction() as tx:
                    await tx.execute(change)
                async with asyncio.timeout(PATIENCE):
                    await ends.read()
        assert (await another.get("/admin")).status == 200
        assert not goes_on.content.at_eof()


async def test_what_is_no_origin_is_not_ours(api: Client) -> None:
    admin = await api.person("admin")
    async with browser(api) as one:
        fields = {"email": admin.email, "password": PASSWORD}
        for origin in ("http://[", "http://[::1", "//", "x", "http://a\u2100b"):
            seen = await one.post_raw("/admin/login", fields, Origin=origin)
            assert (seen.status, "Set-Cookie" in seen.headers) == (403, False), (origin, seen.text)


async def test_behind_a_proxy_that_ends_tls_a_page_of_plain_http_is_somebody_else(
    database_url: str, redis_url: str
) -> None:
    async def signed_in(api: Client, email: str, said: str | None, scheme: str) -> int:
        async with browser(api) as one:
            proxy = {} if said is None else {"X-Forwarded-Proto": said}
            origin = api.url.replace("http:", f"{scheme}:")
            fields = {"email": email, "password": PASSWORD}
            return (await one.post_raw("/admin/login", fields, Origin=origin, **proxy)).status

    async with running_api(database_url, redis_url, trusted_proxies="127.0.0.0/8") as api:
        email = (await api.person("admin")).email
        assert await signed_in(api, email, "https", "https") == 303
        assert await signed_in(api, email, "https", "http") == 403
        assert await signed_in(api, email, "http, https", "http") == 403
        assert await signed_in(api, email, None, "https") == 303, "a proxy that does not say how it was asked"
    async with running_api(database_url, redis_url) as api:
        assert await signed_in(api, email, "https", "http") == 303, "of a stranger nothing is believed"


async def test_what_can_not_be_read_is_said_and_widens_no_list(api: Client) -> None:
    paths = (
        "/admin/orders?age=²",
        "/admin/orders?age=x",
        "/admin/orders?age=999999999999",
        "/admin/orders?state=nope",
        "/admin/payments?state=nope",
        "/admin/products?status=nope",
        "/admin/dead-letters?queue=nope",
        "/admin/mailbox?before=0001-01-01T00:00:00%2B14:00|x",
        "/admin/mailbox?before=9999-12-31T23:59:59-14:00|x",
        "/admin/mailbox?before=2026-01-01T00:00:00|x",
        "/admin/mailbox?before=yesterday|x",
    )
    async with browser(api, "admin") as one:
        assert {path: (await one.get(path)).status for path in paths} == dict.fromkeys(paths, 422)
        for path in ("/admin/mailbox?before=2026-01-01T00:00:00%2B02:00|x", "/admin/orders?age=5&state=open"):
            assert (await one.get(path)).status == 200


async def test_a_limit_that_is_none_leaves_the_limit_there_is(api: Client) -> None:
    path = "/admin/queues/order-processing/limit"
    async with browser(api, "operator") as one:
        assert (await one.post(path, {"reason": "test", "rate": "5"})).status == 303
        for rate in ("000000000000005", "1000001", "²", "-1", "9" * 5000):
            assert (await one.post(path, {"reason": "test", "rate": rate})).status == 422, rate
        async with api.database.connection() as tx:
            assert await tx.fetchval("SELECT rate_limit FROM queues WHERE name = 'order-processing'") == 5


async def test_only_what_the_console_has_said_itself_is_shown_as_done(api: Client) -> None:
    async with browser(api, "operator") as one, browser(api, "operator") as another:
        assert "the bank called" not in (await one.get("/admin?said=the+bank+called")).text
        done = await one.post("/admin/queues/order-processing/pause", {"reason": "test"})
        path = done.headers["Location"]
        assert "Done: order-processing: pause" in (await one.get(path)).text
        assert "Done" not in (await one.get(path.replace("pause", "resume"))).text
        assert "Done" not in (await another.get(path)).text, "it was said to somebody else"


async def test_what_is_not_there_says_so_and_what_is_is_found(api: Client) -> None:
    async with browser(api, "admin") as one:
        home = await one.get("/admin/")
        assert home.status == 200
        assert "<h1>Overview" in home.text
        assert (await one.get("/admin/dead-letters/abc")).status == 404
        assert (await one.get("/admin/dead-letters?queue=order-processing")).status == 200
        wrong = await one.post("/admin/orders")
        assert (wrong.status, wrong.headers["Allow"]) == (405, "GET, HEAD")
        wrong = await one.get("/admin/logout")
        assert (wrong.status, wrong.headers["Allow"]) == (405, "POST")


async def test_a_stream_is_no_slow_request_and_a_label_is_no_router_s(api: Client) -> None:
    timed = 'http_request_duration_seconds_count{endpoint="/admin/live"'
    async with browser(api, "admin") as one:
        # Those that were refused before they were streams were timed, like any other.
        before = _lines((await api.get("/metrics")).body, timed)
        async with one.session.head(f"{one.url}/admin/live?view=overview") as head:
            assert (head.status, head.content_type) == (200, "text/event-stream")
        await one.get("/admin/mailbox/no/such/message")
        metrics = (await api.get("/metrics")).body
    assert 'http_requests_total{endpoint="/admin/live",method="GET",status="200"}' in metrics
    assert _lines(metrics, timed) == before
    assert 'endpoint="/admin/mailbox/{key}"' in metrics
    assert ":path" not in metrics


def _lines(metrics: str, beginning: str) -> list[str]:
    return [line for line in metrics.splitlines() if line.startswith(beginning)]


async def test_a_flood_from_the_proxy_s_address_locks_no_operator_out(database_url: str, redis_url: str) -> None:
    async with (
        running_api(database_url, redis_url, is_limited=True, rate_read=(5, 300)) as api,
        browser(api, "operator") as one,
        browser(api) as stranger,
    ):
        while (await api.get("/api/v1/products")).status == 200:
            pass
        for _ in range(6):
            assert (await one.get("/admin")).status == 200
        refused = await stranger.get("/admin/orders")
        assert (refused.status, refused.headers["Content-Type"]) == (429, "text/html; charset=utf-8")
        assert "Too many requests" in refused.text
        assert 1 <= int(refused.headers["Retry-After"]) <= 60
        assert (await stranger.get("/admin/nothing")).status == 429
        spanish = await stranger.get("/admin", **{"Accept-Language": "es"})
        assert "Demasiadas solicitudes" in spanish.text
        made_up = {"Cookie": "comanda_console=made-up"}
        assert (await stranger.get("/admin", **made_up)).status == 429
        metrics = (await api.get("/metrics")).body
        assert 'http_requests_total{endpoint="/admin/orders",method="GET",status="429"}' in metrics
        token = {"Cookie": f"comanda_console={one.token}"}
        assert (await one.post("/admin/logout")).status == 303
        assert (await stranger.get("/admin", **token)).status == 429, "it is nobody's any more"


async def test_whoever_asks_a_stream_for_its_head_gets_that_and_no_more(api: Client) -> None:
    async with browser(api, "viewer") as one:
        reader, writer = await asyncio.open_connection("127.0.0.1", URL(api.url).port)
        lines = (
            "HEAD /admin/live?view=overview HTTP/1.1",
            "Host: x",
            f"Cookie: {COOKIE}={one.token}",
            "Connection: close",
        )
        writer.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n")
