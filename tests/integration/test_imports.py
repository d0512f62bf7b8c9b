"""Products and stock from files: by HTTP and by command, once, however often somebody dies at it."""

import asyncio
import csv
import io
import json
import os
import sys
import tracemalloc
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest

from api_client import Client, Person, running_api
from comanda.catalog import products
from comanda.catalog.products import Draft, Product
from comanda.db import Database
from comanda.db.database import connect
from comanda.failpoints import DIED
from comanda.imports import batches, imports
from comanda.proof import invariants
from comanda.proof.ledger import NoLedger
from overtaken import Overtaken
from shop import shop, until
from up import Ran, comanda

CSV, NDJSON = "text/csv", "application/x-ndjson"
COUNTS = ("created", "changed", "unchanged", "rejected")


async def _post(api: Client, admin: Person, kind: str, content: str | bytes, type_: str = CSV, **headers: str) -> Any:
    data = io.BytesIO(content.encode() if isinstance(content, str) else content)
    sent = {"Content-Type": type_} | {name.replace("_", "-"): value for name, value in headers.items()}
    return await api.ask("POST", f"/api/v1/imports?kind={kind}", token=admin.token, data=data, headers=sent)


async def _worked_off(database: Database) -> int:
    """How many batches that took."""
    count = 0
    while await batches.advance(database) is not None:
        count += 1
    return count


async def _imported(
    api: Client, admin: Person, kind: str, content: str | bytes, type_: str = CSV, **headers: str
) -> tuple[Any, list[Any]]:
    """(the import, its rejections) after its end."""
    reply = await _post(api, admin, kind, content, type_, **headers)
    assert reply.status == 202, reply
    await _worked_off(api.database)
    path = reply.headers["Location"]
    ended = (await api.get(path, token=admin.token)).body
    assert ended["state"] == "COMPLETED"
    assert (ended["linesRead"], ended["bytesRead"]) == (ended["lines"], ended["bytes"])
    return ended, (await api.get(f"{path}/rejections", token=admin.token)).body["items"]


def _counts(found: Any) -> tuple[int, ...]:
    return tuple(found[name] for name in COUNTS)


