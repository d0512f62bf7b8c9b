"""Orders by whatever is known of who placed them; products with stock and ledger; messages before anybody gets them."""

import re
from html import unescape
from uuid import UUID, uuid4

import pytest
from test_console_access import Browser, browser
from test_console_pages import HOSTILE, scene

from api_client import Client
from comanda.accounts import accounts
from comanda.accounts.accounts import Account, Registration, Role
from comanda.catalog import products
from comanda.console.orders import CUSTOMERS
from comanda.db import Database
from comanda.notifications.render import ACCOUNT_KINDS, KINDS
from shop import Shop, until


async def registered(database: Database, *people: tuple[str, str, str]) -> list[UUID]:
    async with database.transaction() as tx:
        made = await accounts.register(
            tx, [Registration(email, "no hash", first, last) for email, first, last in people]
        )
    return [one.id for one in made if isinstance(one, Account)]


async def orders_on(one: Browser, path: str) -> list[str]:
    return re.findall(r'href="/admin/orders/([0-9a-f-]{36})"', (await one.get(path)).text)


async def test_orders_are_found_by_parts_of_name_and_address_and_by_the_gateways_id(
    database_url: str, redis_url: str
) -> None:
    async with scene(database_url, redis_url, role="viewer") as (_, open_shop, one):
        coffee = (await open_shop.sells(coffee=50))["coffee"]
        people = await registered(
            open_shop.database,
            ("maria.lopez@correo.example", "María José", "López"),
            ("jlopez_9@otro.example", "Juan", "Lopezosa"),
            ("nobody@otro.example", "100%", "Cotton"),
        )
        orders = [str(await open_shop.order({coffee: 1}, "pm_success", customer=person)) for person in people]
        orders.append(str(await open_shop.order({coffee: 1}, "pm_success", customer=people[0])))
        await open_shop.ended(*(UUID(order_id) for order_id in orders))
        maria, juan, cotton, marias_second = orders
        for asked, found in {
            "lopez": [marias_second, juan, maria],
            "LÓPEZ": [marias_second, maria],
            "josé lópez": [marias_second, maria],
            "@otro.": [cotton, juan],
            "jlopez_9": [juan],
            "jlopez%259": [],
            "100%25": [cotton],
            "maria.lopez@correo.example": [marias_second, maria],
            "nowhere to be found": [],
        }.items():
            assert await orders_on(one, f"/admin/orders?q={asked}") == found, asked
        assert "María José López" in (await one.get("/admin/orders?q=lopez")).text
        short = await one.get("/admin/orders?q=lo")
        assert "Say three letters" in short.text
        (row,) = await open_shop.ask("SELECT key, gateway_id FROM payments WHERE order_id = $1", UUID(juan))
        for name in (row["key"], row["gateway_id"]):
            assert (await one.get(f"/admin/orders?q={name}")).headers["Location"] == f"/admin/orders/{juan}"


async def test_of_very_many_who_are_called_so_it_is_said(api: Client) -> None:
    await registered(api.database, *((f"ana{n}@example.com", "Ana", "Ruiz") for n in range(201)))
    async with browser(api, "viewer") as one:
        assert "More than 200 customers" in (await one.get("/admin/orders?q=Ana+Ruiz")).text
        assert "More than 200 customers" not in (await one.get("/admin/orders?q=ana77@")).text


