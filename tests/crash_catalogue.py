"""What people and products go through on the way to each boundary."""

import asyncio
import re
from collections.abc import Sequence
from uuid import uuid4

import aiohttp

from crash_scene import Scene
from up import PATIENCE, eventually


async def new_customer(scene: Scene) -> None:
    body = {"email": f"{uuid4().hex}@example.com", "password": "correct horse battery"}
    reply = await scene.persist(scene.customer, "POST", "/auth/register", body | {"firstName": "A", "lastName": "B"})
    assert reply.status in {201, 409}
    assert (await scene.persist(scene.customer, "POST", "/auth/login", body)).status == 200


async def verifying(scene: Scene) -> None:
    """Somebody asks for another code, and verifies the address."""
    who = scene.customer
    assert (await scene.persist(who, "POST", "/auth/verify-email/resend")).status == 202

    async def is_verified() -> bool:
        for code in await _codes(scene, who.email, "Confirm your e-mail%"):
            await scene.persist(who, "POST", "/auth/verify-email", {"token": code})
        return bool((await scene.persist(who, "GET", "/auth/me")).body["emailVerified"])

    await eventually(is_verified)


async def recovering(scene: Scene) -> None:
    """Somebody forgets the password, chooses another one, and changes that."""
    email, chosen, changed = scene.customer.email, uuid4().hex, uuid4().hex
    assert (await scene.persist(scene.customer, "POST", "/auth/forgot-password", {"email": email})).status == 202
    tried: set[str] = set()  # each but once: wrong passwords are counted

    async def is_chosen() -> bool:
        for code in set(await _codes(scene, email, "Choose a new password%")) - tried:
            tried.add(code)
            body = {"token": code, "password": chosen}
            await scene.persist(scene.customer, "POST", "/auth/reset-password", body)
            if await _lets_in(scene, email, chosen):
                return True
        return False

    await eventually(is_chosen)
    body = {"currentPassword": chosen, "newPassword": changed}
    assert (await scene.persist(scene.customer, "POST", "/auth/change-password", body)).status in {200, 422}
    assert await _lets_in(scene, email, changed)


async def _codes(scene: Scene, email: str, subject: str) -> list[str]:
    rows = await scene.ask("SELECT body_text FROM mailbox WHERE recipient = $1 AND subject LIKE $2", email, subject)
    return [code for row in rows for code in re.findall(r"^[\w-]{43}$", row["body_text"], re.MULTILINE)]


async def _lets_in(scene: Scene, email: str, password: str) -> bool:
    body = {"email": email, "password": password}
    return (await scene.persist(scene.customer, "POST", "/auth/login", body)).status == 200


async def session(scene: Scene) -> None:
    body = {"email": scene.customer.email, "password": "correct horse battery"}
    signed_in = await scene.persist(scene.customer, "POST", "/auth/login", body)
    token = {"refreshToken": signed_in.body["refreshToken"]}
    assert (await scene.persist(scene.customer, "POST", "/auth/refresh", token)).status in {200, 401}
    assert (await scene.persist(scene.customer, "POST", "/auth/logout", token)).status == 204


async def users(scene: Scene) -> None:
    draft = {"email": f"{uuid4().hex}@example.com", "password": "correct horse battery", "firstName": "A",
             "lastName": "B", "role": "viewer"}  # fmt: skip
    assert (await scene.persist(scene.admin, "POST", "/users", draft)).status in {201, 409}
    (row,) = await scene.ask("SELECT id FROM accounts WHERE email = $1", draft["email"])
    path = f"/users/{row['id']}"
    assert (await scene.persist(scene.admin, "PATCH", path, {"role": "operator"})).status == 200
    assert (await scene.persist(scene.admin, "PATCH", f"{path}/deactivate")).status == 200
    assert (await scene.persist(scene.admin, "DELETE", path)).status in {204, 404}