async def _ask(database: Database, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
    async with database.connection() as tx:
        return [tuple(row) for row in await tx.fetch(statement, *arguments)]


async def _doctor_is_content(url: str) -> None:
    connection = await connect(url, name="tests")
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            findings = await invariants.check(connection, NoLedger("not asked"))
    finally:
        connection.terminate()
    assert [one for one in findings if one.status == "failed"] == []


async def test_products_are_made_and_changed_by_their_skus(api: Client, database_url: str) -> None:
    admin = await api.person("admin")
    old = await api.product(admin, sku="OLD", name="Old", price=100, brand="Loza", tags=["a"])
    lines = [
        "sku,name,price,tags,attributes,isActive,costPrice",
        'NEW,"New, and good",250,x|y,"{""ml"": 180}",TRUE,',
        "OLD,,120,,,,",
        "NEW,,260,,,,",
        "OLD,,120,,,,",
        "FORMULA,=cmd(),1,,,false,7",
        "NAMELESS,,1,,,,",
        "DEAR,Dear,12.50,,,,",
    ]
    ended, rejected = await _imported(api, admin, "products", "\r\n".join(lines))
    assert _counts(ended) == (2, 2, 1, 2)
    assert [(one["line"], one["field"], one["code"], one["text"]) for one in rejected] == [
        (7, "name", "VALIDATION_FAILED", "NAMELESS,,1,,,,"),
        (8, "price", "VALIDATION_FAILED", "DEAR,Dear,12.50,,,,"),
    ]
    changed = (await api.get(f"/api/v1/products/{old['id']}")).body
    assert (changed["name"], changed["price"], changed["brand"], changed["tags"]) == ("Old", 120, "Loza", ["a"])
    async with api.database.connection() as tx:
        new = await tx.fetchrow("SELECT * FROM products WHERE sku = 'NEW'")
        formula = await tx.fetchrow("SELECT * FROM products WHERE sku = 'FORMULA'")
    assert new is not None
    assert formula is not None
    assert (new["name"], new["price"], new["tags"], json.loads(new["attributes"]), new["is_active"]) == (
        "New, and good", 260, ["x", "y"], {"ml": 180}, True,
    )  # fmt: skip
    assert (formula["name"], formula["is_active"], formula["cost_price"]) == ("=cmd()", False, 7)
    assert await _ask(api.database, "SELECT count(*) FROM import_pieces") == [(0,)]
    await _doctor_is_content(database_url)


async def test_a_line_with_a_category_that_is_not_there_is_rejected_alone(api: Client) -> None:
    admin = await api.person("admin")
    made = await api.post("/api/v1/categories", {"name": "Cups", "slug": "cups"}, token=admin.token)
    lines = ["sku,name,price,categoryId", f"A,a,1,{made.body['id']}", f"B,b,2,{UUID(int=7)}", f"A,a,9,{UUID(int=7)}"]
    ended, rejected = await _imported(api, admin, "products", "\n".join(lines))
    assert _counts(ended) == (1, 0, 0, 2)
    assert [(one["line"], one["field"], one["code"]) for one in rejected] == [
        (3, "categoryId", "CATEGORY_UNKNOWN"),
        (4, "categoryId", "CATEGORY_UNKNOWN"),
    ]
    assert await _ask(api.database, "SELECT sku, price FROM products") == [("A", 1)]


async def test_a_file_that_changes_nothing_is_no_change_of_the_catalogue(api: Client) -> None:
    admin = await api.person("admin")
    content = "".join(
        json.dumps({"sku": f"S{n}", "name": "x", "price": n, "attributes": {"b": 1, "a": True}}) + "\n"
        for n in range(9)
    )
    ended, _ = await _imported(api, admin, "products", content, NDJSON)
    assert _counts(ended) == (9, 0, 0, 0)
    before = await _ask(api.database, "SELECT version, max(updated_at) FROM catalogue, products GROUP BY version")
    ended, _ = await _imported(api, admin, "products", content, NDJSON, Idempotency_Key="again")
    assert _counts(ended) == (0, 0, 9, 0)
    assert (
        await _ask(api.database, "SELECT version, max(updated_at) FROM catalogue, products GROUP BY version") == before
    )
    other = content.replace("true", "1")
    ended, _ = await _imported(api, admin, "products", other, NDJSON)
    assert _counts(ended) == (0, 9, 0, 0)
    assert before != await _ask(
        api.database, "SELECT version, max(updated_at) FROM catalogue, products GROUP BY version"
    )


async def test_stock_is_brought_there_with_its_movements(api: Client, database_url: str) -> None:
    admin = await api.person("admin")
    ids = {sku: UUID((await api.product(admin, sku=sku))["id"]) for sku in ("A", "B", "C")}
    body = {"productId": str(ids["B"]), "initialStock": 10}
    assert (await api.post("/api/v1/inventory", body, token=admin.token)).status == 201
    held = {"productId": str(ids["B"]), "quantity": 4}
    assert (await api.post("/api/v1/inventory/reserve", held, token=admin.token)).status == 201
    lines = [
        "sku,location,quantity,mode",
        "A,,5,",  # opens
        "A,,3,add",
        "A,NORTH,-1,add",  # nothing can go from where nothing is
        "A,NORTH,0,set",  # opens, with nothing in it
        "B,,3,set",  # 4 are held
        "B,,4,set",
        "B,,4,set",  # as it is
        "B,,-1,add",
        "C,,1000000000000,set",
        "C,,1,add",  # more than can be counted
        "D,,1,set",
        "A,,-8,add",
    ]
    ended, rejected = await _imported(api, admin, "stock", "\n".join(lines))
    assert _counts(ended) == (3, 3, 1, 5)
    assert [(one["line"], one["field"], one["code"]) for one in rejected] == [
        (4, "location", "STOCK_NOT_FOUND"),
        (6, "quantity", "STOCK_HELD"),
        (9, "quantity", "STOCK_HELD"),
        (11, "quantity", "STOCK_TOO_LARGE"),
        (12, "sku", "PRODUCT_UNKNOWN"),
    ]
    assert await _ask(
        api.database,
        "SELECT sku, location, on_hand, held FROM stock JOIN products ON products.id = product_id ORDER BY 1, 2",
    ) == [("A", "MAIN", 0, 0), ("A", "NORTH", 0, 0), ("B", "MAIN", 4, 4), ("C", "MAIN", 10**12, 0)]
    moves = await _ask(
        api.database,
        "SELECT sku, kind, on_hand_delta FROM movements JOIN products ON products.id = product_id"
        " WHERE reference = $1 AND actor = $2 ORDER BY movements.id",
        UUID(ended["id"]), str(admin.id),
    )  # fmt: skip
    assert moves == [
        ("A", "RESTOCK", 5), ("A", "RESTOCK", 3), ("B", "ADJUSTMENT", -6), ("C", "RESTOCK", 10**12),
        ("A", "ADJUSTMENT", -8),
    ]  # fmt: skip
    events = await _ask(api.database, "SELECT count(*) FROM outbox WHERE type = 'StockUpdated'")
    assert events == [(1 + 6,)], "one for each change, and that of the beginning"
    await _doctor_is_content(database_url)


async def test_the_same_file_is_the_same_import(api: Client) -> None:
    admin, other = await api.person("admin"), await api.person("admin")
    await api.product(admin, sku="A")
    content = "sku,quantity,mode\nA,5,add\n"
    posts = await asyncio.gather(*(_post(api, who, "stock", content) for who in [admin, other] * 10))
    assert {one.status for one in posts} == {202}
    assert len({one.body["id"] for one in posts}) == 1
    assert sum("Idempotent-Replayed" not in one.headers for one in posts) == 1
    await asyncio.gather(*(_worked_off(api.database) for _ in range(4)))
    assert await _ask(api.database, "SELECT on_hand FROM stock") == [(5,)]
    assert (await _post(api, admin, "stock", content)).body["state"] == "COMPLETED"
    assert await _worked_off(api.database) == 0
    # Under a key it is another one: a delivery may look like the last.
    keyed = [await _post(api, admin, "stock", content, Idempotency_Key="monday") for _ in range(2)]
    assert len({one.body["id"] for one in (*keyed, posts[0])}) == 2
    await _worked_off(api.database)
    assert await _ask(api.database, "SELECT on_hand FROM stock") == [(10,)]
    reused = await _post(api, admin, "stock", content.replace("5", "6"), Idempotency_Key="monday")
    assert (reused.status, reused.body["code"]) == (422, "IDEMPOTENCY_KEY_REUSED")
    wrong = await _post(api, admin, "stock", content, Idempotency_Key="x" * 256)
    assert (wrong.status, wrong.body["code"]) == (422, "VALIDATION_FAILED")


async def test_two_workers_at_once_do_each_line_once(api: Client, database_url: str) -> None:
    admin = await api.person("admin")
    await api.product(admin, sku="A")
    content = "sku,quantity,mode\n" + "A,1,add\n" * 2600
    made = (await _post(api, admin, "stock", content)).body["id"]
    own = [batches.advance(api.database, UUID(made)) for _ in range(3)]
    await asyncio.gather(*(_worked_off(api.database) for _ in range(3)), *own)
    await _worked_off(api.database)
    assert await _ask(api.database, "SELECT on_hand FROM stock") == [(2600,)]
    assert await _ask(api.database, "SELECT created, changed, state FROM imports") == [(1, 2599, "COMPLETED")]
    await _doctor_is_content(database_url)


async def test_files_are_worked_off_in_the_order_in_which_they_came(api: Client) -> None:
    admin = await api.person("admin")
    first = "sku,name,price\n" + "".join(f"S{n},x,1\n" for n in range(1200))
    second = "sku,name,price\n" + "".join(f"S{n},y,2\n" for n in range(1200))
    ids = [UUID((await _post(api, admin, "products", content)).body["id"]) for content in (first, second)]
    async with api.database.transaction() as tx:  # somebody is at the first
        await tx.execute("SELECT 1 FROM imports WHERE id = $1 FOR UPDATE", ids[0])
        assert await batches.advance(api.database) is None
    await asyncio.gather(*(_worked_off(api.database) for _ in range(3)))
    await _worked_off(api.database)
    assert await _ask(api.database, "SELECT DISTINCT name, price FROM products") == [("y", 2)]


async def test_a_line_that_raises_is_rejected_and_holds_no_other(api: Client) -> None:
    admin = await api.person("admin")
    async with api.database.transaction() as tx:
        await tx.execute("ALTER TABLE products ADD CONSTRAINT poison CHECK (sku <> 'S7')")
    content = "sku,name,price\n" + "".join(f"S{n},x,1\n" for n in range(20))
    ended, rejected = await _imported(api, admin, "products", content)
    assert _counts(ended) == (19, 0, 0, 1)
    assert [(one["line"], one["text"], one["code"]) for one in rejected] == [(9, "S7,x,1", "INTERNAL")]


async def test_an_import_that_has_lost_its_file_holds_no_other(api: Client) -> None:
    admin = await api.person("admin")
    for number in range(2):
        assert (await _post(api, admin, "products", f"sku,name,price\nS{number},x,1\n")).status == 202
    async with api.database.transaction() as tx:
        await tx.execute("DELETE FROM import_pieces WHERE import_id = (SELECT min(id::text)::uuid FROM imports)")
    await _worked_off(api.database)
    assert await _ask(api.database, "SELECT state FROM imports ORDER BY id") == [("CANCELLED",), ("COMPLETED",)]


async def test_an_import_is_cancelled_between_two_batches(api: Client) -> None:
    admin = await api.person("admin")
    content = "sku,name,price\n" + "".join(f"S{n},x,1\n" for n in range(1200))
    path = (await _post(api, admin, "products", content)).headers["Location"]
    assert await batches.advance(api.database) is not None
    running = (await api.get(path, token=admin.token)).body
    assert (running["state"], running["created"], running["linesRead"], running["lines"]) == ("RUNNING", 500, 501, 1201)
    reply = await api.post(f"{path}/cancel", None, token=admin.token)
    assert (reply.status, reply.body["state"], reply.body["created"]) == (200, "CANCELLED", 500)
    assert await _worked_off(api.database) == 0
    assert await _ask(api.database, "SELECT count(*) FROM products") == [(500,)]
    assert await _ask(api.database, "SELECT count(*) FROM import_pieces") == [(0,)]
    reply = await api.post(f"{path}/cancel", None, token=admin.token)
    assert (reply.status, reply.body["code"]) == (409, "IMPORT_ENDED")


async def test_rejections_come_in_pages_and_as_a_file(api: Client) -> None:
    admin = await api.person("admin")
    lines = [b"sku,name,price", *(b"=S%d,x,dear" % number for number in range(2500)), b"B,caf\xe9,1", b"GOOD,x,1"]
    ended, first = await _imported(api, admin, "products", b"\n".join(lines))
    assert _counts(ended) == (1, 0, 0, 2501)
    path, seen = f"/api/v1/imports/{ended['id']}/rejections", [one["line"] for one in first]
    after: int | None = 0
    while after is not None:
        reply = await api.get(f"{path}?after={after}&limit=70", token=admin.token)
        seen += [one["line"] for one in reply.body["items"]]
        after = reply.body["nextAfter"]
        assert reply.headers.get("Link") == (after and f'<{path}?limit=70&after={after}>; rel="next"')
    assert seen[100:] == list(range(2, 2503))
    reply = await api.get(path, token=admin.token, headers={"Accept": "text/csv"})
    assert reply.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(reply.body)))
    assert [int(row["line"]) for row in rows] == list(range(2, 2503))
    assert rows[0]["text"] == "'=S0,x,dear"
    assert (rows[-1]["code"], rows[-1]["text"]) == ("INVALID_ENCODING", "B,caf\ufffd,1")
    listed = (await api.get("/api/v1/imports", token=admin.token)).body
    assert [one["id"] for one in listed["items"]] == [ended["id"]]


