"""The console in a large shop: its pages read by index, end in time, and many open ones cost as much as one."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from html import unescape
from uuid import UUID, uuid4

import pytest
from test_console_access import Browser, browser

from api_client import Client, running_api
from comanda import clock
from comanda.console import minutes, orders, payments, products, pulse
from comanda.console.pieces import Pieces
from comanda.console.pulse import Seen
from comanda.console.render import Pages
from comanda.db import Database, Tx
from comanda.db.database import connect
from shop import until

MANY = 20_000
SMALL = ("stock", "webhook_endpoints", "queues", "breakers", "outbox_cursors", "catalogue")
# Each row of that many orders, a minute apart. `bench_id`: an id of a moment, the nth of its kind.
FILL = """
CREATE FUNCTION bench_id(at timestamptz, n bigint) RETURNS uuid LANGUAGE sql IMMUTABLE RETURN
    (left(uuid_floor(at)::text, 24) || lpad(to_hex(n::bigint), 12, '0'))::uuid;
CREATE TABLE bench AS SELECT n, (now() - interval '1 min' * n) AS at, bench_id((now() - interval '1 min' * n),
    n) AS id, bench_id((now() - interval '1 min' * n), n + 100000) AS saga_id, bench_id((now() - interval '1 min' *
    n), n + 200000) AS message_id, n % 100 = 0 AS is_open FROM generate_series(1, 20000) AS n;
INSERT INTO accounts (id, email, password_hash, first_name, last_name) SELECT bench_id(at, n + 300000),
    'customer-' || n || '@example.com', 'none', 'Ana', 'Ruiz' FROM bench;
INSERT INTO products (id, sku, name, price) SELECT bench_id(at, n + 400000), 'SKU-' || n, 'Thing ' || n, 100
    FROM bench WHERE n <= 5000;
INSERT INTO stock (product_id, on_hand) SELECT id, 10 FROM products;
INSERT INTO orders (id, customer_id, saga_id, state, total_amount, currency, correlation_id, created_at,
    updated_at, ended_at) SELECT id, bench_id(at, n + 300000), saga_id, CASE WHEN is_open THEN 'PROCESSING' ELSE
    'CONFIRMED' END, 100, 'USD', 'x', at, at, CASE WHEN NOT is_open THEN at END FROM bench;
INSERT INTO order_lines (order_id, position, product_id, sku, product_name, quantity, unit_price) SELECT id, 1,
    bench_id(at, n + 400000), 'SKU', 'Thing', 1, 100 FROM bench;
INSERT INTO order_moves (order_id, to_state, actor) SELECT id, 'PENDING', 'order' FROM bench;
INSERT INTO sagas (id, kind, version, subject, state, step, queue, reached, since, waits_until, correlation_id,
    created_at, updated_at, ended_at) SELECT saga_id, 'order', 1, id, CASE WHEN n % 200 = 0 THEN
    'COMPENSATION_FAILED' WHEN is_open THEN 'RUNNING' ELSE 'COMPLETED' END, 'process_payment', 'payment-processing',
    'x', at, CASE WHEN n % 300 = 0 THEN now() + interval '1 day' END, 'x', at, at, CASE WHEN NOT is_open THEN at END
    FROM bench;
INSERT INTO sagas (id, kind, version, subject, state, step, queue, reached, since, correlation_id, created_at,
    updated_at, ended_at) SELECT bench_id(at, n + 500000), 'notification', 1, message_id, 'COMPLETED', 'deliver',
    'notification-sending', 'x', at, 'x', at, at, at FROM bench;
INSERT INTO saga_attempts (saga_id, at, step, direction, attempt, outcome, worker, duration_ms) SELECT saga_id,
    at, 'process_payment', 'forward', 1, 'done', 'w', 1 FROM bench;
INSERT INTO outbox (id, type, aggregate_type, aggregate_id, payload, at) SELECT bench_id(at, n + 600000),
    'OrderCreated', 'order', id, '{}', at FROM bench;
UPDATE outbox_cursors SET (xid, id) = (SELECT xid, id FROM outbox ORDER BY xid DESC, id DESC LIMIT 1);
INSERT INTO payments (id, order_id, key, gateway_id, state, amount, captured, currency) SELECT
    bench_id(at, n + 700000), id, saga_id::text, 'pay_' || n, 'SUCCEEDED', 100, 100, 'USD' FROM bench;