async def catalogue(scene: Scene) -> None:
    draft = {"name": "Cup", "sku": uuid4().hex, "price": 100}
    made = await scene.persist(scene.admin, "POST", "/products", draft)
    assert made.status in {201, 409}
    (row,) = await scene.ask("SELECT id FROM products WHERE sku = $1", draft["sku"])
    path = f"/products/{row['id']}"
    for method, suffix, body in (
        ("PATCH", "", {"price": 200}), ("PATCH", "/deactivate", None), ("PATCH", "/activate", None),
    ):  # fmt: skip
        assert (await scene.persist(scene.admin, method, path + suffix, body)).status == 200
    opened = await scene.persist(scene.admin, "POST", "/inventory", {"productId": str(row["id"]), "initialStock": 5})
    assert opened.status in {201, 409}
    held = {"productId": str(row["id"]), "quantity": 1}
    assert (await scene.persist(scene.admin, "POST", "/inventory/reserve", held)).status == 201
    for one in await scene.ask(
        "SELECT id FROM reservations JOIN reservation_lines ON reservation_id = id WHERE product_id = $1", row["id"]
    ):
        let_go = await scene.persist(
            scene.admin, "PUT", "/inventory/release-reservation", {"reservationId": str(one["id"])}
        )
        assert let_go.status in {200, 409}
    await scene.persist(scene.admin, "POST", "/inventory/add-stock", {"productId": str(row["id"]), "quantity": 2})
    assert await scene.admin.stock(str(row["id"])) in {(7, 0, 7), (9, 0, 9)}, "added, once for each answer or crash"
    assert (await scene.persist(scene.admin, "DELETE", path)).status in {204, 404}


async def categories(scene: Scene) -> None:
    draft = {"name": "Cups", "slug": f"cups-{uuid4().hex}"}
    assert (await scene.persist(scene.admin, "POST", "/categories", draft)).status in {201, 409}
    (row,) = await scene.ask("SELECT id FROM categories WHERE slug = $1", draft["slug"])
    path = f"/categories/{row['id']}"
    assert (await scene.persist(scene.admin, "PUT", path, draft | {"name": "Mugs"})).status == 200
    assert (await scene.persist(scene.admin, "PATCH", f"{path}/deactivate")).status == 200
    assert (await scene.persist(scene.admin, "DELETE", path)).status in {204, 404}


async def importing(scene: Scene) -> None:
    """Stock of new products, by the API: once."""
    name = uuid4().hex
    skus = [f"{name}-{number}" for number in range(3)]
    await make(scene, skus)
    made = await send_file(scene, "stock", "".join(f'{{"sku":"{sku}","quantity":7,"mode":"add"}}\n' for sku in skus))
    await eventually(lambda: scene.ask("SELECT 1 FROM imports WHERE id = $1 AND ended_at IS NOT NULL", made))
    await check_stock(scene, skus)


async def importing_by_command(scene: Scene) -> None:
    name = uuid4().hex
    skus = [f"{name}-{number}" for number in range(3)]
    await make(scene, skus)
    file = scene.up.folder / f"{name}.csv"
    file.write_text("sku,quantity,mode\n" + "".join(f"{sku},7,add\n" for sku in skus))
    await scene.until_it_lives("import", "stock", str(file))
    await check_stock(scene, skus)


async def make(scene: Scene, skus: Sequence[str]) -> None:
    for sku in skus:
        made = await scene.persist(scene.admin, "POST", "/products", {"name": "x", "sku": sku, "price": 1})
        assert made.status in {201, 409}


async def check_stock(scene: Scene, skus: Sequence[str]) -> None:
    for sku in skus:
        rows = await scene.ask("SELECT on_hand FROM stock JOIN products ON id = product_id WHERE sku = $1", sku)
        assert [row["on_hand"] for row in rows] == [7]


async def cancelling_an_import(scene: Scene) -> None:
    made = await send_file(scene, "products", f'{{"sku":"{uuid4().hex}","name":"x","price":1}}\n')
    assert (await scene.persist(scene.admin, "POST", f"/imports/{made}/cancel")).status in {200, 409}


async def send_file(scene: Scene, kind: str, lines: str) -> str:
    """Until it is accepted; the import's id."""
    headers = {**scene.admin.headers, "Content-Type": "application/x-ndjson"}
    async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as session:
        while True:
            try:
                url = f"{scene.up.api}/api/v1/imports?kind={kind}"
                async with session.post(url, data=lines.encode(), headers=headers) as reply:
                    if reply.status == 202:
                        return str((await reply.json())["id"])
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)