async def test_a_file_that_is_none_is_refused_and_nothing_is_kept(api: Client) -> None:
    admin = await api.person("admin")
    reply = await _post(api, admin, "products", "sku,colour\nA,red\n")
    assert (reply.status, reply.body["code"], reply.body["errors"][0]["field"]) == (422, "VALIDATION_FAILED", "colour")
    assert "attributes" in reply.body["errors"][0]["message"]
    assert (await _post(api, admin, "products", "")).status == 422
    assert (await _post(api, admin, "people", "sku,name\nA,x\n")).status == 422
    for type_ in ("application/json", "text/plain", ""):
        reply = await _post(api, admin, "products", "sku,name\nA,x\n", type_)
        assert (type_, reply.status, reply.body["code"]) == (type_, 415, "UNSUPPORTED_MEDIA_TYPE")
    assert await _ask(api.database, "SELECT count(*) FROM imports") == [(0,)]
    for who, status in ((await api.person(), 403), (await api.person("operator"), 403)):
        assert (await _post(api, who, "products", "sku,name\nA,x\n")).status == status
    missing = "/api/v1/imports/01900000-0000-7000-8000-000000000000"
    for method, path in (("GET", missing), ("GET", f"{missing}/rejections"), ("POST", f"{missing}/cancel")):
        reply = await api.ask(method, path, token=admin.token)
        assert (reply.status, reply.body["code"]) == (404, "IMPORT_NOT_FOUND")