INSERT INTO notifications (id, order_id, kind, channel, recipient, language, variables) SELECT message_id, id,
    'order_confirmation', 'email', 'x', 'en', '{}' FROM bench;
INSERT INTO mailbox (key, channel, recipient, subject, body_text, order_id, sent_at) SELECT message_id::text,
    'email', 'x', 'x', 'x', id, at FROM bench;
INSERT INTO movements (id, product_id, location, kind, on_hand_delta, held_delta, actor, order_id) SELECT
    bench_id(at, n + 800000), id, 'MAIN', 'SALE', -1, -1, 'order', id FROM bench;
INSERT INTO reservations (id, order_id, state, expires_at, ended_at) SELECT bench_id(at, n + 900000), id,
    'FULFILLED', at, at FROM bench;
INSERT INTO dead_letters (id, saga_id, queue, step, direction, error, redriven_at) SELECT bench_id(at, n +
    1000000), saga_id, 'payment-processing', 'process_payment', 'forward', 'error ' || n, CASE WHEN n % 200 > 0 THEN
    at END FROM bench;
INSERT INTO audit (id, actor, act, subject, reason) SELECT bench_id(at, n + 1100000), 'ana', 'saga.retry',
    saga_id::text, 'x' FROM bench;
INSERT INTO webhook_endpoints (id, url, secret, is_active) VALUES (uuid_v7(), 'https://example.com',
    sha256('x'), false);
INSERT INTO webhook_deliveries (id, endpoint_id, event_id, event_type, lane, body, state, correlation_id,
    ended_at) SELECT bench_id(at, n + 1200000), webhook_endpoints.id, bench_id(at, n + 600000), 'OrderCreated',
    bench.id, '{}', 'DELIVERED', 'x', at FROM bench, webhook_endpoints;
