"""An order's story reads causally, and the console and the command line tell the same one."""

import asyncio
import os
import re
import sys
from html import unescape
from typing import Any
from uuid import UUID, uuid4

import msgspec
from test_console_pages import scene

from comanda.accounts import accounts
from comanda.accounts.accounts import Account, Registration
from comanda.checkout import story
from comanda.orders import notes
from comanda.orders.notes import Draft
from shop import Shop, until


async def explained(database_url: str, redis_url: str, order_id: UUID) -> list[dict[str, Any]]:
    """The lines that `comanda explain` prints."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("COMANDA_")}
    environment = {**known, "COMANDA_DATABASE_URL": database_url, "COMANDA_REDIS_URL": redis_url}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "comanda", "explain", str(order_id), "--json", env=environment,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0
    return [row for line in out.splitlines() if "source" in (row := msgspec.json.decode(line))]


async def sent(open_shop: Shop, count: int) -> None:
    async def are_sent() -> bool:
        ended = "SELECT count(*) FROM sagas WHERE kind = 'notification' AND ended_at IS NOT NULL"
        return bool(await open_shop.value(ended) == count)

    await until(are_sent)


async def told(open_shop: Shop, order_id: UUID) -> list[str]:
    async with open_shop.assembly.database.connection() as tx:
        found = await story.tell(tx, order_id)
    assert found is not None
    return [line.what for line in found.lines]


def stand_in_this_order(lines: list[str], *wanted: str) -> None:
    places = [lines.index(one) for one in wanted]
    assert places == sorted(places), [lines[place] for place in sorted(places)]


async def test_what_a_step_publishes_stands_after_its_attempt(database_url: str, redis_url: str) -> None:
    async with scene(database_url, redis_url) as (_, open_shop, _):
        coffee = (await open_shop.sells(coffee=5))["coffee"]
        paid = await open_shop.order({coffee: 1}, "pm_success")
        declined = await open_shop.order({coffee: 1}, "pm_decline_INSUFFICIENT_FUNDS")
        none_left = await open_shop.order({coffee: 50}, "pm_success")
        await open_shop.ended(paid, declined, none_left)
        await sent(open_shop, await open_shop.value("SELECT count(*) FROM notifications"))
        lines = await told(open_shop, paid)
        stand_in_this_order(
            lines, "order accepted", "— → PENDING", "OrderCreated", "verify_stock, attempt 1", "PENDING → PROCESSING",
            "reserve_inventory, attempt 1", "InventoryReserved", "process_payment, attempt 1", "PaymentProcessed",
            "confirm_reservation, attempt 1", "ReservationConfirmed", "send_confirmation, attempt 1",
            "complete_order, attempt 1", "PAYMENT_PENDING → CONFIRMED", "OrderConfirmed", "deliver, attempt 1",
        )  # fmt: skip
        stand_in_this_order(
            lines, "InventoryReserved", "PROCESSING → PAYMENT_PENDING", "PaymentInitiated", "process_payment, attempt 1"
        )
        assert lines[lines.index("deliver, attempt 1") + 1].startswith("Tu pedido"), "the mail that it sent"
        stand_in_this_order(
            await told(open_shop, declined), "process_payment, attempt 1", "PaymentFailed", "OrderFailed",
            "reserve_inventory (undoing), attempt 1", "ReservationReleased", "verify_stock (undoing), attempt 1",
            "OrderCancelled",
        )  # fmt: skip
        lines = await told(open_shop, none_left)
        assert lines.index("OrderCancelled") > max(n for n, line in enumerate(lines) if line.startswith("verify_stock"))


async def test_a_note_is_told_with_the_address_of_who_wrote_it(database_url: str, redis_url: str) -> None:
    async with scene(database_url, redis_url) as (_, open_shop, _):
        coffee = (await open_shop.sells(coffee=5))["coffee"]
        order_id = await open_shop.order({coffee: 1}, "pm_success")
        async with open_shop.assembly.database.transaction() as tx:
            (known,) = await accounts.register(tx, [Registration("rosa@example.com", "none", "Rosa", "Ruiz")])
            assert isinstance(known, Account)
            nobody = uuid4()
            drafts = [Draft(order_id, "rings twice", is_public=False, actor=one) for one in (known.id, nobody)]
            await notes.write(tx, drafts)
            found = await story.tell(tx, order_id)
        assert found is not None
        written = [(line.what, line.who) for line in found.lines if line.source == "note"]
        assert written == [("rings twice", "rosa@example.com"), ("rings twice", str(nobody))]


async def test_the_command_line_and_the_page_tell_the_same_lines_in_the_same_order(
    database_url: str, redis_url: str
) -> None:
    async with scene(database_url, redis_url) as (_, open_shop, one):
        coffee = (await open_shop.sells(coffee=5))["coffee"]
        order_id = await open_shop.order({coffee: 1}, "pm_flaky_1")
        await open_shop.ended(order_id)
        await sent(open_shop, 1)
        lines = await explained(database_url, redis_url, order_id)
        page = unescape((await one.get(f"/admin/orders/{order_id}")).text)
        shown = re.findall(
            r'<li id="line-\d+".*?<span class="source">(.*?)</span>\s*<span class="text">(.*?)</span>\s*<span',
            page,
            re.DOTALL,
        )
        assert len(lines) > 10
        assert [source for source, _ in shown] == [line["source"] for line in lines]
        for line, (_, text) in zip(lines, shown, strict=True):
            for said in (line["what"], line["how"], line["said"] or "", line["about"]):
                assert said in text, (line, text)