async def test_who_is_called_so_is_found_by_index(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.execute("SET LOCAL enable_seqscan = off")
        plan = await tx.fetch(
            "EXPLAIN (COSTS off) " + CUSTOMERS.text.replace("$1", "'garcía'::text").replace("$2", "201")
        )
        assert "accounts_parts" in str(plan)


async def test_a_product_shows_its_stock_its_ledger_and_who_holds_it(database_url: str, redis_url: str) -> None:
    async with scene(database_url, redis_url) as (_, open_shop, one):
        coffee = (await open_shop.sells(coffee=9, tea=3))["coffee"]
        order_id = await open_shop.order({coffee: 2}, "pm_success")
        await open_shop.ended(order_id)
        open_shop.gateway.is_down = True
        holds = await open_shop.order({coffee: 3}, "pm_success")
        await _held(open_shop, 3)
        listed = (await one.get("/admin/products?q=coff")).text
        assert f"/admin/products/{coffee}" in listed
        assert "$10.00" in listed
        assert ">4</a>" in listed, "9 less 2 that were sold and 3 that are held"
        assert "tea" not in listed
        page = unescape((await one.get(f"/admin/products/{coffee}")).text)
        holders, _, ledger = page.partition("Ledger, UTC")
        assert f"/admin/orders/{holds}" in holders
        assert str(order_id) not in holders
        for said in ("sale", "reservation", "-2", "+3", str(order_id)):
            assert said in ledger, said
        assert (await one.get(f"/admin/products/{uuid4()}")).status == 404
        open_shop.gateway.is_down = False
        await open_shop.ended(holds)


async def _held(open_shop: Shop, units: int) -> None:
    async def are_held() -> bool:
        return bool(await open_shop.value("SELECT sum(held) = $1 FROM stock", units))

    await until(are_held)


async def test_a_product_goes_off_sale_and_on_it_with_a_reason(api: Client) -> None:
    async with api.database.transaction() as tx:
        (made,) = await products.create(tx, [products.Draft(HOSTILE, HOSTILE[:50], 1000, brand=HOSTILE)])
        assert isinstance(made, products.Product)
    path = f"/admin/products/{made.id}"
    async with browser(api, "admin") as one:
        assert (await one.post(f"{path}/deactivate", {"reason": " "})).status == 422
        assert (await one.post(f"{path}/deactivate", {"reason": "recalled"})).status == 303
        page = (await one.get(path)).text
        assert "inactive" in page
        assert "recalled" in page
        assert "<script>alert" not in page
        assert str(made.id) in (await one.get("/admin/products?status=inactive")).text
        assert str(made.id) not in (await one.get("/admin/products?status=active")).text
        reply = await api.get(f"/api/v1/products/{made.id}")
        assert reply.body["isActive"] is False
        assert (await one.post(f"{path}/activate", {"reason": "safe again"})).status == 303
        assert (await api.get(f"/api/v1/products/{made.id}")).body["isActive"] is True
        assert (await one.post(f"{path}/explode", {"reason": "x"})).status == 404
        assert (await one.post(f"/admin/products/{uuid4()}/activate", {"reason": "x"})).status == 404
        async with api.database.connection() as tx:
            done = await tx.fetch("SELECT act, reason FROM audit WHERE subject = $1 ORDER BY id", str(made.id))
        assert [tuple(row) for row in done] == [("product.deactivate", "recalled"), ("product.activate", "safe again")]
        assert "/deactivate" in (await one.get(path)).text


@pytest.mark.parametrize("role", ["operator", "viewer"])
async def test_what_is_sold_is_decided_by_admins_as_it_is_in_the_api(api: Client, role: Role) -> None:
    async with api.database.transaction() as tx:
        (made,) = await products.create(tx, [products.Draft("Coffee", "COFFEE-1KG", 1000)])
        assert isinstance(made, products.Product)
    path = f"/admin/products/{made.id}"
    async with browser(api, role) as one:
        assert (await one.post(f"{path}/deactivate", {"reason": "x"})).status == 403
        page = (await one.get(path)).text
        assert "COFFEE-1KG" in page
        assert "/deactivate" not in page
    assert (await api.get(f"/api/v1/products/{made.id}")).body["isActive"] is True


async def test_every_message_can_be_seen_before_anybody_gets_it(api: Client) -> None:
    async with browser(api, "viewer") as one:
        listed = (await one.get("/admin/mailbox/templates")).text
        paths = set(re.findall(r'href="(/admin/mailbox/templates/[^"]+)"', listed))
        assert paths == {
            f"/admin/mailbox/templates/{language}/{kind}" for language in ("en", "es") for kind in KINDS | ACCOUNT_KINDS
        }
        for path in paths:
            page = (await one.get(path)).text
            assert f'<iframe sandbox title="The message" src="{path}/body">' in page
            body = await one.get(f"{path}/body")
            assert body.headers["Content-Security-Policy"].startswith("sandbox; default-src 'none'")
            assert "Ana" in body.text
        spanish = (await one.get("/admin/mailbox/templates/es/order_confirmation")).text
        assert "Espresso machine" in spanish
        assert "2.649,97" in unescape(spanish)
        assert (await one.get("/admin/mailbox/templates/fr/order_confirmation")).status == 404