async def test_a_file_may_be_larger_than_a_body_and_has_a_limit_of_its_own(database_url: str, redis_url: str) -> None:
    async with running_api(database_url, redis_url, import_max_bytes=3 * 2**20) as api:
        admin = await api.person("admin")
        line = json.dumps({"sku": "A", "name": "x", "price": 1, "description": "y" * 9000}) + "\n"
        content = line * (2 * 2**20 // len(line))
        assert (await _post(api, admin, "products", content, NDJSON)).status == 202
        await _worked_off(api.database)
        assert await _ask(api.database, "SELECT created, unchanged FROM imports") == [(1, content.count("\n") - 1)]
        reply = await _post(api, admin, "products", content * 2, NDJSON)
        assert (reply.status, reply.body["code"]) == (413, "BODY_TOO_LARGE")

        async def endless() -> Any:
            while True:
                yield line.encode()

        headers = {"Content-Type": NDJSON, "Authorization": f"Bearer {admin.token}"}
        async with aiohttp.ClientSession() as session:
            url = f"{api.url}/api/v1/imports?kind=products"
            async with session.post(url, data=endless(), headers=headers) as answer:
                assert answer.status == 413


async def test_files_that_come_at_once_are_not_held_in_memory(api: Client) -> None:
    """Five of twelve MiB each, sent in pieces; all that the process and its clients here have of them is a little."""
    admin = await api.person("admin")
    line = json.dumps({"sku": "A", "name": "x", "price": 1, "description": "y" * 60_000}).encode() + b"\n"

    async def post(number: int) -> int:
        async def pieces() -> AsyncIterator[bytes]:
            yield b'{"sku": "B%d", "name": "x", "price": 1}\n' % number
            for _ in range(12 * 2**20 // len(line)):
                yield line

        sent = {"Content-Type": NDJSON}
        reply = await api.ask("POST", "/api/v1/imports?kind=products", token=admin.token, data=pieces(), headers=sent)
        return reply.status

    assert await post(0) == 202
    tracemalloc.start()
    try:
        assert set(await asyncio.gather(*(post(number) for number in range(1, 6)))) == {202}
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    stored = "SELECT count(*), sum(bytes)::bigint > 72 * 1024 * 1024 * 0.95 FROM imports"
    assert await _ask(api.database, stored) == [(6, True)]
    whole = "SELECT sum(bytes) = (SELECT sum(length(content)) FROM import_pieces) FROM imports"
    assert await _ask(api.database, whole) == [(True,)]
    assert most < 20 * 2**20, f"{most / 2**20:.0f} MiB"


async def test_what_has_ended_long_ago_is_forgotten_with_its_report(database_url: str, redis_url: str) -> None:
    async with running_api(database_url, redis_url) as api:
        admin = await api.person("admin")
        old = "sku,name,price\n" + "".join(f"S{n},x,dear\n" for n in range(5))
        kept = "sku,name,price\nT,x,1\nU,x,dear\n"
        first, _ = await _imported(api, admin, "products", old)
        second, _ = await _imported(api, admin, "products", kept)
        for found, days in ((first, 91), (second, 89)):
            statement = f"UPDATE imports SET ended_at = now() - interval '{days} days' WHERE id = $1 RETURNING 1"
            await _ask(api.database, statement, UUID(found["id"]))
        async with api.database.connection() as tx:
            assert [await imports.forget(tx, timedelta(days=90), 2) for _ in range(2)] == [2, 2]
        left = "SELECT (SELECT count(*) FROM imports), (SELECT count(*) FROM import_rejections)"
        assert await _ask(api.database, left) == [(2, 2)], "some lines at a time"
        async with shop(database_url, redis_url):  # its relay sweeps when it starts
            await until(lambda: _is_left(api.database, left, (1, 1)))
        assert (await api.get(f"/api/v1/imports/{first['id']}", token=admin.token)).status == 404
        assert (await api.get(f"/api/v1/imports/{second['id']}", token=admin.token)).status == 200
        again = await _post(api, admin, "products", old)
        assert "Idempotent-Replayed" not in again.headers, "a file that is sent again after that is a new import"


async def _is_left(database: Database, statement: str, wanted: tuple[int, int]) -> bool:
    return await _ask(database, statement) == [wanted]


async def test_ten_thousand_lines_are_worked_off_by_the_relay(database_url: str, redis_url: str) -> None:
    async with shop(database_url, redis_url), running_api(database_url, redis_url) as api:
        admin = await api.person("admin")
        content = "sku,name,price\n" + "".join(f"S{n},Product {n},{n}\n" for n in range(10_000))
        made = await _post(api, admin, "products", content)
        stock = await _post(api, admin, "stock", "sku,quantity\n" + "".join(f"S{n},{n}\n" for n in range(10_000)))

        async def has_ended() -> bool:
            return bool((await api.get(stock.headers["Location"], token=admin.token)).body["endedAt"])

        await until(has_ended, within=60)
        assert _counts((await api.get(made.headers["Location"], token=admin.token)).body) == (10_000, 0, 0, 0)
        assert _counts((await api.get(stock.headers["Location"], token=admin.token)).body) == (10_000, 0, 0, 0)
        assert await _ask(api.database, "SELECT sum(on_hand) FROM stock") == [(sum(range(10_000)),)]
    await _doctor_is_content(database_url)


async def _command(database_url: str, redis_url: str, *arguments: str, **settings: str) -> Ran:
    return await comanda("import", *arguments, DATABASE_URL=database_url, REDIS_URL=redis_url, **settings)


def _result(ran: Ran) -> Any:
    return json.loads(ran.out.splitlines()[-1])


async def test_a_command_that_dies_goes_on_where_it_was(
    api: Client, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """Killed right before and right after the commit of a batch."""
    skus = [f"S{number}" for number in range(1300)]
    await _imported(
        api, await api.person("admin"), "products", "sku,name,price\n" + "".join(f"{one},x,1\n" for one in skus)
    )
    file, left, points = tmp_path / "stock.csv", tmp_path / "left.csv", tmp_path / "points"
    file.write_text("sku,quantity,mode\n" + "".join(f"{sku},2,add\n" for sku in skus) + "NONE,1,add\n")
    points.mkdir()
    for moment, read in (("before", 1), ("after", 501)):
        (points / f"imports.batch.{moment}").touch()
        ran = await _command(database_url, redis_url, "stock", str(file), FAILPOINTS=str(points))
        assert ran.code == DIED, ran
        assert await _ask(api.database, "SELECT lines_read FROM imports WHERE ended_at IS NULL") == [(read,)]
    ran = await _command(database_url, redis_url, "stock", str(file), "--json", "--rejections", str(left))
    assert (ran.code, _result(ran)["created"], _result(ran)["known"]) == (1, 1300, True), ran
    rows = list(csv.DictReader(io.StringIO(left.read_text())))
    assert [(row["line"], row["code"]) for row in rows] == [("1302", "PRODUCT_UNKNOWN")]
    assert await _ask(api.database, "SELECT count(*), sum(on_hand) FROM stock") == [(1300, 2600)]
    assert (await _command(database_url, redis_url, "stock", str(file))).code == 1
    assert await _ask(api.database, "SELECT count(*), sum(on_hand) FROM stock") == [(1300, 2600)]
    assert (await _command(database_url, redis_url, "stock", str(file), "--again")).code == 1
    assert await _ask(api.database, "SELECT count(*), sum(on_hand) FROM stock") == [(1300, 5200)]
    await _doctor_is_content(database_url)


async def test_a_command_reads_from_a_pipe_and_says_what_is_wrong(
    database: Database, database_url: str, redis_url: str
) -> None:
    environment = {**os.environ, "COMANDA_DATABASE_URL": database_url, "COMANDA_REDIS_URL": redis_url}

    async def piped(content: str, *options: str) -> tuple[int | None, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "comanda", "import", "products", "-", *options, env=environment,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate(content.encode())
        return process.returncode, out.decode(), err.decode()

    content = '{"sku": "A", "name": "x", "price": 1}\n{"sku": "B", "price": 1}\n'
    code, out, _ = await piped(content, "--format", "ndjson", "--dry-run", "--json")
    rejected, result = map(json.loads, out.splitlines())
    assert (code, rejected["line"], rejected["field"], _counts(result)) == (1, 2, "name", (1, 0, 0, 1))
    assert await _ask(database, "SELECT count(*) FROM products") == [(0,)]
    code, out, _ = await piped(content, "--format", "ndjson")
    assert code == 1
    assert "A product that is new needs name" in out
    assert await _ask(database, "SELECT sku FROM products") == [("A",)]
    code, _, err = await piped("sku,colour\nA,red\n", "--format", "csv")
    assert code == 1
    assert "colour: There is no such column" in err


@pytest.mark.parametrize("racer", ["before", "meanwhile"])
async def test_a_product_that_somebody_else_makes_meanwhile_is_changed(
    api: Client, racer: str, database_url: str
) -> None:
    admin = await api.person("admin")
    assert (await _post(api, admin, "products", "sku,name,price\nA,mine,1\nB,x,2\n")).status == 202
    other = await connect(database_url, name="tests")
    try:
        begun = other.transaction()
        await begun.start()
        await other.execute("INSERT INTO products (id, sku, name, price) VALUES (uuid_v7(), 'A', 'theirs', 9)")
        if racer == "before":
            await begun.commit()
            assert await _worked_off(api.database) == 1
        else:
            working = asyncio.create_task(_worked_off(api.database))
            waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            await until(lambda: _ask(api.database, waiting))
            await begun.commit()
            assert await working == 1
    finally:
        other.terminate()
    assert await _ask(api.database, "SELECT sku, name, price FROM products ORDER BY sku") == [
        ("A", "mine", 1), ("B", "x", 2),
    ]  # fmt: skip
    assert await _ask(api.database, "SELECT created, changed FROM imports") == [(1, 1)]


async def test_an_import_and_somebody_who_makes_the_same_product_never_deadlock(api: Client, database_url: str) -> None:
    admin = await api.person("admin")
    await api.product(admin, sku="OLD")
    assert (await _post(api, admin, "products", "sku,name,price\nOLD,changed,1\nNEW,mine,2\n")).status == 202
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"

    async def make() -> Product:
        async with api.database.transaction() as tx:
            (made,) = await products.create(tx, [Draft("theirs", "NEW", 9)])
        assert isinstance(made, Product)
        return made

    async with api.database.transaction() as tx:  # who makes it stands between its row and the catalogue's version
        await tx.execute(
            "CREATE FUNCTION stand() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$"
        )
        await tx.execute(
            "CREATE TRIGGER a_stop AFTER INSERT ON products FOR EACH ROW"
            " WHEN (NEW.name = 'theirs') EXECUTE FUNCTION stand()"
        )
    stop = await connect(database_url, name="tests")
    try:
        await stop.execute("SELECT pg_advisory_lock(7)")
        theirs = asyncio.create_task(make())
        await until(lambda: _is(api.database, waiting, 1))
        working = asyncio.create_task(batches.advance(api.database))
        await until(lambda: _is(api.database, waiting, 2))
        await stop.execute("SELECT pg_advisory_unlock(7)")
        worked = await working
        assert (await theirs).sku == "NEW"
    finally:
        stop.terminate()
    assert worked is not None
    assert worked.counts == {"changed": 2}
    assert await _ask(api.database, "SELECT sku, name, price FROM products ORDER BY sku") == [
        ("NEW", "mine", 2), ("OLD", "changed", 1),
    ]  # fmt: skip


async def _is(database: Database, statement: str, wanted: int) -> bool:
    return await _ask(database, statement) == [(wanted,)]


async def test_a_line_is_given_up_only_while_it_is_the_next(api: Client) -> None:
    admin = await api.person("admin")
    async with api.database.transaction() as tx:
        await tx.execute("ALTER TABLE products ADD CONSTRAINT poison CHECK (sku <> 'S0')")
    content = "sku,name,price\n" + "".join(f"S{n},x,1\n" for n in range(600))
    assert (await _post(api, admin, "products", content)).status == 202

    async def other() -> None:
        """Whatever it was is over, and the lines are done."""
        async with api.database.transaction() as tx:
            await tx.execute("ALTER TABLE products DROP CONSTRAINT poison")
        await batches.advance(api.database)

    database: Any = Overtaken(api.database, other)
    await batches.advance(database)
    await _worked_off(api.database)
    assert await _ask(api.database, "SELECT created, rejected FROM imports") == [(600, 0)]