INSERT INTO webhook_attempts (delivery_id, attempt, status) SELECT id, 1, 200 FROM webhook_deliveries;
"""
READ = (
    "SELECT relname AS name, seq_tup_read AS whole, 0 AS by_index FROM pg_stat_user_tables"
    " UNION ALL SELECT indexrelname, 0, idx_tup_read FROM pg_stat_user_indexes"
)


async def _pages(tx: Tx) -> AsyncIterator[str]:
    """Each page that lists or finds something, with its filters."""
    row = await tx.fetchrow("SELECT * FROM bench WHERE is_open AND n % 200 = 0 ORDER BY n DESC LIMIT 1 OFFSET 3")
    assert row is not None
    order, saga, deep = row["id"], row["saga_id"], f"before={row['id']}"
    fingerprint = await tx.fetchval("SELECT fingerprint FROM dead_letters WHERE redriven_at IS NULL LIMIT 1")
    letter = await tx.fetchval("SELECT id FROM dead_letters WHERE redriven_at IS NULL LIMIT 1")
    product = await tx.fetchval("SELECT id FROM products WHERE sku = 'SKU-4711'")
    endpoint = await tx.fetchval("SELECT id FROM webhook_endpoints")
    for query in (
        "", deep, f"q={order}", f"q={saga}", f"q={row['message_id']}", "q=customer-77@example.com", f"q={uuid4()}",
        "product=SKU-4711", "product=no+such", "error=nothing+like+it", f"error=nothing+like+it&{deep}", "state=stuck",
        "state=open", "state=PROCESSING", "state=CANCELLED", f"state=CANCELLED&{deep}", "step=verify_stock", "age=9000",
        "q=customer-77@example.com&state=CANCELLED&error=x", "state=stuck&step=process_payment&error=x&product=SKU-1",
        "product=SKU-4711&state=CANCELLED&error=x&step=verify_stock&age=60",
    ):  # fmt: skip
        yield f"/admin/orders?{query}"
    for path in (
        "", "/stuck", f"/stuck?before={saga}", f"/orders/{order}", f"/sagas/{saga}/retry", "/dead-letters",
        f"/dead-letters/{fingerprint}", "/queues", "/queues/payment-processing", "/queues/inventory-management",
        "/audit", f"/audit?subject={saga}", f"/audit?{deep}", "/mailbox", f"/mailbox/{row['message_id']}", "/stock",
        "/stock?sku=SKU-3&location=MAIN", "/stock?q=SKU-4711", "/stock?q=no+such+thing", "/webhooks",
        f"/webhooks/{endpoint}", f"/webhooks/{endpoint}?{deep}", "/users", f"/users?{deep}", "/users?q=customer-4711@",
        "/users?q=nobody+at+all", "/users?role=viewer", "/users?role=admin&q=admin", "/orders?q=customer-4711",
        "/payments", f"/payments?{deep}", "/payments?state=FAILED", f"/payments?q={order}", "/payments?q=pay_4711",
        "/payments?q=no-such-thing",
        "/payments/reconciliation", "/bulk", f"/dead-letters/letter/{letter}", f"/queues/payment-processing/{saga}",
        f"/products/{product}", f"/products/{product}?{deep}", "/mailbox/templates",
    ):  # fmt: skip
        yield f"/admin{path}"


async def test_no_page_reads_a_large_table_or_index_from_end_to_end(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As small a part of all orders as it is of a million.
    for module in (orders, payments, products):
        monkeypatch.setattr(module, "_SPAN", 150)
    tx = await connect(database_url, name="filling")
    await tx.execute("SET session_replication_role = replica")
    await tx.execute(FILL)
    await tx.execute("VACUUM ANALYZE")
    paths = [path async for path in _pages(tx)]
    await tx.execute("SELECT pg_stat_force_next_flush()")
    before = {row["name"]: row for row in await tx.fetch(READ)}
    async with running_api(database_url, redis_url) as api, browser(api, "admin") as one:
        for path in paths:
            seen = await one.get(path)
            assert seen.status in {200, 303}, (path, seen.text)

    async def all_gone() -> bool:
        """Whoever has ended has told what it read."""
        return not await tx.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'comanda-api%'")

    await until(all_gone)
    await tx.execute("SELECT pg_stat_clear_snapshot()")
    read = {row["name"]: row for row in await tx.fetch(READ)}
    await tx.close()
    whole = {name: row["whole"] - before[name]["whole"] for name, row in read.items() if not name.startswith(SMALL)}
    assert {name: count for name, count in whole.items() if count >= 2000} == {}
    by_index = {name: row["by_index"] - before[name]["by_index"] for name, row in read.items()}
    assert {name: count for name, count in by_index.items() if count >= MANY} == {}
    assert by_index["orders_pkey"] > 0
    assert by_index["accounts_parts"] > 0


async def test_a_page_that_takes_too_long_ends_and_says_so(database_url: str, redis_url: str) -> None:
    async with running_api(database_url, redis_url, request_seconds=2.5) as api, browser(api, "viewer") as one:
        async with api.database.transaction() as tx:
            await tx.execute("ALTER TABLE audit RENAME TO acts")
            await tx.execute("CREATE VIEW audit AS SELECT acts.* FROM (SELECT pg_sleep(60)) AS slowly, acts")
            await tx.execute(
                "INSERT INTO acts (id, actor, act, subject, reason) VALUES (uuid_v7(), 'ana', 'x', 'x', 'x')"
            )
        seen = await one.get("/admin/audit")
        assert seen.status == 503
        assert "This takes too long" in seen.text
        assert "<html" in seen.text

        async def is_over() -> bool:
            async with api.database.connection() as tx:
                return not await tx.fetchval(
                    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND wait_event = 'PgSleep'"
                )

        await until(is_over)
        assert (await one.get("/admin/stuck")).status == 200


def test_a_piece_is_rendered_once_for_all_who_see_the_same() -> None:
    pieces, seen = Pieces(Pages()), Seen(clock.now())
    first = pieces.of(seen, "en", "overview")
    assert pieces.of(seen, "en", "overview") is first
    assert pieces.of(seen, "es", "overview") != first
    assert pieces.of(seen, "en", "queues") != first
    assert pieces.of(Seen(clock.now(), stuck=3), "en", "overview") != first


async def _placed(tx: Tx, at: datetime) -> None:
    order_id = UUID(int=(int(at.timestamp() * 1000) << 80) | (uuid4().int & ((1 << 80) - 1)))
    await tx.execute(
        "INSERT INTO orders (id, customer_id, saga_id, total_amount, currency, correlation_id, state, created_at,"
        " updated_at, ended_at)"
        " VALUES ($1, $1, $1, 1, 'USD', 'x', 'CONFIRMED', $2, $2, $2::timestamptz + interval '2 s')",
        order_id,
        at,
    )


async def test_the_minute_that_runs_is_counted_on_and_one_that_is_over_once_more(database: Database) -> None:
    hour, now = minutes.Hour(), datetime(2026, 3, 1, 12, 0, 50, tzinfo=UTC)
    this = now.replace(second=0)

    async def look(at: datetime) -> int:
        async with database.connection() as tx:
            await hour.read_running(tx, at)
        return {one.at: one.placed for one in hour.minutes(at)}[this]

    async with database.transaction() as tx:
        for second in (1, 20, 39, 41, 49):
            await _placed(tx, this + timedelta(seconds=second))
    assert await look(now) == 5
    async with database.transaction() as tx:
        await _placed(tx, this + timedelta(seconds=48))  # committed later than others that came after it
    assert await look(now) == 6
    assert await look(now + timedelta(seconds=9)) == 6
    async with database.transaction() as tx:
        await _placed(tx, this + timedelta(seconds=2))  # by a clock that is far behind
    assert await look(now + timedelta(seconds=20)) == 6, "what was counted is not counted again"
    async with database.connection() as tx:
        await hour.read_all(tx, now + timedelta(minutes=2))
    found = {one.at: one for one in hour.minutes(now + timedelta(minutes=2))}
    assert (found[this].placed, found[this].seconds) == (7, [2.0, 2.0, 2.0])
    assert found[this + timedelta(minutes=1)].placed == 0


async def test_sums_that_no_bigint_holds_are_shown(api: Client) -> None:
    async with api.database.transaction() as tx:
        await tx.execute("INSERT INTO products (id, sku, name, price) SELECT uuid_v7(), 'S-' || n, 'x', 1"
                         " FROM generate_series(1, 3) AS n")  # fmt: skip
        await tx.execute("INSERT INTO stock (product_id, on_hand, held) SELECT id, 2 ^ 62, 2 ^ 62 FROM products")
        for _ in range(3):
            await _placed(tx, clock.now())
        await tx.execute("UPDATE orders SET total_amount = 2 ^ 62")
    async with browser(api, "viewer") as one:
        seen = await one.get("/admin")
    assert seen.status == 200
    assert seen.text.count("13,835,058,055,282,163,712") >= 2


async def test_looks_that_take_long_leave_time_to_others(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    async with browser(api, "viewer") as one:
        monkeypatch.setattr(pulse, "EVERY", 0.01)
        looks: list[float] = []
        seen = pulse.Pulse._seen

        async def slow(self: pulse.Pulse) -> Seen:
            looks.append(asyncio.get_running_loop().time())
            async with self._parts.database.connection() as tx:
                await tx.execute("SELECT pg_sleep(0.2)")
            return await seen(self)

        monkeypatch.setattr(pulse.Pulse, "_seen", slow)
        async with one.session.get(f"{api.url}/admin/live?view=queues") as stream:
            assert stream.status == 200

            async def twice() -> bool:
                return len(looks) > 1

            await until(twice)
    assert looks[1] - looks[0] >= 5 * 0.2


async def _all_orders(one: Browser, path: str) -> list[str]:
    """What the pages show, from one to the next."""
    seen: list[str] = []
    while path:
        text = (await one.get(path)).text
        seen += re.findall(r'href="/admin/orders/([0-9a-f-]{36})"', text)
        more = re.search(r'rel="next" href="([^"]+)"', text)
        path = unescape(more[1]) if more else ""
    return seen


async def test_a_customers_orders_are_looked_through_to_the_first(api: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders, "_SPAN", 10)
    customer, now = await api.person(), clock.now()
    async with api.database.transaction() as tx:
        for number in range(35):
            await _placed(tx, now - timedelta(hours=number))
        await tx.execute("UPDATE orders SET customer_id = $1", customer.id)
        await tx.execute(
            "UPDATE orders SET state = 'SHIPPED' WHERE id IN (SELECT id FROM orders ORDER BY id OFFSET 2 LIMIT 1)"
        )
        shipped = await tx.fetchval("SELECT id FROM orders WHERE state = 'SHIPPED'")
    async with browser(api, "viewer") as one:
        first = (await one.get(f"/admin/orders?q={customer.email}&state=SHIPPED")).text
        assert "Look further back (10 orders looked through)" in first
        assert await _all_orders(one, f"/admin/orders?q={customer.email}&state=SHIPPED") == [str(shipped)]
        assert len(await _all_orders(one, f"/admin/orders?q={customer.email}")) == 35


async def test_accounts_and_stock_are_paged_each_once(api: Client) -> None:
    admin = await api.person("admin")
    async with api.database.transaction() as tx:
        await tx.execute(
            "INSERT INTO accounts (id, email, password_hash, first_name, last_name, role) SELECT uuid_v7(),"
            " 'a%_' || n || '@example.com', 'x', 'Ana', 'Ruiz', 'viewer' FROM generate_series(1, 120) AS n"
        )
        await tx.execute("INSERT INTO products (id, sku, name, price) SELECT uuid_v7(), 'S|' || n, 'x', 1"
                         " FROM generate_series(1, 70) AS n")  # fmt: skip
        await tx.execute("INSERT INTO stock (product_id, location, on_hand) SELECT id, place, 1 FROM products,"
                         " unnest(ARRAY['A', 'B']) AS place")  # fmt: skip
    async with browser(api, "admin") as one:
        for path, row, count in (
            ("/admin/users", r'href="/admin/orders\?q=(a%25[^"]+)"', 120),
            ("/admin/users?role=viewer&q=a%25_", r'href="/admin/orders\?q=(a[^"]+)"', 120),
            ("/admin/users?q=%25", r'href="/admin/orders\?q=(a[^"]+)"', 120),
            ("/admin/stock", r'href="/admin/orders\?product=([^"]+)"', 140),
            ("/admin/stock?q=s%7C7", r'href="/admin/orders\?product=([^"]+)"', 4),
        ):
            seen: list[str] = []
            next_one: str | None = path
            while next_one:
                text = (await one.get(next_one)).text
                seen += re.findall(row, text)
                more = re.search(r'rel="next" href="([^"]+)"', text)
                next_one = unescape(more[1]) if more else None
            assert len(seen) == count, path
        assert admin.email in (await one.get("/admin/users?role=admin")).text


async def test_a_long_story_is_cut_but_for_its_first_failure(api: Client) -> None:
    async with api.database.transaction() as tx:
        await _placed(tx, clock.now())
        order = await tx.fetchval("SELECT id FROM orders")
        await tx.execute(
            "INSERT INTO order_moves (order_id, to_state, actor, at) SELECT $1, 'X' || n, 'order',"
            " now() + interval '1 s' * n FROM generate_series(1, 2000) AS n",
            order,
        )
        await tx.execute(
            "INSERT INTO sagas (id, kind, version, subject, step, queue, reached, since, correlation_id, created_at,"
            " updated_at) VALUES ($1, 'order', 1, $1, 'a', 'order-processing', 'x', now(), 'x', now(), now())",
            order,
        )
        await tx.execute(
            "INSERT INTO saga_attempts (saga_id, at, step, direction, attempt, outcome, detail, worker, duration_ms)"
            " VALUES ($1, now() + interval '1000.5 s', 'a', 'forward', 1, 'failed', 'it broke in the middle', 'w', 1)",
            order,
        )
    async with browser(api, "viewer") as one:
        text = (await one.get(f"/admin/orders/{order}")).text
    assert len(re.findall(r'<li id="line-', text)) == 401
    assert "it broke in the middle" in text
    (anchor,) = re.findall(r'id="first-failure" href="#([^"]+)"', text)
    assert f'id="{anchor}"' in text
    left_out = [int(count.replace(",", "")) for count in re.findall(r"([\d,]+) more, which", text)]
    assert sum(left_out) == 2002 - 401
